package plan

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"

	"github.com/rbd-rescue/rbd-rescue/api/v1alpha1"
	"github.com/rbd-rescue/rbd-rescue/volume"
)

// demand tells whether Kubernetes, or a person, wants a held volume elsewhere: a person made the NodeFence, or all pods that
// use it on the failed node are to go (on a silent node: Terminating; else: stuck), or they are gone and another pod waits
// for it. Otherwise it says what is missing.
//
// Pods on the node that are finished do not count, as the attach/detach controller does not count them.
func demand(s Snapshot, v Volume) (wanted bool, missing string) {
	if s.Fence != nil && !s.Fence.Spec.Automatic && s.Fence.Active() {
		return true, ""
	}
	waiting := false
	left := 0
	for _, pod := range v.Users {
		switch {
		case volume.Finished(pod):
		case pod.Spec.NodeName != s.NodeName:
			waiting = waiting || waitsFor(v, pod)
		case !volume.Terminating(pod):
			return false, fmt.Sprintf("pod %s/%s uses it on node %s and is not being deleted", pod.Namespace, pod.Name, s.NodeName)
		case !overdue(s, pod):
			return false, fmt.Sprintf("the kubelet of node %s still has time to end pod %s/%s", s.NodeName, pod.Namespace, pod.Name)
		default:
			left++
		}
	}
	if left > 0 || waiting {
		return true, ""
	}
	return false, "no pod asks for it"
}

// waitsFor tells whether a pod that is not on the failed node waits for the volume. One that runs does so by right where
// the volume is ReadWriteMany.
func waitsFor(v Volume, pod *corev1.Pod) bool {
	return !volume.Terminating(pod) && (!v.Shared || pod.Status.Phase == corev1.PodPending)
}

// usersOn are the unfinished pods that use the volume on a node.
func usersOn(node string, v Volume) []*corev1.Pod {
	var users []*corev1.Pod
	for _, pod := range v.Users {
		if pod.Spec.NodeName == node && !volume.Finished(pod) {
			users = append(users, pod)
		}
	}
	return users
}

// HeldBy tells whether the node still holds the volume as Kubernetes sees it: attached, in use, or used by a pod there. One that
// Kubernetes lets several nodes have is held as long as its NodeFence lists it and has not cut the boot off from it: when
// Kubernetes has lost its last trace, the boot may still write (S1). So is one that Kubernetes has moved from a node that is gone.
func HeldBy(s Snapshot, v Volume) bool {
	return attachmentTo(s.NodeName, v) != nil || inUse(s.Node, v) || len(usersOn(s.NodeName, v)) > 0 ||
		(v.Shared || s.Node == nil && moved(s, v)) && listedAsHeld(s.Fence, v)
}

func listedAsHeld(nf *v1alpha1.NodeFence, v Volume) bool {
	if nf == nil || !nf.Active() {
		return false
	}
	entry, listed := entryOf(nf, v.Name)
	return listed && (entry.Phase == v1alpha1.VolumeHeld || entry.Phase == v1alpha1.VolumeRefused)
}

// wantedElsewhere tells whether the volume is wanted, and may be moved as far as its namespace goes.
func wantedElsewhere(s Snapshot, v Volume) bool {
	wanted, _ := demand(s, v)
	return wanted && optedIn(s, v)
}

// optedIn tells whether the volume's namespace lets rbd-rescue act (S6).
func optedIn(s Snapshot, v Volume) bool {
	return s.Policies[v.Claim.Namespace].Mode == v1alpha1.ModeRescue
}

// WaitsFor says what a held volume waits for while the node has no NodeFence; empty if it is wanted elsewhere and may be moved.
func WaitsFor(s Snapshot, v Volume) string {
	if !optedIn(s, v) {
		return fmt.Sprintf("namespace %s is not in mode rescue", v.Claim.Namespace)
	}
	_, missing := demand(s, v)
	return missing
}
