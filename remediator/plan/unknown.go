package plan

import (
	"time"

	"github.com/rbd-rescue/rbd-rescue/api/v1alpha1"
	"github.com/rbd-rescue/rbd-rescue/ceph"
)

// longLived entries are not Ceph's own (an hour, or a day for a manager), but may be rbd-rescue's.
const longLived = 30 * 24 * time.Hour

// UnknownEntries are the long-lived entries that no active NodeFence lists, in no order.
func UnknownEntries(m ceph.OSDMap, fences []*v1alpha1.NodeFence, now time.Time) []ceph.Address {
	var unknown []ceph.Address
	for address, until := range m.Blocklist {
		if until.Sub(now) > longLived && NeededBy(fences, address.String()) == "" {
			unknown = append(unknown, address)
		}
	}
	return unknown
}
