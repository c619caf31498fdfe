package plan

import (
	"slices"
	"time"

	"github.com/rbd-rescue/rbd-rescue/api/v1alpha1"
	"github.com/rbd-rescue/rbd-rescue/ceph"
)

// entryTTL is how long an entry lives if nobody renews it: if rbd-rescue is gone, the fence must outlive it (S4).
const entryTTL = 365 * 24 * time.Hour

// ReliedOn tells whether the fence was proven whole once, or something was released behind a part of it, as behind one of two
// clusters: from then on its entries must stay, whatever the node does (S4).
func ReliedOn(status v1alpha1.NodeFenceStatus) bool {
	return status.Times.FencedAt != nil || slices.ContainsFunc(status.Volumes, func(v v1alpha1.FencedVolume) bool {
		return onItsWay(v.Phase)
	})
}

// entriesToWrite are the clients whose entry is not in the blocklist or has lived half its time, by cluster (S4). A
// cluster that does not answer has none: it is tried again when it answers.
//
// Entries that were never proven are first ones: they are written only while the node is to be fenced (S2). One that came
// back before them goes on unharmed; what is listed already stays so.
func entriesToWrite(s Snapshot, clients []v1alpha1.FencedClient, first bool) []AddToBlocklist {
	var steps []AddToBlocklist
	for _, c := range clients {
		cluster := s.Clusters[c.ClusterID]
		address, err := ceph.ParseAddress(c.Address)
		if err != nil || !cluster.Known || cluster.Error != nil || listed(cluster, address, s.Now.Add(entryTTL/2)) {
			continue
		}
		if !first && !listed(cluster, address, s.Now) {
			continue
		}
		at := slices.IndexFunc(steps, func(step AddToBlocklist) bool { return step.ClusterID == c.ClusterID })
		if at < 0 {
			at = len(steps)
			steps = append(steps, AddToBlocklist{ClusterID: c.ClusterID, TTL: entryTTL})
		}
		steps[at].Clients = append(steps[at].Clients, address)
	}
	return steps
}
