package recorder

import (
	"maps"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"github.com/rbd-rescue/rbd-rescue/api/v1alpha1"
	"github.com/rbd-rescue/rbd-rescue/ceph"
	"github.com/rbd-rescue/rbd-rescue/volume"
)

// clientsKept is how many clients of one boot a record holds: each remap with no other image mapped makes a new one.
const clientsKept = 16

// sighting is what was seen of one image at one time.
type sighting struct {
	// record as it stands.
	record v1alpha1.ClientRecord
	// attached are the nodes that the volume is attached to.
	attached []*corev1.Node
	// watchers of the image, and rbd-rescue's own addresses.
	watchers []ceph.Watcher
	own      []ceph.Address
	// others are the addresses that nodes which do not have the volume report as their own.
	others map[netip.Addr]string
}

// next gives the record after a sighting, and whether every attached node has a client of its current boot in it.
//
// A watcher belongs to a node if it lies on an address of that node and of no other, or if the volume is attached to
// that node alone and the watcher can be nobody else's: not rbd-rescue's, not on the address of another node, not
// recorded for another node of this volume. Only nodes that are Ready are recorded: after a failure a watcher may be
// anybody's (rook#14832).
func next(s sighting) (v1alpha1.ClientRecord, bool) {
	record := v1alpha1.ClientRecord{}
	maps.Copy(record, s.record)
	complete := true
	for _, node := range s.attached {
		if !volume.Ready(node) || volume.BootID(node) == "" {
			complete = false
			continue
		}
		entry := record[node.Name]
		if entry.BootID != volume.BootID(node) || entry.NodeUID != node.UID {
			entry = v1alpha1.NodeClients{NodeUID: node.UID, BootID: volume.BootID(node)} // the boot before is over
		}
		for _, watcher := range s.watchers {
			text := watcher.Address.String()
			if s.belongs(watcher.Address, node) && !slices.Contains(entry.Clients, text) {
				entry.Clients = append(slices.Clone(entry.Clients), text)
			}
		}
		if len(entry.Clients) == 0 {
			complete = false
			continue
		}
		entry.Clients = entry.Clients[max(0, len(entry.Clients)-clientsKept):]
		record[node.Name] = entry
	}
	return record, complete
}

func (s sighting) belongs(address ceph.Address, node *corev1.Node) bool {
	if slices.Contains(s.own, address) {
		return false
	}
	for name, clients := range s.record {
		if name != node.Name && slices.Contains(clients.Clients, address.String()) {
			return false
		}
	}
	for _, other := range s.attached {
		if other.Name != node.Name && slices.Contains(volume.Addresses(other), address.IP) {
			return false
		}
	}
	if s.others[address.IP] != "" {
		return false
	}
	return len(s.attached) == 1 || slices.Contains(volume.Addresses(node), address.IP)
}
