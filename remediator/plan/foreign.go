package plan

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/rbd-rescue/rbd-rescue/api/v1alpha1"
	"github.com/rbd-rescue/rbd-rescue/ceph"
)

// foreign tells whether an entry stands that no NodeFence has asked for: ceph-csi or csi-addons fence, too, and so do people, and
// Ceph's clients that break a lock. It is somebody else's to remove. One cluster may have several clusterIDs, so that only the
// address is compared.
func foreign(s Snapshot, clusterID string, address ceph.Address) bool {
	return stands(s.Clusters[clusterID], address) && !slices.ContainsFunc(slices.Concat([]*v1alpha1.NodeFence{s.Fence}, s.OtherFences), func(nf *v1alpha1.NodeFence) bool {
		return slices.ContainsFunc(nf.Status.Clients, func(c v1alpha1.FencedClient) bool { return c.Address == address.String() && !c.Foreign })
	})
}

// endsTooSoon says what becomes of an entry that stands and proves nothing. It is not removed to be written for longer: until the
// new one binds every OSD the client could write, beside the next node (S4). Only a person can know that nothing writes there.
func endsTooSoon(s Snapshot, c v1alpha1.FencedClient, until time.Time) string {
	gap := "nothing is released before that"
	if c.Kept {
		gap = fmt.Sprintf("volumes of node %s may run elsewhere, so make sure first that it is off", s.Fence.Spec.NodeName)
	}
	return fmt.Sprintf("the blocklist entry of %s %s, too soon to rely on, and Ceph never changes the end of an entry that stands. rbd-rescue waits for that, and writes its own then, of ten years. "+
		"Or remove it by hand: ceph osd blocklist rm %s; rbd-rescue then writes its own at once. Between the two the client may write: %s",
		c.Address, ends(s.Now, until), c.Address, gap)
}

// ends: where the monitor does not tell its time zone (Ceph before 15), the earliest end that can be meant is known, and may be past.
func ends(now, until time.Time) string {
	if until.After(now) {
		return "ends at " + until.UTC().Format(time.RFC3339)
	}
	return "is about to end"
}

// tellEndsTooSoon warns of an entry that proves nothing, and has it looked at when it ends, and every second until Ceph has dropped it.
func (d *draft) tellEndsTooSoon(c v1alpha1.FencedClient, until time.Time) {
	d.announceNode(warning, v1alpha1.ReasonFenceUnproven, "Fence", fmt.Sprintf(
		"Cannot rely on the fence of node %s: %s.", d.s.NodeName, endsTooSoon(d.s, c, until)))
	if late := d.s.Now.Sub(until); late < time.Minute {
		d.look(max(-late, time.Second))
	}
}

// entriesLeft are the entries that a lift leaves in Ceph, since they are somebody else's, with what a person needs to remove them;
// ranges of hosts among them, which cut the node off as well.
func (d *draft) entriesLeft() []string {
	var left []string
	add := func(text string) {
		if !slices.Contains(left, text) {
			left = append(left, text)
		}
	}
	for _, c := range d.status.Clients {
		if c.Foreign && d.isListed(c) {
			add(c.Address)
		}
		if address, err := ceph.ParseAddress(c.Address); err == nil {
			for _, network := range d.s.Clusters[c.ClusterID].Map.RangesWith(address.IP) {
				add("range " + network.String())
			}
		}
	}
	return left
}

// tellLeft warns of them.
func (d *draft) tellLeft() {
	left := d.entriesLeft()
	if len(left) == 0 {
		return
	}
	var commands []string
	for _, entry := range left {
		if network, is := strings.CutPrefix(entry, "range "); is {
			commands = append(commands, "ceph osd blocklist range rm "+network)
			continue
		}
		commands = append(commands, "ceph osd blocklist rm "+entry)
	}
	d.say(fmt.Sprintf("%s. Left on the blocklist, since somebody else has put it there: %s", d.status.Message, strings.Join(left, ", ")))
	d.announceNode(warning, v1alpha1.ReasonEntryLeft, "Lift", fmt.Sprintf(
		"Left on the blocklist beside the lifted fence of node %s: %s. Somebody else has put it there before rbd-rescue asked for it; a whole host or a range keeps the node from mapping images. "+
			"If nobody needs it any more: %s", d.s.NodeName, strings.Join(left, ", "), strings.Join(commands, "; ")))
}
