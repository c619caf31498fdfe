package volume

import (
	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
)

// Attached tells whether the VolumeAttachment attaches a PersistentVolume to its node, and which. One that is being
// deleted still holds the volume until it is gone.
func Attached(va *storagev1.VolumeAttachment) (persistentVolume string, attached bool) {
	source := va.Spec.Source.PersistentVolumeName
	if source == nil {
		return "", false
	}
	return *source, va.Status.Attached
}

// Held are the RBD volumes among the PersistentVolumes that the VolumeAttachments attach to a failed node. A volume of a
// form that Parse does not know is held as well; one whose claim is gone is not: a new claim of that name is another
// volume. lookup returns nil for a PersistentVolume that is gone.
func Held(attachments []storagev1.VolumeAttachment, lookup func(name string) *corev1.PersistentVolume) []Volume {
	var held []Volume
	for i := range attachments {
		name, attached := Attached(&attachments[i])
		if !attached {
			continue
		}
		pv := lookup(name)
		if pv == nil || !IsRBD(pv) || pv.Status.Phase == corev1.VolumeReleased {
			continue
		}
		v, _ := Parse(pv) // the unknown form is told when it is to be fenced; being held does not depend on it
		held = append(held, v)
	}
	return held
}
