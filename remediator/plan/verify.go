package plan

import (
	"fmt"
	"time"

	"github.com/rbd-rescue/rbd-rescue/api/v1alpha1"
	"github.com/rbd-rescue/rbd-rescue/ceph"
)

// expiryMargin is how long an entry must at least have left to prove anything. Nobody can make it longer without a moment in which
// the client may write, so that it has to last while the machine is found, rebooted or scrapped.
const expiryMargin = 365 * 24 * time.Hour

// verified is the proof that clients are cut off. Only verify makes one, and release takes nothing else (S1).
type verified struct {
	// listed are the clients whose entry is in the blocklist for long enough.
	listed map[clientKey]bool
	// epochs with which every pool that was asked has confirmed an entry.
	epochs map[clientKey]uint32
	// pools, by clusterID, of which every placement group has confirmed the map of this look.
	pools map[string]map[string]bool
}

type clientKey struct {
	clusterID string
	address   ceph.Address
}

// verify proves the fence from this very snapshot: a client is cut off if its entry is in the blocklist, does not run out
// within the margin nor may be removed by an earlier lift, and every placement group that serves the volumes has the OSD map that holds it. Which pools serve a
// volume differs: covers compares.
// What is not proven is told by cluster.
func verify(s Snapshot, clients []v1alpha1.FencedClient) (verified, map[string]refusal) {
	proof := verified{listed: map[clientKey]bool{}, epochs: map[clientKey]uint32{}, pools: map[string]map[string]bool{}}
	missing := map[string]refusal{}
	for id, cluster := range s.Clusters {
		proof.pools[id] = confirmed(cluster)
	}
	for _, c := range clients {
		cluster := s.Clusters[c.ClusterID]
		address, err := ceph.ParseAddress(c.Address)
		switch {
		case err != nil:
			missing[c.ClusterID] = refusal{v1alpha1.ReasonFenceUnproven, err.Error()}
		case cluster.Error != nil:
			missing[c.ClusterID] = refusal{v1alpha1.ReasonCephUnreachable, cluster.Error.Error()}
		case !stands(cluster, address):
			if _, told := missing[c.ClusterID]; !told { // it comes by itself; what another entry waits for may not
				missing[c.ClusterID] = refusal{v1alpha1.ReasonFenceUnproven, fmt.Sprintf("%s is not on the blocklist yet", address)}
			}
		case !listed(cluster, address, s.Now.Add(expiryMargin)):
			missing[c.ClusterID] = refusal{v1alpha1.ReasonFenceUnproven, endsTooSoon(s, c, cluster.Map.Blocklist[address])}
		case mayBeRemoved(s.Fence, s.OtherFences, c.Address, s.Now):
			missing[c.ClusterID] = refusal{v1alpha1.ReasonFenceUnproven, fmt.Sprintf(
				"Ceph was asked to remove %s from the blocklist within the last minute, and may still do so", address)}
		default:
			proof.listed[clientKey{c.ClusterID, address}] = true
			if r := unconfirmed(cluster); r != nil {
				missing[c.ClusterID] = *r
				continue
			}
			proof.epochs[clientKey{c.ClusterID, address}] = cluster.Barrier
		}
	}
	return proof, missing
}

// unconfirmed says why not every pool that was asked has confirmed the map; nil if all have.
func unconfirmed(cluster Cluster) *refusal {
	switch {
	case cluster.BarrierError != nil:
		return &refusal{v1alpha1.ReasonFenceUnproven, cluster.BarrierError.Error()}
	case cluster.Barrier < cluster.Map.Epoch:
		return &refusal{v1alpha1.ReasonFenceUnproven, fmt.Sprintf("not every OSD has confirmed OSD map %d yet", cluster.Map.Epoch)}
	default:
		return nil
	}
}

// confirmed are the pools of which every placement group has the map.
func confirmed(cluster Cluster) map[string]bool {
	pools := map[string]bool{}
	for pool, epoch := range cluster.Proven {
		if epoch > 0 && epoch >= cluster.Map.Epoch {
			pools[pool] = true
		}
	}
	return pools
}

// covers tells whether all clients of a volume are proven to be cut off from all pools that hold it. A volume without clients
// is not covered, nor one whose pools are not known: that nothing is known is no proof.
func (p verified) covers(v Volume, addresses []string) bool {
	for _, text := range addresses {
		address, err := ceph.ParseAddress(text)
		if err != nil || !p.listed[clientKey{v.ClusterID, address}] {
			return false
		}
	}
	for _, pool := range v.Pools {
		if !p.pools[v.ClusterID][pool] {
			return false
		}
	}
	return len(addresses) > 0 && len(v.Pools) > 0
}

// watching is a fenced client that still shows as a watcher of a volume. The blocklist ends watches at once (facts/ceph.md);
// while one stays, ceph-csi would not map the image elsewhere ("still being used").
func watching(v Volume, addresses []string) string {
	for _, watcher := range v.Use.Watchers {
		for _, text := range addresses {
			address, err := ceph.ParseAddress(text)
			if err == nil && (address == watcher.Address || isHost(address) && address.IP == watcher.Address.IP) {
				return watcher.Address.String()
			}
		}
	}
	return ""
}

func (p verified) epoch(clusterID string, address ceph.Address) uint32 {
	return p.epochs[clientKey{clusterID, address}]
}

// stands tells whether the blocklist has an entry of the client, whenever it ends: one that is over stays until Ceph drops it.
func stands(cluster Cluster, address ceph.Address) bool {
	_, is := cluster.Map.Blocklist[address]
	return is
}

// listed tells whether the blocklist holds the client until at least the given time.
func listed(cluster Cluster, address ceph.Address, until time.Time) bool {
	expiry, ok := cluster.Map.Blocklist[address]
	return ok && expiry.After(until)
}

// NeedsBarrier tells whether the snapshot of an incident needs the proof of the placement groups: while an entry is not
// proven or a volume is still to be released. It saves the probes in the long time between recovery and lift.
func NeedsBarrier(nf *v1alpha1.NodeFence) bool {
	for _, c := range nf.Status.Clients {
		if c.Epoch == 0 {
			return true
		}
	}
	for _, v := range nf.Status.Volumes {
		if v.Phase == v1alpha1.VolumeHeld || v.Phase == v1alpha1.VolumeReleasing {
			return len(nf.Status.Clients) > 0
		}
	}
	return false
}
