package plan

import (
	"fmt"
	"slices"

	"github.com/rbd-rescue/rbd-rescue/api/v1alpha1"
	"github.com/rbd-rescue/rbd-rescue/ceph"
	"github.com/rbd-rescue/rbd-rescue/volume"
)

// overridden tells whether a person says that the boot which is fenced is over, or takes the risk: the annotation must name
// that very boot, so that it can't be meant for another.
func overridden(s Snapshot) bool {
	return s.Fence.Spec.BootID != "" && s.Fence.Annotations[v1alpha1.AnnotationLift] == s.Fence.Spec.BootID
}

// lift ends an incident whose boot is proven over, or over by a person's word (S3): remove the entries, see that they are
// gone, remove the taint, see that it is gone, and only then call it lifted. Only entries that this incident asked for are
// removed.
func (d *draft) lift(state nodeState) {
	because := fmt.Sprintf("node %s is Ready with a new boot", d.s.NodeName)
	if state != nodeRebooted {
		because = fmt.Sprintf("a person says that boot %s of node %s is over", d.s.Fence.Spec.BootID, d.s.NodeName)
	}
	waiting := 0
	for clusterID, addresses := range listedEntries(d.s, d.status.Clients) {
		d.steps = append(d.steps, RemoveFromBlocklist{ClusterID: clusterID, Clients: addresses})
		waiting++
	}
	for _, c := range d.status.Clients {
		if err := d.s.Clusters[c.ClusterID].Error; err != nil {
			d.say(fmt.Sprintf("To be lifted, since %s; its entries are removed once Ceph cluster %s answers: %v", because, c.ClusterID, err))
			d.condition(v1alpha1.ConditionLifted, false, v1alpha1.ReasonCephUnreachable)
			d.look(d.backoff())
			return
		}
	}
	if waiting == 0 && tainted(d.s.Node) {
		d.steps = append(d.steps, UntaintNode{Node: d.s.Node.Name, UID: d.s.Node.UID})
		waiting++
	}
	if waiting > 0 {
		d.say(fmt.Sprintf("Lifting the fence of node %s: %s", d.s.NodeName, because))
		d.condition(v1alpha1.ConditionLifted, false, v1alpha1.ReasonWaiting)
		d.look(immediately)
		return
	}
	d.status.Phase = v1alpha1.PhaseLifted
	d.status.Times.LiftedAt = d.now()
	for i := range d.status.Clients {
		d.status.Clients[i].Until = nil
		d.status.Clients[i].Epoch = 0
	}
	if state != nodeRebooted {
		d.tellOverride(because)
		return
	}
	d.say(fmt.Sprintf("Lifted: node %s is Ready with a new boot, its old Ceph clients are gone for good", d.s.NodeName))
	d.condition(v1alpha1.ConditionFenced, false, v1alpha1.ReasonFenceLifted)
	d.condition(v1alpha1.ConditionLifted, true, v1alpha1.ReasonFenceLifted)
	d.announceNode(normal, v1alpha1.ReasonFenceLifted, "Lift", fmt.Sprintf(
		"Lifted the fence of node %s: it is Ready with a new boot (%s), so the boot that was cut off is over. Its blocklist entries and its taint are removed.",
		d.s.NodeName, volume.BootID(d.s.Node)))
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

// listedEntries are the incident's entries that are in the blocklist now and that no other active incident needs, by
// cluster.
func listedEntries(s Snapshot, clients []v1alpha1.FencedClient) map[string][]ceph.Address {
	entries := map[string][]ceph.Address{}
	for _, c := range clients {
		address, err := ceph.ParseAddress(c.Address)
		if err != nil || NeededBy(s.OtherFences, c.Address) != "" {
			continue
		}
		if _, ok := s.Clusters[c.ClusterID].Map.Blocklist[address]; ok {
			entries[c.ClusterID] = append(entries[c.ClusterID], address)
		}
	}
	return entries
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
