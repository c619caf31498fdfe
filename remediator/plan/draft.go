package plan

import (
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/rbd-rescue/rbd-rescue/api/v1alpha1"
	"github.com/rbd-rescue/rbd-rescue/volume"
)

const (
	normal  = corev1.EventTypeNormal
	warning = corev1.EventTypeWarning
)

// immediately asks for the next look at once: what was just done in Ceph sends no watch event.
const immediately = time.Millisecond

// draft is a decision in the making: the status as it will be, and what comes with it.
type draft struct {
	s      Snapshot
	status v1alpha1.NodeFenceStatus
	steps  []Step
	events []Event
	wait   time.Duration
	// from says where the addresses of this look are known from.
	from map[clientKey]string
	// without are the volumes that are released in this look without a safety snapshot.
	without []v1alpha1.FencedVolume
}

func newDraft(s Snapshot) *draft {
	d := &draft{s: s, status: *s.Fence.Status.DeepCopy(), from: map[clientKey]string{}}
	d.status.ObservedGeneration = s.Fence.Generation
	d.askedByNow()
	if d.status.Phase == "" {
		d.status.Phase = v1alpha1.PhasePending
		d.status.Times.DetectedAt = d.now()
	}
	return d
}

func (d *draft) now() *metav1.MicroTime {
	t := metav1.NewMicroTime(d.s.Now)
	return &t
}

// say sets the sentence that kubectl get shows.
func (d *draft) say(message string) { d.status.Message = message }

// look asks for another look after a while; the soonest counts.
func (d *draft) look(after time.Duration) {
	if d.wait == 0 || after < d.wait {
		d.wait = after
	}
}

// backoff is the wait before something that failed is tried again: it grows with the age of the incident.
func (d *draft) backoff() time.Duration {
	age := d.s.Now.Sub(d.status.Times.DetectedAt.Time)
	return min(max(age/4, time.Second), 30*time.Second)
}

// condition sets a condition with the message of the status.
func (d *draft) condition(kind string, is bool, reason string) {
	d.conditionSaying(kind, is, reason, d.status.Message)
}

// conditionSaying sets a condition; the time of its last change is the snapshot's.
func (d *draft) conditionSaying(kind string, is bool, reason, message string) {
	status := metav1.ConditionFalse
	if is {
		status = metav1.ConditionTrue
	}
	meta.SetStatusCondition(&d.status.Conditions, metav1.Condition{
		Type: kind, Status: status, Reason: reason, Message: message,
		ObservedGeneration: d.s.Fence.Generation, LastTransitionTime: metav1.NewTime(d.s.Now),
	})
}

// was is the reason that a condition had before this decision; empty for none.
func (d *draft) was(kind string) string {
	if c := meta.FindStatusCondition(d.s.Fence.Status.Conditions, kind); c != nil {
		return c.Reason
	}
	return ""
}

func (d *draft) announceFence(kind, reason, action, note string) {
	d.events = append(d.events, Event{Regarding: fenceReference(d.s.Fence), Type: kind, Reason: reason, Action: action, Note: note})
}

// announceBoth tells a fact on the NodeFence and on the other object that it is about.
func (d *draft) announceBoth(other corev1.ObjectReference, event Event) {
	d.events = append(d.events, both(fenceReference(d.s.Fence), other, event)...)
}

func both(a, b corev1.ObjectReference, event Event) []Event {
	onA, onB := event, event
	onA.Regarding, onA.Related = a, b
	onB.Regarding, onB.Related = b, a
	return []Event{onA, onB}
}

// announceNode tells a fact on the NodeFence and, while there is one, on the node.
func (d *draft) announceNode(kind, reason, action, note string) {
	if d.s.Node == nil {
		d.announceFence(kind, reason, action, note)
		return
	}
	d.announceBoth(d.s.nodeReference(), Event{Type: kind, Reason: reason, Action: action, Note: note})
}

// announceVolume tells a fact on the NodeFence and on the claim.
func (d *draft) announceVolume(v volume.Volume, kind, reason, action, note string) {
	d.announceBoth(claimReference(v), Event{Type: kind, Reason: reason, Action: action, Note: note})
}

// announceRelease tells the pods that wait for a volume, too, that it has left the node.
func (d *draft) announceRelease(v Volume) {
	d.announceVolume(v.Volume, normal, v1alpha1.ReasonVolumeReleased, "Release", fmt.Sprintf(
		"Released claim %s (image %s) from fenced node %s: it may be attached to another node.", v.Claim, v.ImageName(), d.s.NodeName))
	for _, pod := range v.Users {
		if pod.Spec.NodeName == d.s.NodeName || !waitsFor(v, pod) || volume.Finished(pod) || pod.Status.Phase == corev1.PodRunning {
			continue
		}
		d.events = append(d.events, Event{
			Regarding: PodReference(pod), Related: fenceReference(d.s.Fence), Type: normal, Reason: v1alpha1.ReasonVolumeReleased, Action: "Release",
			Note: fmt.Sprintf("Fenced node %s no longer holds claim %s (image %s): this pod may have it now.", d.s.NodeName, v.Claim, v.ImageName()),
		})
	}
}

func (s Snapshot) nodeOrEmpty() *corev1.Node {
	if s.Node != nil {
		return s.Node
	}
	return &corev1.Node{}
}
