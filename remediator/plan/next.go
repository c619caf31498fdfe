package plan

import (
	"fmt"
	"slices"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/rbd-rescue/rbd-rescue/api/v1alpha1"
	"github.com/rbd-rescue/rbd-rescue/ceph"
)

// Decision is what Next decides: the status to store, then the events to announce, then the steps to carry out, and when
// to look again (0: only when something changes).
type Decision struct {
	Status v1alpha1.NodeFenceStatus
	Events []Event
	Steps  []Step
	Wait   time.Duration
}

// Next decides what to do next about an incident. It expects nothing of what came before it but what the snapshot shows,
// so that it goes on after a crash at any point (S8).
//   - ended (lifted or cancelled): let the object go if somebody deleted it
//   - the same machine is Ready with another boot, or a person says that the boot is over: lift (S3); cancelled if nothing
//     was ever asked of Ceph
//   - the node is Ready with the boot that was cut off, and says itself that no mapping of the fenced clients is left: lift (S3)
//   - nothing came of it yet, and the node is Ready again: cancelled, nothing was done
//   - the failed node holds volumes that are wanted: settle their clients, or refuse (S2, S6), and ask for their entries
//   - entries that are missing: write them (S4)
//   - volumes whose clients are proven to be cut off, while nothing is heard of the node: release (S1)
//   - volumes that were released: follow them until they run elsewhere
func Next(s Snapshot) Decision {
	d := newDraft(s)
	switch state := stateOf(s); {
	case !s.Fence.Active():
		if s.Fence.DeletionTimestamp != nil && !HasSnapshots(s.Fence) && slices.Contains(s.Fence.Finalizers, v1alpha1.FinalizerFence) {
			d.steps = append(d.steps, ReleaseFinalizer{})
		}
	case len(d.status.Clients) > 0 && (state == nodeRebooted || s.Fence.Status.Times.OverAt != nil || overridden(s.Fence)),
		len(d.status.Clients) > 0 && (state == nodeReturned && isCleared(s) || s.Fence.Status.Times.ClearedAt != nil):
		d.lift(state)
	case len(d.status.Clients) == 0 && (backAgain(state) || s.Fence.DeletionTimestamp != nil),
		state == nodeReturned && d.neverListed():
		d.cancel(state)
	default:
		d.carryOn(state)
	}
	return Decision{Status: d.status, Events: d.events, Steps: d.steps, Wait: d.wait}
}

func backAgain(state nodeState) bool {
	return state == nodeRebooted || state == nodeReturned || state == nodeReplaced
}

// neverListed tells whether no entry of the incident was ever seen in Ceph, and none can arrive there any more.
func (d *draft) neverListed() bool {
	if ReliedOn(d.status) || len(d.status.Clients) == 0 {
		return false
	}
	for _, c := range d.status.Clients {
		cluster := d.s.Clusters[c.ClusterID]
		address, err := ceph.ParseAddress(c.Address)
		if cluster.Error != nil || !cluster.Known || err != nil || c.Until != nil || inDoubt(c, d.s.Now) > 0 || stands(cluster, address) {
			return false
		}
	}
	return true
}

// cutsOff tells whether an entry of the incident is in Ceph, as far as is known.
func (d *draft) cutsOff() bool {
	return ReliedOn(d.status) ||
		slices.ContainsFunc(d.status.Clients, func(c v1alpha1.FencedClient) bool { return c.Until != nil })
}

func (d *draft) cancel(state nodeState) {
	why := fmt.Sprintf("node %s is Ready again", d.s.NodeName)
	if !backAgain(state) {
		why = "the NodeFence was deleted"
	}
	if d.mayUntaint(state) { // first, since nobody looks at it any more afterwards
		d.steps = append(d.steps, UntaintNode{Node: d.s.Node.Name, UID: d.s.Node.UID})
		d.look(immediately)
		return
	}
	d.giveUpSnapshots()
	d.status.Phase = v1alpha1.PhaseCancelled
	d.say("Cancelled before anything was done: " + why)
	d.condition(v1alpha1.ConditionFenced, false, v1alpha1.ReasonFenceCancelled)
	d.announceNode(normal, v1alpha1.ReasonFenceCancelled, "Fence", fmt.Sprintf(
		"Did not fence node %s: %s before the fence began. Nothing was done.", d.s.NodeName, why))
	if d.s.Fence.DeletionTimestamp != nil {
		d.look(immediately) // to let the object go
	}
}

// carryOn is the way of an incident from its first look to its recovery.
func (d *draft) carryOn(state nodeState) {
	if d.status.Times.NotReadyAt == nil && state != nodeAsked {
		d.status.Times.NotReadyAt = notReadySince(d.s)
	}
	began := len(d.status.Clients) > 0
	if state.acts() {
		d.settleVolumes()
		d.settleClients(began)
		d.forgetUnwanted()
	}
	if len(d.status.Clients) == 0 {
		if d.mayUntaint(state) {
			d.steps = append(d.steps, UntaintNode{Node: d.s.Node.Name, UID: d.s.Node.UID})
		}
		d.tellPending(state)
		return
	}
	if d.s.Node != nil && !tainted(d.s.Node) && (state.acts() || d.cutsOff()) {
		d.steps = append(d.steps, TaintNode{Node: d.s.Node.Name, UID: d.s.Node.UID})
	}
	d.writeEntries(state, began)
	proof, missing := verify(d.s, d.status.Clients)
	d.recordProof(proof)
	if state.acts() {
		d.beginRelease(proof, missing)
	}
	if state.acts() || sameBoot(d.s) { // what was begun is finished, also when the kubelet answers again
		d.steps = append(d.steps, release(proof, d.s, d.status.Volumes)...)
	}
	d.followVolumes()
	d.tellTaken()
	d.tellProgress(state, missing)
}

// notReadySince is when Kubernetes saw the node fail.
func notReadySince(s Snapshot) *metav1.MicroTime {
	for _, c := range s.nodeOrEmpty().Status.Conditions {
		if c.Type == "Ready" {
			t := metav1.NewMicroTime(c.LastTransitionTime.Time)
			return &t
		}
	}
	return nil
}
