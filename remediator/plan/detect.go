package plan

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/rbd-rescue/rbd-rescue/api/v1alpha1"
	"github.com/rbd-rescue/rbd-rescue/volume"
)

// breakerRecheck is how soon a failed node is looked at again while the breaker is open.
const breakerRecheck = 10 * time.Second

// Verdict is what Detect decides.
type Verdict struct {
	// Create is the NodeFence to make; nil for none.
	Create *v1alpha1.NodeFence
	// Why there is none, for the log.
	Why    string
	Events []Event
	// Wait until the next look; 0: only when something changes.
	Wait time.Duration
}

// Detect decides whether a node's failure becomes an incident:
//   - the node has not failed: no; if pods on it may become stuck, it is looked at again then
//   - this boot has an active NodeFence: no, that one goes on
//   - no volume that it holds is wanted elsewhere by a namespace in mode rescue: no
//   - a person has lifted the fence of this very failure: no, and it says so
//   - it is paused, or the breaker is open (S7): no, and it says so
//   - nothing tells the node's bootID, so that the end of this boot could not be told (S3): no, and it says so
//   - else: yes
func Detect(s Snapshot) Verdict {
	failure, failed := failureOf(s)
	if !failed {
		return Verdict{Why: "the node has not failed", Wait: untilStuck(s)}
	}
	identity := IdentityOf(s)
	if s.Fence != nil && s.Fence.Active() && (s.Fence.Spec.BootID == identity.BootID || s.Fence.Spec.BootID == "") {
		return Verdict{Why: "NodeFence " + s.Fence.Name + " is active"}
	}
	wanted := wantedVolumes(s)
	if len(wanted) == 0 {
		return Verdict{Why: "no held volume is wanted elsewhere by a namespace in mode rescue"}
	}
	if s.endedByAPerson(identity, failure) {
		return Verdict{Why: "a person has lifted the fence of this failure", Events: []Event{nodeEvent(s, v1alpha1.ReasonFenceOverridden, fmt.Sprintf(
			"Not fencing node %s again: a person has lifted NodeFence %s of the same failure. To fence it all the same, make a NodeFence by hand.", s.NodeName, s.Fence.Name))}}
	}
	if r := notNow(s); r != nil {
		return Verdict{Why: r.reason, Wait: breakerRecheck, Events: []Event{nodeEvent(s, r.reason, r.message)}}
	}
	if identity.BootID == "" {
		return Verdict{Why: "the node's bootID is not known", Events: []Event{nodeEvent(s, v1alpha1.ReasonFenceRefused, fmt.Sprintf(
			"Refused to fence node %s: nothing tells its bootID, so the end of its boot could not be told. Follow the manual runbook.", s.NodeName))}}
	}
	return Verdict{Create: &v1alpha1.NodeFence{
		ObjectMeta: metav1.ObjectMeta{
			Name:       incidentName(s, identity.BootID, failure.Since),
			Finalizers: []string{v1alpha1.FinalizerFence},
		},
		Spec: v1alpha1.NodeFenceSpec{
			NodeName: s.NodeName, Automatic: true, BootID: identity.BootID, Reason: failure.Reason,
			MachineID: identity.MachineID, SystemUUID: identity.SystemUUID,
		},
	}}
}

func nodeEvent(s Snapshot, reason, note string) Event {
	return Event{Regarding: s.nodeReference(), Type: corev1.EventTypeWarning, Reason: reason, Action: "Fence", Note: note}
}

func wantedVolumes(s Snapshot) []Volume {
	var wanted []Volume
	for _, v := range s.Volumes {
		if HeldBy(s, v) && wantedElsewhere(s, v) {
			wanted = append(wanted, v)
		}
	}
	return wanted
}

// endedByAPerson tells whether the last incident was lifted by a person's word, and this is still the same failure: what the
// person ended is not begun again.
func (s Snapshot) endedByAPerson(identity Identity, failure volume.Failure) bool {
	return s.Fence != nil && s.Fence.Status.Phase == v1alpha1.PhaseLifted && s.Fence.Spec.BootID == identity.BootID &&
		overridden(s.Fence) && !failure.Since.After(s.Fence.Status.Times.LiftedAt.Time)
}

// incidentName is the same for everyone who sees the same failure after the same earlier incident, so that two leaders, or a
// stale cache, cannot make two incidents of one (S8).
func incidentName(s Snapshot, bootID string, since time.Time) string {
	text := bootID + "\n" + since.UTC().Format(time.RFC3339)
	if s.Fence != nil {
		text += "\n" + string(s.Fence.UID)
	}
	sum := sha256.Sum256([]byte(text))
	const maxNode = 253 - 1 - 10
	return s.NodeName[:min(len(s.NodeName), maxNode)] + "-" + hex.EncodeToString(sum[:5])
}
