package volume

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
)

// driverSuffix ends the name of every ceph-csi RBD driver: Rook and the ceph-csi operator put their namespace and a dot
// before it (facts/field.md §3).
const driverSuffix = "rbd.csi.ceph.com"

// Volume is a PersistentVolume that is an RBD image.
type Volume struct {
	// Name of the PersistentVolume.
	Name string
	// Claim that it is bound to; zero while it is not bound.
	Claim types.NamespacedName
	// ClaimUID is the UID of that claim.
	ClaimUID types.UID
	// ClaimGone tells whether that claim is gone: a new one of its name is another volume's.
	ClaimGone bool
	// UniqueName is how node.status.volumesInUse and volumesAttached call it.
	UniqueName string
	// ClusterID is ceph-csi's name of the Ceph cluster.
	ClusterID string
	// Pool, Namespace (of RADOS, often empty) and Image name the image. Where its data is, Ceph says.
	Pool, Namespace, Image string
	// Exclusive tells whether Kubernetes itself keeps a second node from attaching it: ReadWriteOnce and ReadWriteOncePod.
	Exclusive bool
	// Shared tells whether Kubernetes lets several nodes have it at once and write to it: ReadWriteMany, which ceph-csi has for
	// block volumes alone, or a driver that needs no attachment. Only the gate keeps a new pod from it while a failed node may
	// still write.
	Shared bool
	// Userspace tells whether its client is, or may be, a process (rbd-nbd). ceph-csi's node plugin starts that again by itself,
	// as a new Ceph client under the same pod (ceph-csi docs/design/proposals/rbd-volume-healer.md).
	Userspace bool
}

// NeedsNoAttachment makes it a volume of a driver whose CSIDriver says attachRequired=false: there is no VolumeAttachment,
// and so nothing that keeps a second node from it.
func (v *Volume) NeedsNoAttachment() { v.Exclusive, v.Shared = false, true }

// ImageName is the image as rbd's command line calls it: pool/image or pool/namespace/image.
func (v Volume) ImageName() string {
	if v.Namespace == "" {
		return v.Pool + "/" + v.Image
	}
	return v.Pool + "/" + v.Namespace + "/" + v.Image
}

// IsRBD tells whether a ceph-csi RBD driver, or Kubernetes' own old one, serves the PersistentVolume.
func IsRBD(pv *corev1.PersistentVolume) bool {
	return pv.Spec.RBD != nil || pv.Spec.CSI != nil && IsRBDDriver(pv.Spec.CSI.Driver)
}

// IsRBDDriver tells whether a CSI driver, or the attacher of a VolumeAttachment, is ceph-csi's for RBD.
func IsRBDDriver(name string) bool {
	return name == driverSuffix || strings.HasSuffix(name, "."+driverSuffix)
}

// Parse reads a PersistentVolume for which IsRBD holds. An error means that its form is not known: such a volume is
// refused, never guessed. What it can tell without knowing the form (name, claim, unique name) is set all the same.
func Parse(pv *corev1.PersistentVolume) (Volume, error) {
	v := Volume{
		Name: pv.Name, ClaimGone: pv.Status.Phase == corev1.VolumeReleased,
		Exclusive: exclusive(pv), Shared: slices.Contains(pv.Spec.AccessModes, corev1.ReadWriteMany),
	}
	if ref := pv.Spec.ClaimRef; ref != nil {
		v.Claim = types.NamespacedName{Namespace: ref.Namespace, Name: ref.Name}
		v.ClaimUID = ref.UID
	}
	read := v.readCSI
	if pv.Spec.RBD != nil {
		read = v.readInTree
	}
	err := read(pv)
	return v, err
}

func (v *Volume) readCSI(pv *corev1.PersistentVolume) error {
	csi := pv.Spec.CSI
	v.UniqueName = csiUniqueName(csi.Driver, csi.VolumeHandle)
	v.ClusterID, v.Pool = csi.VolumeAttributes["clusterID"], csi.VolumeAttributes["pool"]
	v.Namespace, v.Image = csi.VolumeAttributes["radosNamespace"], csi.VolumeAttributes["imageName"]
	v.Userspace = csi.VolumeAttributes["mounter"] == "rbd-nbd" || csi.VolumeAttributes["tryOtherMounters"] == "true"
	// A static volume's handle is the image's name (ceph-csi docs/static-pvc.md).
	if csi.VolumeAttributes["staticVolume"] == "true" && v.Image == "" {
		v.Image = csi.VolumeHandle
	}
	for _, attribute := range []struct{ name, value string }{
		{"clusterID", v.ClusterID}, {"pool", v.Pool}, {"imageName", v.Image},
	} {
		if attribute.value == "" {
			return fmt.Errorf("PersistentVolume %s has no volumeAttributes.%s: its image cannot be told", pv.Name, attribute.name)
		}
	}
	return nil
}

func csiUniqueName(driver, handle string) string { return "kubernetes.io/csi/" + driver + "^" + handle }

// exclusive: the attach/detach controller keeps two nodes apart only if no access mode allows many (facts/kubernetes.md §1.3).
func exclusive(pv *corev1.PersistentVolume) bool {
	for _, mode := range pv.Spec.AccessModes {
		if mode == corev1.ReadWriteMany || mode == corev1.ReadOnlyMany {
			return false
		}
	}
	return len(pv.Spec.AccessModes) > 0
}

// ReadOnlyModes tells whether the PersistentVolume can only be read, so that two nodes cannot write to it.
func ReadOnlyModes(pv *corev1.PersistentVolume) bool {
	for _, mode := range pv.Spec.AccessModes {
		if mode != corev1.ReadOnlyMany {
			return false
		}
	}
	return len(pv.Spec.AccessModes) > 0
}
