package manifests

import (
	"errors"
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/rbd-rescue/rbd-rescue/ceph"
	"github.com/rbd-rescue/rbd-rescue/volume"
)

// Target says what the objects are built again as. What is empty stays as it was.
type Target struct {
	// Image that the volume is to be: another one than before is a clone of it.
	Image ceph.Image
	// Size of that image in bytes; 0 if it is not known.
	Size uint64
	// Volume, Namespace and Claim are the new names.
	Volume, Namespace, Claim string
}

// Image is the one that the PersistentVolume names: not the one that carries the manifests where that is a clone, which librbd
// gives its parent's metadata.
func (m Manifests) Image() (ceph.Image, error) {
	v, err := volume.Parse(m.PersistentVolume)
	return ceph.Image{Pool: v.Pool, Namespace: v.Namespace, Name: v.Image}, err
}

// ClusterID is ceph-csi's name of the Ceph cluster.
func (m Manifests) ClusterID() string {
	v, _ := volume.Parse(m.PersistentVolume) // it is the first thing that is read
	return v.ClusterID
}

// Rebuild gives the two objects, bound to each other by name: neither has a UID yet. The PersistentVolume is to be retained,
// whatever its policy was: that a claim is deleted must not take the image that was just saved.
func (m Manifests) Rebuild(target Target) (*corev1.PersistentVolume, *corev1.PersistentVolumeClaim, error) {
	pv, claim := cleanVolume(m.PersistentVolume), cleanClaim(m.Claim) // whoever wrote the metadata
	before, err := m.Image()
	if err != nil {
		return nil, nil, fmt.Errorf("rebuilding PersistentVolume %s: %w", pv.Name, err)
	}
	if target.Image != (ceph.Image{}) && target.Image != before {
		if err := pointAt(pv, target.Image); err != nil {
			return nil, nil, err
		}
		if target.Volume == "" {
			target.Volume = volumeName(target.Image)
		}
	}
	rename(&pv.Name, target.Volume)
	rename(&claim.Namespace, target.Namespace)
	rename(&claim.Name, target.Claim)
	if err := checkNames(pv, claim); err != nil {
		return nil, nil, err
	}
	pv.Spec.PersistentVolumeReclaimPolicy = corev1.PersistentVolumeReclaimRetain
	pv.Spec.ClaimRef = claimRef(claim.Namespace, claim.Name)
	claim.Spec.VolumeName = pv.Name
	fit(pv, claim, target.Size)
	return pv, claim, nil
}

func rename(name *string, to string) {
	if to != "" {
		*name = to
	}
}

func checkNames(pv *corev1.PersistentVolume, claim *corev1.PersistentVolumeClaim) error {
	var problems []error
	for _, name := range []struct{ kind, text string }{{"PersistentVolume", pv.Name}, {"claim", claim.Name}} {
		if wrong := validation.IsDNS1123Subdomain(name.text); len(wrong) > 0 {
			problems = append(problems, fmt.Errorf("%q is no name of a %s: %s", name.text, name.kind, strings.Join(wrong, "; ")))
		}
	}
	if wrong := validation.IsDNS1123Label(claim.Namespace); len(wrong) > 0 {
		problems = append(problems, fmt.Errorf("%q is no name of a namespace: %s", claim.Namespace, strings.Join(wrong, "; ")))
	}
	return errors.Join(problems...)
}

// volumeName of the PersistentVolume of a clone.
func volumeName(image ceph.Image) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= '0' && r <= '9', r == '-', r == '.':
			return r
		case r >= 'A' && r <= 'Z':
			return r - 'A' + 'a'
		default:
			return '-'
		}
	}, "restored-"+image.Name)
}

// pointAt makes the PersistentVolume that of another image of the same cluster. ceph-csi finds an image that it has not made by the
// handle of a static volume (ceph-csi docs/static-pvc.md); imageName is there for whoever reads the volume.
func pointAt(pv *corev1.PersistentVolume, image ceph.Image) error {
	delete(pv.Annotations, volume.AnnotationMigrated)
	if rbd := pv.Spec.RBD; rbd != nil {
		if image.Namespace != "" {
			return fmt.Errorf("image %s is in a namespace of RADOS, which PersistentVolume %s, of Kubernetes' own old driver, cannot name", image, pv.Name)
		}
		rbd.RBDPool, rbd.RBDImage = image.Pool, image.Name
		return nil
	}
	csi := pv.Spec.CSI
	csi.VolumeHandle = image.Name
	for _, key := range []string{"journalPool", "storage.kubernetes.io/csiProvisionerIdentity", "radosNamespace"} {
		delete(csi.VolumeAttributes, key)
	}
	csi.VolumeAttributes["staticVolume"], csi.VolumeAttributes["pool"], csi.VolumeAttributes["imageName"] = "true", image.Pool, image.Name
	if image.Namespace != "" {
		csi.VolumeAttributes["radosNamespace"] = image.Namespace
	}
	delete(pv.Annotations, "pv.kubernetes.io/provisioned-by") // its provisioner knows no such volume
	return nil
}

// fit makes a volume no larger than its image: a snapshot may be older than an expansion.
func fit(pv *corev1.PersistentVolume, claim *corev1.PersistentVolumeClaim, size uint64) {
	const storage = corev1.ResourceStorage
	image := resource.NewQuantity(int64(size), resource.BinarySI) //nolint:gosec // an image of 8 EiB can't be
	capacity := pv.Spec.Capacity[storage]
	if size == 0 || image.Cmp(capacity) >= 0 {
		return
	}
	pv.Spec.Capacity[storage] = *image
	if request := claim.Spec.Resources.Requests[storage]; image.Cmp(request) < 0 {
		claim.Spec.Resources.Requests[storage] = *image
	}
}
