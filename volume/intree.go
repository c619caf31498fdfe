package volume

import (
	"crypto/md5" //nolint:gosec // a name that ceph-csi has chosen, no secret
	"encoding/hex"
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// AnnotationMigrated is on an in-tree PersistentVolume that a CSI driver serves.
const AnnotationMigrated = "pv.kubernetes.io/migrated-to"

// readInTree reads a PersistentVolume of Kubernetes' own RBD driver (until 1.30), be it migrated to ceph-csi or not. Such a
// volume names monitors; its clusterID is what ceph-csi's migration makes of them: the MD5 sum of the list with commas
// (facts/field.md §3, ceph-csi docs/design/proposals/intree-migrate.md).
func (v *Volume) readInTree(pv *corev1.PersistentVolume) error {
	rbd := pv.Spec.RBD
	v.Image, v.Pool = rbd.RBDImage, rbd.RBDPool
	if v.Pool == "" {
		v.Pool = "rbd"
	}
	sum := md5.Sum([]byte(strings.Join(rbd.CephMonitors, ","))) //nolint:gosec // as above
	v.ClusterID = hex.EncodeToString(sum[:])
	v.UniqueName = "kubernetes.io/rbd/" + v.Pool + ":" + v.Image
	if driver := pv.Annotations[AnnotationMigrated]; driver != "" {
		image := strings.TrimPrefix(v.Image, "kubernetes-dynamic-pvc-")
		v.UniqueName = csiUniqueName(driver, "mig_mons-"+v.ClusterID+"_image-"+image+"_"+hex.EncodeToString([]byte(v.Pool)))
	}
	if v.Image == "" || len(rbd.CephMonitors) == 0 {
		return fmt.Errorf("PersistentVolume %s has no spec.rbd.image or no spec.rbd.monitors: its image cannot be told", pv.Name)
	}
	return nil
}
