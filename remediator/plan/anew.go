package plan

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/rbd-rescue/rbd-rescue/api/v1alpha1"
	"github.com/rbd-rescue/rbd-rescue/ceph"
	"github.com/rbd-rescue/rbd-rescue/volume"
)

// HeldAnew tells whether the boot that is fenced has got a volume again since its clients were settled: it came back, let its
// old mappings go, and maps images through a new client (facts/krbd.md), for a pod that tolerates the taint. What was settled
// and proven says nothing of that client, so the volume is judged anew (S1).
//
// A cache that still shows the old attachment or pod makes it say so wrongly. That does no harm: clients are collected as for
// any held volume, so that another node's watcher is refused (S2), and what is released again names objects by UID.
func HeldAnew(s Snapshot, v Volume) bool {
	entry, phase := fencedVolume(s.Fence, v)
	switch phase {
	case v1alpha1.VolumeReleased, v1alpha1.VolumeRecovered:
		return attachmentTo(s.NodeName, v) != nil || len(usersOn(s.NodeName, v)) > 0
	case v1alpha1.VolumeReleasing: // what was there is still to go: what was not tells
		return hasMoreThan(s, v, entry) ||
			mayHaveAnother(s, v, entry) && entry.ReleasingAt != nil && s.Now.Sub(entry.ReleasingAt.Time) > attachmentPatience
	default:
		return false
	}
}

func fencedVolume(nf *v1alpha1.NodeFence, v Volume) (v1alpha1.FencedVolume, v1alpha1.FencedVolumePhase) {
	if nf == nil {
		return v1alpha1.FencedVolume{}, ""
	}
	entry, _ := entryOf(nf, v.Name)
	return entry, entry.Phase
}

// hasMoreThan tells whether the node has a pod with the volume, or an attachment, that was not there when its clients were settled.
func hasMoreThan(s Snapshot, v Volume, entry v1alpha1.FencedVolume) bool {
	va := attachmentTo(s.NodeName, v)
	return va != nil && va.UID != entry.Attachment || slices.ContainsFunc(usersOn(s.NodeName, v), func(pod *corev1.Pod) bool {
		return !slices.Contains(entry.Pods, pod.UID)
	})
}

// mayHaveAnother tells whether the node may have a client for the volume that nobody has seen: no pod is left there to tell, and it
// may have come back since its clients were settled, for another pod, which is gone. It can't where the whole host is cut off, and
// while its Ready condition stands as it did then, not Ready.
func mayHaveAnother(s Snapshot, v Volume, entry v1alpha1.FencedVolume) bool {
	if len(usersOn(s.NodeName, v)) > 0 || attachmentTo(s.NodeName, v) == nil && !inUse(s.Node, v) {
		return false
	}
	if slices.ContainsFunc(entry.Clients, func(text string) bool {
		address, err := ceph.ParseAddress(text)
		return err == nil && isHost(address)
	}) {
		return false
	}
	return s.Node != nil && volume.Ready(s.Node) || !readyTurned(s.Node).Equal(entry.ReadyTurnedAt)
}

// readyTurned is when the node's Ready condition turned last; nil for a node that is gone.
func readyTurned(node *corev1.Node) *metav1.Time {
	if node == nil {
		return nil
	}
	for _, c := range node.Status.Conditions {
		if c.Type == corev1.NodeReady && !c.LastTransitionTime.IsZero() {
			return &c.LastTransitionTime
		}
	}
	return nil
}
