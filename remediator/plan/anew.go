package plan

import (
	"slices"

	corev1 "k8s.io/api/core/v1"

	"github.com/rbd-rescue/rbd-rescue/api/v1alpha1"
)

// HeldAnew tells whether the boot that is fenced has got a volume again since its clients were settled: it came back, let its
// old mappings go, and maps images through a new client (facts/krbd.md), for a pod that tolerates the taint. What was settled
// and proven says nothing of that client, so the volume is judged anew (S1).
//
// A cache that still shows the old attachment or pod makes it say so wrongly. That does no harm: clients are collected as for
// any held volume, so that another node's watcher is refused (S2), and what is released again names objects by UID.
func HeldAnew(s Snapshot, v Volume) bool {
	if s.Fence == nil {
		return false
	}
	at := slices.IndexFunc(s.Fence.Status.Volumes, func(e v1alpha1.FencedVolume) bool { return e.PersistentVolume == v.Name })
	if at < 0 {
		return false
	}
	switch entry := s.Fence.Status.Volumes[at]; entry.Phase {
	case v1alpha1.VolumeReleased, v1alpha1.VolumeRecovered:
		return attachmentTo(s.NodeName, v) != nil || len(usersOn(s.NodeName, v)) > 0
	case v1alpha1.VolumeReleasing: // what was there is still to go: what was not tells
		va := attachmentTo(s.NodeName, v)
		return va != nil && va.UID != entry.Attachment || slices.ContainsFunc(usersOn(s.NodeName, v), func(pod *corev1.Pod) bool {
			return !slices.Contains(entry.Pods, pod.UID)
		})
	default:
		return false
	}
}
