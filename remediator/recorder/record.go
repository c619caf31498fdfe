package recorder

import (
	"maps"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

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
	// running are the pods that ran with the volume, by the node's name, listed before the watchers were.
	running map[string][]types.UID
	// others are the addresses that nodes which do not have the volume report as their own, and those of pods on other nodes than the one
	// that has it; these are asked for only where a watcher is unplaced.
	others map[netip.Addr]string
	// mirrors are the hosts of rbd-mirror daemons, where the image is mirrored; mayBeMirrors tells that there may be more, of
	// another site, at addresses that nobody has named.
	mirrors      map[netip.Addr]bool
	mayBeMirrors bool
	// daemons are the hosts of Ceph's own daemons; read only where a watcher is unplaced.
	daemons map[netip.Addr]ceph.Daemon
	// staged are the hosts from which ceph-csi says that its nodes use the image, by the node's name.
	staged map[string]netip.Addr
}

// next gives the record after a sighting, and whether for every attached node it has the clients of the current boot, looked
// at since each pod there runs.
//
// A watcher belongs to a node if it lies on an address of that node and of no other, or if the volume is attached to
// that node alone and the watcher can be nobody else's: not rbd-rescue's, not on the address of another node or of a pod there (a CSI
// provisioner: a snapshot, a resize), not recorded for another node of this volume, not on the host of a daemon of Ceph that opens images (a manager: a flatten, a scheduled
// snapshot; a gateway; rbd-mirror), unless ceph-csi says that the node uses the image from there. Only nodes that are Ready are recorded: after a failure a watcher may be anybody's (rook#14832).
//
// That a node has booted is noted at once, Ready or not, with no client yet: should its Node object go, the record alone tells
// which boot it was (S3).
//
// A pod counts as looked at only when it ran before the watchers were listed, and one of them is the node's: each new
// mapping may be a new client.
//
// No entry is ever dropped, though a record grows with each node that had the volume. A node that is gone may still run, and nothing
// else tells whoever restores the volume (S3). Of one that has booted since, the entry tells from which address the machine reaches the
// cluster, should it get the volume again and fail before its client is seen (S1: plan's hosts), and whose a watch is that outlives the
// boot (S2: belongs).
func next(s sighting) (v1alpha1.ClientRecord, bool) {
	record := v1alpha1.ClientRecord{}
	maps.Copy(record, s.record)
	complete := true
	for _, node := range s.attached {
		if volume.BootID(node) == "" {
			complete = false
			continue
		}
		entry, known := ofThisBoot(record, node)
		if known {
			record[node.Name] = entry
		}
		if !volume.Ready(node) {
			complete = false
			continue
		}
		running, seen := s.running[node.Name], []string(nil)
		for _, watcher := range s.watchers {
			text := watcher.Address.String()
			if !s.belongs(watcher.Address, node) || slices.Contains(entry.Before, text) {
				continue
			}
			seen = append(seen, text)
			if !slices.Contains(entry.Clients, text) {
				entry.Clients = append(slices.Clone(entry.Clients), text)
			}
		}
		if len(entry.Clients) == 0 {
			complete = false
			continue
		}
		entry.Clients = newest(entry.Clients, seen)
		if len(seen) > 0 {
			entry.Pods, entry.Addresses = running, texts(volume.Addresses(node))
		}
		complete = complete && coversAll(entry, running)
		record[node.Name] = entry
	}
	return record, complete
}

// ofThisBoot is what the record has of the node's current boot, and whether it knows the node at all. Clients of the boot
// before are kept apart: they are over, but their watches outlive them for a while.
func ofThisBoot(record v1alpha1.ClientRecord, node *corev1.Node) (entry v1alpha1.NodeClients, known bool) {
	entry, known = record[node.Name]
	if entry.BootID == volume.BootID(node) {
		entry.NodeUID = node.UID // a Node object made anew is the same machine's, and so are the clients
		entry.MachineID, entry.SystemUUID = node.Status.NodeInfo.MachineID, node.Status.NodeInfo.SystemUUID
		return entry, known
	}
	replaced := entry.Replaced
	if info := node.Status.NodeInfo; known && (entry.MachineID != info.MachineID || entry.SystemUUID != info.SystemUUID) {
		replaced = newest(slices.Concat(replaced, entry.Clients), nil)
	}
	return v1alpha1.NodeClients{
		NodeUID: node.UID, BootID: volume.BootID(node), MachineID: node.Status.NodeInfo.MachineID, SystemUUID: node.Status.NodeInfo.SystemUUID,
		Addresses: texts(volume.Addresses(node)), Clients: []string{}, Before: newest(slices.Concat(entry.Before, entry.Clients), nil), Replaced: replaced,
	}, known
}

// newest are the last of many clients, and those that were seen just now, however long they are known: a node's one client may be
// as old as its boot (S1).
func newest(clients, seen []string) []string {
	surplus := len(clients) - clientsKept
	return slices.DeleteFunc(slices.Clone(clients), func(client string) bool {
		if surplus <= 0 || slices.Contains(seen, client) {
			return false
		}
		surplus--
		return true
	})
}

func texts(ips []netip.Addr) []string {
	var list []string
	for _, ip := range ips {
		list = append(list, ip.String())
	}
	return list
}

func coversAll(entry v1alpha1.NodeClients, pods []types.UID) bool {
	return !slices.ContainsFunc(pods, func(pod types.UID) bool { return !entry.Covers(pod) })
}

// unplaced are the addresses of watchers that are no node's: these would be taken for the one node's that has the volume.
func (s sighting) unplaced() []netip.Addr {
	if len(s.attached) != 1 {
		return nil
	}
	var ips []netip.Addr
	for _, watcher := range s.watchers {
		ip := watcher.Address.IP
		if slices.Contains(s.own, watcher.Address) || s.others[ip] != "" || slices.Contains(volume.Addresses(s.attached[0]), ip) {
			continue
		}
		if !slices.Contains(ips, ip) {
			ips = append(ips, ip)
		}
	}
	return ips
}

// excludes tells whether a record has a new client that lies on no address of its node: it is taken for the node's since no other
// node has the volume.
func (s sighting) excludes(record v1alpha1.ClientRecord) bool {
	for _, node := range s.attached {
		for _, text := range record[node.Name].Clients {
			address, err := ceph.ParseAddress(text)
			known := slices.Contains(s.record[node.Name].Clients, text)
			if err == nil && !known && !slices.Contains(volume.Addresses(node), address.IP) {
				return true
			}
		}
	}
	return false
}

func (s sighting) belongs(address ceph.Address, node *corev1.Node) bool {
	if slices.Contains(s.own, address) {
		return false
	}
	for name, clients := range s.record {
		if name != node.Name && slices.Contains(slices.Concat(clients.Clients, clients.Before), address.String()) {
			return false
		}
	}
	for _, other := range s.attached {
		if other.Name != node.Name && slices.Contains(volume.Addresses(other), address.IP) {
			return false
		}
	}
	switch {
	case s.others[address.IP] != "":
		return false
	case slices.Contains(volume.Addresses(node), address.IP):
		return true
	case s.mirrors[address.IP] || s.mayBeMirrors:
		return false
	case s.daemons[address.IP].OpensImages() && s.staged[node.Name] != address.IP:
		return false
	default:
		return len(s.attached) == 1
	}
}
