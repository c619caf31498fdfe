package doctor

import (
	"fmt"
	"maps"
	"slices"

	"github.com/rbd-rescue/rbd-rescue/volume"
)

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

// shapes: the forms of volumes and drivers that are refused, or need care.
func shapes(f Inside, r *report) string {
	for _, d := range f.Drivers {
		if volume.IsRBDDriver(d.Name) && !volume.AttachmentRequired(&d) {
			r.warn("Set attachRequired: true, unless you know why not (ceph-csi's default). Otherwise see docs/safety.md, \"What is not protected\".",
				"CSIDriver %s says attachRequired=false: nothing but rbd-rescue's gate keeps a second node from a volume, and only from pods that are created after the failure.", d.Name)
		}
	}
	var shared, userspace, inTree []string
	for _, v := range f.Volumes {
		switch {
		case v.FormError != nil:
			r.fail(fmt.Sprintf("Give PersistentVolume %s the volumeAttributes of ceph-csi's static volumes (clusterID, pool, staticVolume).", v.Name),
				"%v; it would be refused (UnknownShape).", v.FormError)
		case v.ReadOnly:
		case !v.Exclusive && !v.Shared:
			shared = append(shared, v.Name)
		}
		if v.Userspace {
			userspace = append(userspace, v.Name)
		}
		if v.Driver == "" {
			inTree = append(inTree, v.Name)
		}
	}
	if len(shared) > 0 {
		r.warn("Give these PersistentVolumes one access mode: ReadWriteOnce, or ReadWriteMany for block devices.",
			"These PersistentVolumes may be attached to several nodes and are not ReadWriteMany: %s. They would be refused (SharedVolume).", some(shared))
	}
	if len(userspace) > 0 {
		r.warn("Where that is not wanted, use the kernel's client (no mounter: rbd-nbd in the StorageClass).",
			"These PersistentVolumes are, or may be, mapped by rbd-nbd: %s. Their client may change at any time, so that the node's whole host is fenced, or the volume refused where that may not be.", some(userspace))
	}
	if len(inTree) > 0 {
		r.warn("Migrate them to ceph-csi: Kubernetes 1.31 has no in-tree RBD any more.",
			"These PersistentVolumes are of Kubernetes' own old RBD driver: %s.", some(inTree))
	}
	return fmt.Sprintf("Every RBD PersistentVolume has a form that can be released (%d).", len(f.Volumes))
}
