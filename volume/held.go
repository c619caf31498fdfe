package volume

import (
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

// AttachmentRequired tells whether the volumes of a driver are attached: what the API takes a CSIDriver that does not say
// otherwise for.
func AttachmentRequired(driver *storagev1.CSIDriver) bool {
	return driver.Spec.AttachRequired == nil || *driver.Spec.AttachRequired
}
