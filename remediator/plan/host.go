package plan

import (
	"fmt"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/rbd-rescue/rbd-rescue/api/v1alpha1"
	"github.com/rbd-rescue/rbd-rescue/ceph"
	"github.com/rbd-rescue/rbd-rescue/volume"
)

// isHost tells whether an entry cuts off every client of an IP: the blocklist takes nonce 0 for all.
func isHost(address ceph.Address) bool { return address.Nonce == 0 }

func scopeOf(address ceph.Address) v1alpha1.FenceScope {
	if isHost(address) {
		return v1alpha1.ScopeHost
	}
	return v1alpha1.ScopeClient
}

// hosts are the IPs on which the node's unknown clients must lie: those that a record or ceph-csi names for the node in this
// cluster, in whatever boot; and, unless that is one of them, the addresses that it reports, if the clients of the other nodes
// lie on theirs: a record may have somebody else's address, and a fence of that alone would prove nothing (S1). Where storage
// has a network of its own, a node's addresses say nothing about its clients: if nothing else tells them it refuses.
func hosts(s Snapshot, v Volume) (sources, *refusal) {
	var hosts sources
	for _, u := range s.Volumes {
		if !sameCluster(s, u.ClusterID, v.ClusterID) {
			continue
		}
		if u.Record != nil {
			for _, text := range slices.Concat(u.Record.Clients, u.Record.Before) {
				if address, err := ceph.ParseAddress(text); err == nil {
					hosts.add(address.Host(), "record")
				}
			}
		}
		if ip, ok := u.Use.Staged[s.NodeName]; ok {
			hosts.add(ceph.Address{IP: ip}, "ceph-csi")
		}
	}
	own := s.ownAddresses()
	known := slices.ContainsFunc(hosts.addresses, func(a ceph.Address) bool { return slices.Contains(own, a.IP) })
	if !known && s.NodeAddressed[v.ClusterID] {
		for _, ip := range own {
			hosts.add(ceph.Address{IP: ip}, "node")
		}
	}
	if len(hosts.addresses) == 0 {
		return hosts, &refusal{v1alpha1.ReasonClientUnknown, fmt.Sprintf(
			"nothing tells which Ceph clients node %s has on image %s, nor from which address; find them out, and make a NodeFence that names them in spec.clients, "+
				"or make sure that the machine is off and follow the manual runbook", s.NodeName, v.ImageName())}
	}
	return hosts, nil
}

// protectedHost refuses to fence an IP on which anybody else may live (S2). A person who has named it knows better where
// nothing is known, not where somebody else is seen there.
func protectedHost(s Snapshot, v Volume, ip netip.Addr, named bool) *refusal {
	cluster := s.Clusters[v.ClusterID]
	instead := fmt.Sprintf("find out the clients of node %s on image %s, and make a NodeFence that names them in spec.clients", s.NodeName, v.ImageName())
	switch {
	case slices.ContainsFunc(cluster.Own, func(a ceph.Address) bool { return a.IP == ip }):
		return &refusal{v1alpha1.ReasonOwnClient, fmt.Sprintf(
			"the whole host %s would have to be fenced, and rbd-rescue itself reaches Ceph from there; %s", ip, instead)}
	case s.OtherNodes[ip] != "":
		return &refusal{v1alpha1.ReasonSharedAddress, fmt.Sprintf(
			"the whole host %s would have to be fenced, and it is the address of node %s too; %s", ip, s.OtherNodes[ip], instead)}
	case s.OtherHosts[ip] != "":
		return &refusal{v1alpha1.ReasonSharedAddress, fmt.Sprintf(
			"the whole host %s would have to be fenced, and Ceph sees clients of node %s there too (NAT, or a pod network?); %s", ip, s.OtherHosts[ip], instead)}
	case s.OtherPods[ip] != "":
		return &refusal{v1alpha1.ReasonSharedAddress, fmt.Sprintf(
			"the whole host %s would have to be fenced, and it is the address of a pod on node %s, as of a CSI provisioner; if node %s has no clients there, take them out of annotation %s of its PersistentVolumes; if it has, %s",
			ip, s.OtherPods[ip], s.NodeName, v1alpha1.AnnotationClients, instead)}
	case stagedElsewhere(s, v.ClusterID, ip) != "":
		return &refusal{v1alpha1.ReasonSharedAddress, fmt.Sprintf(
			"the whole host %s would have to be fenced, and ceph-csi says that node %s uses it too (NAT, or a pod network?); %s", ip, stagedElsewhere(s, v.ClusterID, ip), instead)}
	case !named && s.mayBeAt(v.ClusterID, ip) != "":
		return &refusal{v1alpha1.ReasonSharedAddress, fmt.Sprintf(
			"the whole host %s would have to be fenced, and node %s may reach Ceph from there too: no record tells from where it does; %s, or name %s if no other node uses that address",
			ip, s.mayBeAt(v.ClusterID, ip), instead, ceph.Address{IP: ip})}
	case cluster.Mirrors[ip]:
		return &refusal{v1alpha1.ReasonCephDaemonHost, fmt.Sprintf(
			"the whole host %s would have to be fenced, and an rbd-mirror daemon lives there; %s", ip, instead)}
	case daemonsUnknown(cluster) != nil:
		return daemonsUnknown(cluster)
	case cluster.Daemons[ip] != "":
		return &refusal{v1alpha1.ReasonCephDaemonHost, fmt.Sprintf(
			"the whole host %s would have to be fenced, and %s lives there; %s", ip, cluster.Daemons[ip], instead)}
	}
	return nil
}

// OnAnotherNode tells whether a node other than the one of that name reports the IP of an entry as its own, and the whole host is
// meant, or the one of that name does not report it (S2).
func OnAnotherNode(nodes []*corev1.Node, name string, address ceph.Address) bool {
	elsewhere, moved := false, false
	for _, node := range nodes {
		has := slices.Contains(volume.Addresses(node), address.IP)
		elsewhere = elsewhere || has && node.Name != name
		moved = moved || !has && node.Name == name
	}
	return elsewhere && (isHost(address) || moved)
}

// daemonsUnknown refuses where it is not known on which hosts Ceph's own daemons live.
func daemonsUnknown(cluster Cluster) *refusal {
	switch {
	case cluster.DaemonsError != nil:
		return &refusal{v1alpha1.ReasonCephUnreachable, cluster.DaemonsError.Error()}
	case cluster.Daemons == nil:
		return &refusal{v1alpha1.ReasonCephUnreachable, "the hosts of Ceph's daemons are not known yet"}
	default:
		return nil
	}
}

// mayBeAt is another node that may reach the cluster from an IP; empty for none. From a node's own address it does only where
// clients lie elsewhere than on their node's addresses; any other IP may be a gateway for every node whose own is not known.
func (s Snapshot) mayBeAt(clusterID string, ip netip.Addr) string {
	switch {
	case !s.ownsAlone(ip):
		return s.Unlocated[clusterID].Node
	case !s.NodeAddressed[clusterID]:
		return s.Unlocated[clusterID].WithVolumes
	default:
		return ""
	}
}

// stagedElsewhere is another node that ceph-csi saw at an IP; empty for none.
func stagedElsewhere(s Snapshot, clusterID string, ip netip.Addr) string {
	for _, v := range s.Volumes {
		for node, staged := range v.Use.Staged {
			if node != s.NodeName && staged == ip && sameCluster(s, v.ClusterID, clusterID) {
				return node
			}
		}
	}
	return ""
}

// MayFenceHost tells whether a whole host may have to be cut off from a cluster, so that it matters who else lives there.
func MayFenceHost(s Snapshot, clusterID string) bool {
	return anyHeld(s, clusterID, func(clients sources, known bool) bool {
		return !known || slices.ContainsFunc(clients.addresses, isHost)
	})
}

// MayFenceElsewhere tells whether a client may have to be cut off that is on none of the node's own addresses, so that it matters
// whether a daemon of Ceph lives there. Other nodes need not be located for it.
func MayFenceElsewhere(s Snapshot, clusterID string) bool {
	own := s.ownAddresses()
	return anyHeld(s, clusterID, func(clients sources, _ bool) bool {
		return slices.ContainsFunc(clients.addresses, func(a ceph.Address) bool { return !slices.Contains(own, a.IP) })
	})
}

// anyHeld tells whether a condition holds for the clients of any volume of a cluster that the node has; known tells whether
// they are all.
func anyHeld(s Snapshot, clusterID string, holds func(clients sources, known bool) bool) bool {
	if s.Fence == nil {
		return false
	}
	for _, v := range s.Volumes {
		var clients sources
		if v.ClusterID != clusterID || v.FormError != nil || v.UseError != nil || !HeldBy(s, v) {
			continue
		}
		known, r := collect(s, v, &clients)
		// A refusal may be over once the clients of other nodes are known, which are read later.
		if holds(clients, known && r == nil) {
			return true
		}
	}
	return false
}

// sameCluster: one Ceph cluster may have several clusterIDs, one for each of its RADOS namespaces (facts/field.md §3).
func sameCluster(s Snapshot, a, b string) bool {
	if a == b {
		return true
	}
	fsid := s.Clusters[a].Map.FSID
	return fsid != "" && fsid == s.Clusters[b].Map.FSID
}

// tellTaken warns where another node reports an address that is cut off as a whole, as one that took it after the fence: it is not
// known which machine is there, so that the entry stays (S4), and that node can map no image.
func (d *draft) tellTaken() {
	for _, c := range d.status.Clients {
		address, err := ceph.ParseAddress(c.Address)
		other := d.s.OtherNodes[address.IP]
		if err != nil || c.Until == nil || !isHost(address) || other == "" {
			continue
		}
		// kubectl describe finds a node's events by its name in place of the UID as well, as the kubelet has it.
		node := corev1.ObjectReference{APIVersion: "v1", Kind: "Node", Name: other, UID: types.UID(other)}
		d.announceBoth(node, Event{Type: warning, Reason: v1alpha1.ReasonFencedAddressTaken, Action: "Fence", Note: fmt.Sprintf(
			"Node %s reports address %s, which is fenced for boot %s of node %s: it can map no RBD image. If the machine of that boot is off: kubectl annotate nodefence %s %s=%s",
			other, address.IP, d.s.Fence.Spec.BootID, d.s.NodeName, d.s.Fence.Name, v1alpha1.AnnotationLift, d.s.Fence.Spec.BootID)})
	}
}
