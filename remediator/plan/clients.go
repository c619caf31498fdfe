package plan

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/rbd-rescue/rbd-rescue/api/v1alpha1"
	"github.com/rbd-rescue/rbd-rescue/ceph"
	"github.com/rbd-rescue/rbd-rescue/volume"
)

// refusal is a decision not to act, with its reason for machines and a sentence for people.
type refusal struct {
	reason, message string
}

// clientsOf gives the clients through which the boot that failed writes to a volume: the record of that very boot, and
// the watchers that are the node's, and what the incident has settled before: a fenced client no longer shows as a watcher.
// It refuses (S2) when
//   - Ceph does not tell the watchers;
//   - the record cannot be read, or there is neither record nor watcher;
//   - a client is rbd-rescue's own, or is recorded for, or lies on the address of, another node;
//   - a watcher is nobody's that is known: it may be anybody's.
func clientsOf(s Snapshot, v Volume) ([]ceph.Address, *refusal) {
	if v.WatchersError != nil {
		return nil, &refusal{v1alpha1.ReasonCephUnreachable, v.WatchersError.Error()}
	}
	clients, r := settledClients(s, v)
	if r != nil {
		return nil, r
	}
	if v.Record != nil && v.Record.BootID == s.Fence.Spec.BootID {
		for _, text := range v.Record.Clients {
			address, err := ceph.ParseAddress(text)
			if err != nil {
				return nil, &refusal{v1alpha1.ReasonClientUnknown, fmt.Sprintf(
					"annotation %s of PersistentVolume %s cannot be read: %v", v1alpha1.AnnotationClients, v.Name, err)}
			}
			if !slices.Contains(clients, address) {
				clients = append(clients, address)
			}
		}
	}
	own := s.Clusters[v.ClusterID].Own
	for _, watcher := range v.Watchers {
		switch {
		case slices.Contains(own, watcher.Address), slices.Contains(clients, watcher.Address):
		case s.OtherClients[watcher.Address] != "":
			clients = append(clients, watcher.Address) // refused below, with the other node's name
		case !s.ownsAlone(watcher.Address.IP):
			return nil, &refusal{v1alpha1.ReasonForeignClient, fmt.Sprintf(
				"image %s is also open at %s, which is not known to be node %s; if it is a left-over client, end it, and the fence goes on by itself",
				v.ImageName(), watcher.Address, s.nodeName())}
		default:
			clients = append(clients, watcher.Address)
		}
	}
	if len(clients) == 0 {
		return nil, &refusal{v1alpha1.ReasonClientUnknown, fmt.Sprintf(
			"neither a record of boot %s nor a live watcher tells which Ceph client of node %s writes to image %s; make sure that the machine is off, then follow the manual runbook",
			s.Fence.Spec.BootID, s.nodeName(), v.ImageName())}
	}
	for _, address := range clients {
		if r := protected(s, v, address, own); r != nil {
			return nil, r
		}
	}
	return clients, nil
}

// settledClients are the clients that the incident settled for the volume in an earlier look.
func settledClients(s Snapshot, v Volume) ([]ceph.Address, *refusal) {
	var clients []ceph.Address
	for _, entry := range s.Fence.Status.Volumes {
		if entry.PersistentVolume != v.Name {
			continue
		}
		for _, text := range entry.Clients {
			address, err := ceph.ParseAddress(text)
			if err != nil {
				return nil, &refusal{v1alpha1.ReasonClientUnknown, fmt.Sprintf("the NodeFence's own status cannot be read: %v", err)}
			}
			clients = append(clients, address)
		}
	}
	return clients, nil
}

// protected refuses an address that somebody other than the failed node uses (S2).
func protected(s Snapshot, v Volume, address ceph.Address, own []ceph.Address) *refusal {
	if slices.Contains(own, address) {
		return &refusal{v1alpha1.ReasonOwnClient, fmt.Sprintf("client %s of image %s is rbd-rescue's own", address, v.ImageName())}
	}
	if other := s.OtherClients[address]; other != "" {
		return &refusal{v1alpha1.ReasonHealthyClient, fmt.Sprintf(
			"client %s of image %s is recorded for node %s as well", address, v.ImageName(), other)}
	}
	if other := s.OtherNodes[address.IP]; other != "" && !slices.Contains(volume.Addresses(s.nodeOrEmpty()), address.IP) {
		return &refusal{v1alpha1.ReasonHealthyClient, fmt.Sprintf(
			"client %s of image %s has the address of node %s", address, v.ImageName(), other)}
	}
	return nil
}

// ownsAlone tells whether an IP is the failed node's and no other node's, so that a client on it must be this node's.
func (s Snapshot) ownsAlone(ip netip.Addr) bool {
	return s.Node != nil && slices.Contains(volume.Addresses(s.Node), ip) && s.OtherNodes[ip] == ""
}
