package plan

import (
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"

	"github.com/rbd-rescue/rbd-rescue/api/v1alpha1"
	"github.com/rbd-rescue/rbd-rescue/volume"
)

// attachmentPatience is how long the attach/detach controller may take to detach a released volume before its
// VolumeAttachment is deleted for it: 0.1–0.8 s for one, about 2 volumes a second for many (facts/kubernetes.md §1 row p).
// The attacher has as long again to let it go.
const attachmentPatience = time.Minute

// release gives the steps that take volumes from the failed node. It is the only place that makes them, it takes the
// proof, and it leaves out every volume that the proof does not cover (S1).
//
// Each volume leaves volumesInUse and its stuck pods go; a pod goes only if all volumes that it uses go. A
// VolumeAttachment is deleted only when no pod is left that would have it made again (facts/kubernetes.md §1 row l).
func release(proof verified, s Snapshot, volumes []v1alpha1.FencedVolume) []Step {
	var steps []Step
	released := map[string]bool{}
	clear := ClearVolumesInUse{}
	for _, entry := range volumes {
		v, ok := s.volume(entry.PersistentVolume)
		if !ok || entry.Phase != v1alpha1.VolumeReleasing || !proof.covers(v, entry.Clients) || HeldAnew(s, v) || !optedIn(s, v) {
			continue
		}
		released[v.Name] = true
		if mayHaveAnother(s, v, entry) {
			continue // it is judged anew if Kubernetes does not detach it by itself
		}
		users := len(usersOn(s.NodeName, v))
		if inUse(s.Node, v) && (silent(s) || users == 0) { // a kubelet that answers ends its pods first
			clear.UniqueNames = append(clear.UniqueNames, v.UniqueName)
		}
		if va := attachmentTo(s.NodeName, v); va != nil && users == 0 {
			steps = append(steps, detach(s, va, entry)...)
		}
	}
	if len(clear.UniqueNames) > 0 {
		clear.Node, clear.UID, clear.BootID = s.Node.Name, s.Node.UID, s.Fence.Spec.BootID
		steps = append(steps, clear)
	}
	for _, pod := range s.Pods {
		asked := stateOf(s) == nodeAsked && !volume.Terminating(pod)
		if (overdue(s, pod) || asked) && allReleased(s, pod, released) {
			steps = append(steps, DeletePod{
				Namespace: pod.Namespace, Name: pod.Name, UID: pod.UID, ResourceVersion: pod.ResourceVersion,
				Graceful: asked, Done: podDeletedEvents(s, pod, asked),
			})
		}
	}
	return steps
}

// detach takes away an attachment that stays: of a node that is gone, which the attach/detach controller would keep for six
// minutes (facts/kubernetes.md §1 row m), or where that controller or the attacher is down. The fence makes that safe.
func detach(s Snapshot, va *storagev1.VolumeAttachment, entry v1alpha1.FencedVolume) []Step {
	waited := entry.ReleasingAt != nil && s.Now.Sub(entry.ReleasingAt.Time) > attachmentPatience
	switch {
	case va.DeletionTimestamp == nil && (waited || s.Node == nil):
		return []Step{DeleteAttachment{Name: va.Name, UID: va.UID}}
	case va.DeletionTimestamp != nil && len(va.Finalizers) > 0 && s.Now.Sub(va.DeletionTimestamp.Time) > attachmentPatience:
		return []Step{FreeAttachment{Name: va.Name, UID: va.UID}}
	default:
		return nil
	}
}

// allReleased tells whether a pod uses at least one released volume, and no held volume that is not.
func allReleased(s Snapshot, pod *corev1.Pod, released map[string]bool) bool {
	volumes := heldVolumes(s, pod)
	for _, v := range volumes {
		if !released[v.Name] {
			return false
		}
	}
	return len(volumes) > 0 && podRefusal(s, pod) == nil
}

func podDeletedEvents(s Snapshot, pod *corev1.Pod, graceful bool) []Event {
	reason := v1alpha1.ReasonPodForceDeleted
	note := fmt.Sprintf("Force-deleted pod %s/%s, which was stuck on fenced node %s; Ceph refuses its writes, so its replacement may start elsewhere.",
		pod.Namespace, pod.Name, s.NodeName)
	if graceful {
		reason = v1alpha1.ReasonPodDeleted
		note = fmt.Sprintf("Deleted pod %s/%s on fenced node %s: Ceph refuses its writes. If the kubelet does not end it, it is force-deleted %s after its grace period.",
			pod.Namespace, pod.Name, s.NodeName, s.Settings.StuckAfter)
	}
	return both(PodReference(pod), fenceReference(s.Fence), Event{Type: normal, Reason: reason, Action: "DeletePod", Note: note})
}

func (s Snapshot) volume(name string) (Volume, bool) {
	for _, v := range s.Volumes {
		if v.Name == name {
			return v, true
		}
	}
	return Volume{}, false
}
