package plan

import (
	"slices"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/rbd-rescue/rbd-rescue/api/v1alpha1"
	"github.com/rbd-rescue/rbd-rescue/ceph"
)

// entryTTL is how long an entry lives: it must outlive the boot that it cuts off, be rbd-rescue there or not (S4). Ceph never gives
// an entry that stands another end (e2e/lab/ceph, TestReleases), so that none can be renewed. Ceph counts seconds in 32 bits, until 2106.
const entryTTL = 10 * 365 * 24 * time.Hour

// ReliedOn tells whether the fence was proven whole once, or something was released behind a part of it, as behind one of two
// clusters: from then on its entries must stay, whatever the node does (S4).
func ReliedOn(status v1alpha1.NodeFenceStatus) bool {
	return status.Times.FencedAt != nil || slices.ContainsFunc(status.Volumes, func(v v1alpha1.FencedVolume) bool {
		return onItsWay(v.Phase)
	})
}

// entriesToWrite are the clients whose entry is not in the blocklist, by cluster (S4). One that stands is never asked for, however
// soon it ends: Ceph would change nothing. A cluster that does not answer has none: it is tried again when it answers.
//
// An entry that must be kept is written again whatever the node does. Any other is a first one: it is written only while the
// node is to be fenced and a volume that it holds needs the entry, as this very look has it (S2, S6).
func entriesToWrite(s Snapshot, status v1alpha1.NodeFenceStatus, acts bool) []AddToBlocklist {
	var steps []AddToBlocklist
	for _, c := range status.Clients {
		cluster := s.Clusters[c.ClusterID]
		address, err := ceph.ParseAddress(c.Address)
		if err != nil || !cluster.Known || cluster.Error != nil || stands(cluster, address) {
			continue
		}
		first := acts && wantedBy(status, c)
		if !c.Kept && !first {
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

// wantedBy tells whether a volume is to be released behind the entry.
func wantedBy(status v1alpha1.NodeFenceStatus, c v1alpha1.FencedClient) bool {
	return slices.ContainsFunc(status.Volumes, func(v v1alpha1.FencedVolume) bool {
		return v.Phase != v1alpha1.VolumeRefused && slices.Contains(v.Clients, c.Address)
	})
}

// inDoubtFor is how long Ceph may still do what it was asked for, though no answer came, from the beginning of the look that decided to
// ask: what rescuer takes at most until it asks, and the time-out of the monitors' client (ceph/librados), with a margin.
const inDoubtFor = time.Minute

// inDoubt is how long the entry may still arrive; 0 if it can't.
func inDoubt(c v1alpha1.FencedClient, now time.Time) time.Duration {
	return doubtLeft(c.AskedAt, now)
}

// removalInDoubt is how long the entry may still be removed; 0 if it can't.
func removalInDoubt(c v1alpha1.FencedClient, now time.Time) time.Duration {
	return doubtLeft(c.RemovalAskedAt, now)
}

func doubtLeft(asked *metav1.MicroTime, now time.Time) time.Duration {
	if asked == nil {
		return 0
	}
	return max(0, inDoubtFor-now.Sub(asked.Time))
}

// mayBeRemoved tells whether an entry may still be removed, as this NodeFence or another one has asked.
func mayBeRemoved(nf *v1alpha1.NodeFence, others []*v1alpha1.NodeFence, address string, now time.Time) bool {
	return slices.ContainsFunc(slices.Concat([]*v1alpha1.NodeFence{nf}, others), func(nf *v1alpha1.NodeFence) bool {
		return slices.ContainsFunc(nf.Status.Clients, func(c v1alpha1.FencedClient) bool {
			return c.Address == address && removalInDoubt(c, now) > 0
		})
	})
}

// askedByNow: where the clock was set back, or another replica's is ahead of this one's, doubt lasts a minute from now on, not longer.
func (d *draft) askedByNow() {
	for i := range d.status.Clients {
		c := &d.status.Clients[i]
		for _, asked := range []**metav1.MicroTime{&c.AskedAt, &c.RemovalAskedAt} {
			if *asked != nil && (*asked).After(d.s.Now) {
				*asked = d.now()
			}
		}
	}
}

func (d *draft) noteAsked(step AddToBlocklist) {
	for i := range d.status.Clients {
		c := &d.status.Clients[i]
		address, err := ceph.ParseAddress(c.Address)
		if err == nil && c.ClusterID == step.ClusterID && slices.Contains(step.Clients, address) {
			c.AskedAt, c.AskedAgain = d.now(), c.AskedAt != nil
		}
	}
}

// noteArrived: the entry is there. Asked for once, it can't come again.
func (d *draft) noteArrived(c *v1alpha1.FencedClient) {
	if !c.AskedAgain || inDoubt(*c, d.s.Now) == 0 {
		c.AskedAt, c.AskedAgain = nil, false
	}
}

// keep marks the entries that a volume is released behind.
func (d *draft) keep(v Volume, addresses []string) {
	for i := range d.status.Clients {
		if c := &d.status.Clients[i]; c.ClusterID == v.ClusterID && slices.Contains(addresses, c.Address) {
			c.Kept = true
		}
	}
}

// Renewals is what a step has of entries that stay until the fence is lifted.
func Renewals(status v1alpha1.NodeFenceStatus, step AddToBlocklist) AddToBlocklist {
	step.Clients = slices.DeleteFunc(slices.Clone(step.Clients), func(address ceph.Address) bool {
		return !slices.ContainsFunc(status.Clients, func(c v1alpha1.FencedClient) bool {
			return c.Kept && c.ClusterID == step.ClusterID && c.Address == address.String()
		})
	})
	return step
}

// forgetUnwanted drops entries that no volume needs any more, and that neither are nor can arrive in Ceph.
func (d *draft) forgetUnwanted() {
	d.status.Clients = slices.DeleteFunc(d.status.Clients, func(c v1alpha1.FencedClient) bool {
		cluster := d.s.Clusters[c.ClusterID]
		address, err := ceph.ParseAddress(c.Address)
		return err == nil && cluster.Known && cluster.Error == nil && !stands(cluster, address) && !c.Kept && !wantedBy(d.status, c) && inDoubt(c, d.s.Now) == 0
	})
}
