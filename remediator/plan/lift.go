package plan

import (
	"fmt"

	"github.com/rbd-rescue/rbd-rescue/api/v1alpha1"
	"github.com/rbd-rescue/rbd-rescue/ceph"
)

// lift ends an incident whose boot is proven over (S3): remove the entries, see that they are gone, remove the taint, see
// that it is gone, and only then call it lifted. Only entries that this incident asked for are removed.
func (d *draft) lift() {
	waiting := 0
	for clusterID, addresses := range listedEntries(d.s, d.status.Clients) {
		d.steps = append(d.steps, RemoveFromBlocklist{ClusterID: clusterID, Clients: addresses})
		waiting++
	}
	for _, c := range d.status.Clients {
		if err := d.s.Clusters[c.ClusterID].Error; err != nil {
			d.say(fmt.Sprintf("Node %s rebooted; its entries are removed once Ceph cluster %s answers: %v", d.s.nodeName(), c.ClusterID, err))
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
		d.say(fmt.Sprintf("Node %s is Ready with a new boot: lifting its fence", d.s.nodeName()))
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
	d.say(fmt.Sprintf("Lifted: node %s is Ready with a new boot, its old Ceph clients are gone for good", d.s.nodeName()))
	d.condition(v1alpha1.ConditionFenced, false, v1alpha1.ReasonFenceLifted)
	d.condition(v1alpha1.ConditionLifted, true, v1alpha1.ReasonFenceLifted)
	d.announceNode(normal, v1alpha1.ReasonFenceLifted, "Lift", fmt.Sprintf(
		"Lifted the fence of node %s: it is Ready with a new boot (%s), so the boot that was cut off is over. Its blocklist entries and its taint are removed.",
		d.s.nodeName(), d.s.Node.Status.NodeInfo.BootID))
}

// listedEntries are the incident's entries that are in the blocklist now, by cluster.
func listedEntries(s Snapshot, clients []v1alpha1.FencedClient) map[string][]ceph.Address {
	entries := map[string][]ceph.Address{}
	for _, c := range clients {
		address, err := ceph.ParseAddress(c.Address)
		if err != nil {
			continue
		}
		if _, ok := s.Clusters[c.ClusterID].Map.Blocklist[address]; ok {
			entries[c.ClusterID] = append(entries[c.ClusterID], address)
		}
	}
	return entries
}
