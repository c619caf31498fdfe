package plan

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/rbd-rescue/rbd-rescue/api/v1alpha1"
	"github.com/rbd-rescue/rbd-rescue/ceph"
	"github.com/rbd-rescue/rbd-rescue/volume"
)

// overridden tells whether a person says that the boot which is fenced is over, or takes the risk: the annotation must name
// that very boot, so that it can't be meant for another.
func overridden(nf *v1alpha1.NodeFence) bool {
	return nf.Spec.BootID != "" && nf.Annotations[v1alpha1.AnnotationLift] == nf.Spec.BootID
}

// lift ends an incident whose boot is proven over, or over by a person's word, or whose clients are proven to have ended (S3): remove the entries, see that they are
// gone, remove the taint, see that it is gone, and only then call it lifted. Only entries that this incident asked for are
// removed, and none that was there before. The proof is kept: a new boot that fails meanwhile must not have the entries of the old one written again (S2).
func (d *draft) lift(state nodeState) {
	if state == nodeRebooted && d.status.Times.OverAt == nil {
		d.status.Times.OverAt = d.now()
	}
	if cleared, _ := clearedBy(d.s); cleared && state == nodeReturned && d.status.Times.ClearedAt == nil {
		d.status.Times.ClearedAt = d.now()
	}
	because := fmt.Sprintf("a person says that boot %s of node %s is over", d.s.Fence.Spec.BootID, d.s.NodeName)
	switch {
	case d.status.Times.OverAt != nil:
		because = fmt.Sprintf("node %s was Ready with a new boot", d.s.NodeName)
	case d.status.Times.ClearedAt != nil:
		because = fmt.Sprintf("node %s was Ready and had no mapping of the fenced clients left", d.s.NodeName)
	}
	waiting := d.removeEntries(state)
	for _, c := range d.status.Clients {
		if err := d.s.Clusters[c.ClusterID].Error; err != nil {
			d.say(fmt.Sprintf("To be lifted, since %s; its entries are removed once Ceph cluster %s answers: %v", because, c.ClusterID, err))
			d.condition(v1alpha1.ConditionLifted, false, v1alpha1.ReasonCephUnreachable)
			d.look(d.backoff())
			return
		}
	}
	if late := d.inDoubt(); !waiting && late > 0 {
		d.say(fmt.Sprintf("To be lifted, since %s; what Ceph was asked for within the last minute might still happen", because))
		d.condition(v1alpha1.ConditionLifted, false, v1alpha1.ReasonWaiting)
		d.look(min(late, time.Second))
		return
	}
	if !waiting && d.mayUntaint(state) {
		d.steps = append(d.steps, UntaintNode{Node: d.s.Node.Name, UID: d.s.Node.UID})
		waiting = true
	}
	if waiting {
		d.say(fmt.Sprintf("Lifting the fence of node %s: %s", d.s.NodeName, because))
		d.condition(v1alpha1.ConditionLifted, false, v1alpha1.ReasonWaiting)
		d.look(immediately)
		return
	}
	d.giveUpSnapshots()
	d.status.Phase = v1alpha1.PhaseLifted
	d.status.Times.LiftedAt = d.now()
	for i := range d.status.Clients {
		c := &d.status.Clients[i]
		c.Epoch = 0
		if !c.Foreign {
			c.Until = nil
		}
	}
	if d.status.Times.OverAt == nil && d.status.Times.ClearedAt == nil {
		d.tellOverride(because)
		d.tellLeft()
		return
	}
	d.say(fmt.Sprintf("Lifted: %s, its old Ceph clients are gone for good", because))
	d.condition(v1alpha1.ConditionFenced, false, v1alpha1.ReasonFenceLifted)
	d.condition(v1alpha1.ConditionLifted, true, v1alpha1.ReasonFenceLifted)
	over := fmt.Sprintf("so boot %s, which was cut off, is over", d.s.Fence.Spec.BootID)
	if d.status.Times.OverAt == nil {
		over = fmt.Sprintf("as its agent says of boot %s, so these clients have ended for good", d.s.Fence.Spec.BootID)
	}
	d.announceNode(normal, v1alpha1.ReasonFenceLifted, "Lift", fmt.Sprintf(
		"Lifted the fence of node %s: %s, %s. Its blocklist entries and its taint are removed.", d.s.NodeName, because, over))
	d.tellLeft()
}

// tellOverride puts a person's word on record, with what it risks (facts/krbd.md: a stale mapping writes again, and shows no
// watcher).
func (d *draft) tellOverride(because string) {
	d.say(fmt.Sprintf("Lifted by override: %s", because))
	d.condition(v1alpha1.ConditionFenced, false, v1alpha1.ReasonFenceOverridden)
	d.condition(v1alpha1.ConditionLifted, true, v1alpha1.ReasonFenceOverridden)
	d.announceNode(warning, v1alpha1.ReasonFenceOverridden, "Lift", fmt.Sprintf(
		"Lifted the fence of node %s by override (annotation %s): %s. If it still runs, its old RBD mappings can write again, unseen by Ceph, to volumes that run elsewhere.",
		d.s.NodeName, v1alpha1.AnnotationLift, because))
}

// inDoubt is how long Ceph may still write one of the entries, or remove one that is listed: another incident needs that one, and
// must see here that it proves nothing until then. 0 if neither can happen.
func (d *draft) inDoubt() time.Duration {
	var late time.Duration
	for _, c := range d.status.Clients {
		late = max(late, inDoubt(c, d.s.Now))
		if d.isListed(c) {
			late = max(late, removalInDoubt(c, d.s.Now))
		}
	}
	return late
}

func (d *draft) isListed(c v1alpha1.FencedClient) bool {
	address, err := ceph.ParseAddress(c.Address)
	return err == nil && stands(d.s.Clusters[c.ClusterID], address)
}

// removeEntries takes the incident's entries out of the blocklist, but for those that another active incident needs, and tells
// whether there are any. One of the same node whose boot is over as well needs none: else each would leave the entry to the other.
// Ceph is asked once a minute: while an earlier ask may still be under way, nobody can tell which of them it is that was done.
func (d *draft) removeEntries(state nodeState) bool {
	needing, over := d.othersThatFence(state)
	listed := map[string][]ceph.Address{}
	for i := range d.status.Clients {
		c := &d.status.Clients[i]
		address, err := ceph.ParseAddress(c.Address)
		if err == nil && !c.Foreign && d.isListed(*c) && NeededBy(needing, c.Address) == "" && removalInDoubt(*c, d.s.Now) == 0 {
			listed[c.ClusterID] = append(listed[c.ClusterID], address)
			c.RemovalAskedAt = d.now()
		}
	}
	for _, id := range slices.Sorted(maps.Keys(listed)) {
		d.steps = append(d.steps, RemoveFromBlocklist{ClusterID: id, Clients: listed[id], Over: over})
	}
	return len(listed) > 0
}

// othersThatFence tells the other active incidents that go on from those, by name, that are over as this one is: of the same
// node, with a boot that has ended by the same proof or by a person's word.
func (d *draft) othersThatFence(state nodeState) (going []*v1alpha1.NodeFence, over []string) {
	for _, nf := range d.s.OtherFences {
		rebooted := state == nodeRebooted && nf.Spec.NodeName == d.s.NodeName &&
			nf.Spec.BootID != volume.BootID(d.s.Node) && isMachine(d.s.Node, nf.Spec)
		if rebooted || nf.Status.Times.OverAt != nil || overridden(nf) {
			over = append(over, nf.Name)
			continue
		}
		going = append(going, nf)
	}
	return going, over
}

// mayUntaint tells whether the node has the taint, and no other incident keeps it.
func (d *draft) mayUntaint(state nodeState) bool {
	going, _ := d.othersThatFence(state)
	return tainted(d.s.Node) && !slices.ContainsFunc(going, func(nf *v1alpha1.NodeFence) bool {
		return nf.Spec.NodeName == d.s.NodeName && len(nf.Status.Clients) > 0
	})
}

// NeededBy is an active NodeFence that asks for an entry; empty for none. One Ceph cluster may have several clusterIDs, so
// that only the address is compared: an entry too many harms less than one too few.
func NeededBy(fences []*v1alpha1.NodeFence, address string) string {
	for _, nf := range fences {
		if nf.Active() && slices.ContainsFunc(nf.Status.Clients, func(c v1alpha1.FencedClient) bool { return c.Address == address }) {
			return nf.Name
		}
	}
	return ""
}
