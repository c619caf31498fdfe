package plan

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/rbd-rescue/rbd-rescue/api/v1alpha1"
	"github.com/rbd-rescue/rbd-rescue/ceph"
	"github.com/rbd-rescue/rbd-rescue/volume"
)

// refusal is a decision not to act, with its reason for machines and a sentence for people.
type refusal struct {
	reason, message string
}

// sources are the addresses through which a boot writes to a volume, and where each is known from.
type sources struct {
	addresses []ceph.Address
	from      map[ceph.Address]string
}

func (c *sources) add(address ceph.Address, from string) {
	if c.from == nil {
		c.from = map[ceph.Address]string{}
	}
	known, ok := c.from[address]
	if !ok {
		c.addresses = append(c.addresses, address)
	}
	switch {
	case known == "":
		c.from[address] = from
	case from != "" && !slices.Contains(strings.Split(known, "+"), from):
		c.from[address] = known + "+" + from
	}
}

func (c *sources) has(address ceph.Address) bool { return slices.Contains(c.addresses, address) }

// clientsOf gives the addresses to fence for a volume: what the incident settled before (a fenced client no longer shows as
// a watcher), what a person names, the record of this very boot, and the watchers and lock owners that are the node's. Where one of this boot's clients may be missing among them it is the whole host; see hosts.
//
// It refuses (S2) when
//   - Ceph does not tell who uses the image, or a record cannot be read;
//   - an address is rbd-rescue's own, or is recorded for, or lies on the address of, another node or a pod there;
//   - an address is on the host of a daemon of Ceph that opens images, which is not the node's own address, and neither ceph-csi nor a person
//     has named it;
//   - a watcher or lock owner is nobody's that is known: it may be anybody's;
//   - the whole host would have to be fenced, and that may not be.
func clientsOf(s Snapshot, v Volume) (sources, *refusal) {
	var clients sources
	if v.UseError != nil {
		return clients, &refusal{v1alpha1.ReasonCephUnreachable, v.UseError.Error()}
	}
	known, r := collect(s, v, &clients)
	if r != nil {
		return clients, r
	}
	if !known {
		hosts, r := hosts(s, v)
		for _, host := range hosts.addresses {
			if r == nil {
				r = protected(s, v, host, clients.from[host] == "person")
			}
		}
		switch {
		case r == nil:
			for _, host := range hosts.addresses {
				clients.add(host, hosts.from[host])
			}
		case moved(s, v) && len(clients.addresses) > 0: // nothing is released behind them, and to cut off what is known is better than nothing
		default:
			return clients, r
		}
	}
	for _, address := range clients.addresses {
		if r := protected(s, v, address, strings.Contains(clients.from[address], "person")); r != nil {
			return clients, r
		}
	}
	return clients, nil
}

// collect gathers the addresses, and tells whether they are all that this boot can have. They never are
//   - where a client is a process (rbd-nbd): a node that is cut off from the API may start it again at any time;
//   - where the Node object is gone, but for a live watcher: nobody may have noted the machine's last boot, and pods outlive a
//     boot, so that a record or what was settled may be of the one before.
func collect(s Snapshot, v Volume, clients *sources) (known bool, r *refusal) {
	unreadable := func(what string, err error) *refusal {
		return &refusal{v1alpha1.ReasonClientUnknown, fmt.Sprintf("%s cannot be read: %v", what, err)}
	}
	settled := settledClients(s, v)
	for _, list := range []struct {
		texts []string
		from  string
		what  string
	}{
		{settled, "", "the NodeFence's own status"},
		{s.Fence.Spec.Clients, "person", "spec.clients of the NodeFence"},
		{recordedClients(s, v), "record", fmt.Sprintf("annotation %s of PersistentVolume %s", v1alpha1.AnnotationClients, v.Name)},
	} {
		for _, text := range list.texts {
			address, err := ceph.ParseAddress(text)
			if err != nil {
				return false, unreadable(list.what, err)
			}
			clients.add(address, list.from)
		}
	}
	for _, address := range clients.addresses {
		if r := anotherPods(s, v, address, strings.Contains(clients.from[address], "person")); r != nil {
			return false, r
		}
	}
	if v.RecordError != nil {
		return false, unreadable(fmt.Sprintf("annotation %s of PersistentVolume %s", v1alpha1.AnnotationClients, v.Name), v.RecordError)
	}
	live, r := liveClients(s, v, clients)
	known = live || s.Node != nil && (recordIsComplete(s, v) || len(settled) > 0 && !mayHaveRemapped(s, v))
	return len(s.Fence.Spec.Clients) > 0 || known && !v.Userspace, r
}

// liveClients takes the watchers and lock owners of the image that are the node's, and tells whether a watcher is among
// them: a mapping has one watcher, so that there is no other then.
func liveClients(s Snapshot, v Volume, clients *sources) (live bool, r *refusal) {
	for _, watcher := range v.Use.Watchers {
		mine, r := belongs(s, v, watcher.Address, clients)
		if r != nil {
			return false, r
		}
		if mine {
			clients.add(watcher.Address, "watcher")
			live = true
		}
	}
	for _, owner := range v.Use.LockOwners {
		mine, r := belongs(s, v, owner, clients)
		if r != nil {
			return false, r
		}
		if mine {
			clients.add(owner, "lock")
		}
	}
	return live, nil
}

// belongs tells whether a client that is seen on the image is the node's. One of another node is taken for its own as well,
// so that protected refuses it by that node's name; on a volume that several nodes may have, or that Kubernetes has moved, it is there
// by right, be it on record yet or not.
func belongs(s Snapshot, v Volume, address ceph.Address, clients *sources) (bool, *refusal) {
	byRight := v.Shared || moved(s, v)
	mirror := v.Use.Mirrored && s.Clusters[v.ClusterID].Mirrors[address.IP]
	switch {
	case slices.Contains(s.Clusters[v.ClusterID].Own, address):
		return false, nil
	case clients.has(address):
		return true, nil
	case s.OtherPods[address.IP] != "" && byRight:
		return false, nil
	case s.OtherPods[address.IP] != "" && !mirror:
		return false, &refusal{v1alpha1.ReasonForeignClient, fmt.Sprintf(
			"image %s is also open at %s, the address of a pod on node %s, as a CSI provisioner opens it for a snapshot or a resize; once that has closed it the fence goes on by itself; if it is node %s's all the same, make a NodeFence that names it in spec.clients",
			v.ImageName(), address, s.OtherPods[address.IP], s.NodeName)}
	case s.OtherClients[address] != "":
		return !byRight, nil
	case mirror:
		return false, nil // it may be the daemon's alone, so that it does not make the node's known either
	case byRight && s.OtherNodes[address.IP] != "" && !slices.Contains(s.ownAddresses(), address.IP):
		return false, nil
	case !s.ownsAlone(address.IP) && v.Use.Mirrored:
		return false, &refusal{v1alpha1.ReasonForeignClient, fmt.Sprintf(
			"image %s is mirrored, and open at %s, which is not known to be node %s; if an rbd-mirror daemon of another site runs there, name its host in mirrorHosts (the remediator's file); if it is the node's, make a NodeFence that names it in spec.clients",
			v.ImageName(), address, s.NodeName)}
	case !s.ownsAlone(address.IP):
		return false, &refusal{v1alpha1.ReasonForeignClient, fmt.Sprintf(
			"image %s is also open at %s, which is not known to be node %s; if it is a left-over client, end it, and the fence goes on by itself; if it is the node's, make a NodeFence that names it in spec.clients",
			v.ImageName(), address, s.NodeName)}
	default:
		return true, nil
	}
}

// anotherPods refuses a client at the address of a pod on another node (S2). The recorder leaves these out, but not where an earlier
// version looked, nor where a pod got the address later. Open or not, it must not make the node's clients known (S1).
func anotherPods(s Snapshot, v Volume, address ceph.Address, named bool) *refusal {
	other := s.OtherPods[address.IP]
	if other == "" || named || isHost(address) {
		return nil
	}
	return &refusal{v1alpha1.ReasonHealthyClient, fmt.Sprintf(
		"client %s of image %s has the address of a pod on node %s, as a CSI provisioner; if it is node %s's all the same, make a NodeFence that names it in spec.clients%s",
		address, v.ImageName(), other, s.NodeName, orOffRecord(s, v, address))}
}

// orOffRecord says what to do about a client that the volume's record has and that is not the node's; empty if it has not.
func orOffRecord(s Snapshot, v Volume, address ceph.Address) string {
	if !slices.Contains(recordedClients(s, v), address.String()) {
		return ""
	}
	return fmt.Sprintf("; if it is not node %s's, take it out of annotation %s of PersistentVolume %s", s.NodeName, v1alpha1.AnnotationClients, v.Name)
}

// settledClients are the addresses that the incident settled for the volume in an earlier look, for as long as they may be all.
func settledClients(s Snapshot, v Volume) []string {
	if HeldAnew(s, v) {
		return nil
	}
	for _, entry := range s.Fence.Status.Volumes {
		if entry.PersistentVolume == v.Name {
			return entry.Clients
		}
	}
	return nil
}

// mayHaveRemapped tells whether the node may have got a client for the volume since its clients were settled: it came back
// meanwhile, and has a pod there that nobody has looked at, or may have had one.
func mayHaveRemapped(s Snapshot, v Volume) bool {
	entry, _ := entryOf(s.Fence, v.Name)
	return mayHaveAnother(s, v, entry) || slices.ContainsFunc(usersOn(s.NodeName, v), func(pod *corev1.Pod) bool {
		return !slices.Contains(entry.Pods, pod.UID) && (v.Record == nil || !v.Record.Covers(pod.UID))
	})
}

func recordedClients(s Snapshot, v Volume) []string {
	if v.Record == nil || v.Record.BootID != s.Fence.Spec.BootID {
		return nil
	}
	return v.Record.Clients
}

// recordIsComplete tells whether the record is of this very boot, and was taken after every pod that has the image mapped on
// the node had started: each new mapping may have made a client of its own. Where no pod is left to ask, the last one that
// was there may not have been looked at.
func recordIsComplete(s Snapshot, v Volume) bool {
	users := usersOn(s.NodeName, v)
	if len(recordedClients(s, v)) == 0 || len(users) == 0 {
		return false
	}
	return !slices.ContainsFunc(users, func(pod *corev1.Pod) bool { return !v.Record.Covers(pod.UID) })
}

// protected refuses an address that somebody other than the failed node uses (S2).
func protected(s Snapshot, v Volume, address ceph.Address, named bool) *refusal {
	cluster := s.Clusters[v.ClusterID]
	if isHost(address) {
		return protectedHost(s, v, address.IP, named)
	}
	if slices.Contains(cluster.Own, address) {
		return &refusal{v1alpha1.ReasonOwnClient, fmt.Sprintf("client %s of image %s is rbd-rescue's own", address, v.ImageName())}
	}
	if !named && cluster.Mirrors[address.IP] && !slices.Contains(s.ownAddresses(), address.IP) {
		return &refusal{v1alpha1.ReasonCephDaemonHost, fmt.Sprintf(
			"client %s of image %s is on the host of an rbd-mirror daemon, which is not node %s", address, v.ImageName(), s.NodeName)}
	}
	if other := s.OtherClients[address]; other != "" {
		return &refusal{v1alpha1.ReasonHealthyClient, fmt.Sprintf(
			"client %s of image %s is recorded for node %s as well%s", address, v.ImageName(), other, orOffRecord(s, v, address))}
	}
	if other := s.OtherNodes[address.IP]; other != "" && !slices.Contains(s.ownAddresses(), address.IP) {
		return &refusal{v1alpha1.ReasonHealthyClient, fmt.Sprintf(
			"client %s of image %s has the address of node %s%s", address, v.ImageName(), other, orOffRecord(s, v, address))}
	}
	if !named && !slices.Contains(s.ownAddresses(), address.IP) {
		return daemonsClient(s, v, address)
	}
	return nil
}

// daemonsClient refuses a client that is not on the node's own address, and may be that of a daemon of Ceph that opens images
// itself. Where ceph-csi says that the node uses the image from there, the daemon lives on the node, too.
func daemonsClient(s Snapshot, v Volume, address ceph.Address) *refusal {
	cluster := s.Clusters[v.ClusterID]
	if r := daemonsUnknown(cluster); r != nil {
		return r
	}
	if daemon := cluster.Daemons[address.IP]; daemon.OpensImages() && v.Use.Staged[s.NodeName] != address.IP {
		return &refusal{v1alpha1.ReasonCephDaemonHost, fmt.Sprintf(
			"client %s of image %s is on the host of %s, which is not known to be node %s; if it is the node's, make a NodeFence that names it in spec.clients; if not, take it out of annotation %s of PersistentVolume %s",
			address, v.ImageName(), daemon, s.NodeName, v1alpha1.AnnotationClients, v.Name)}
	}
	return nil
}

// ownsAlone tells whether an IP is the failed node's and no other node's, so that a client on it must be this node's.
func (s Snapshot) ownsAlone(ip netip.Addr) bool {
	return slices.Contains(s.ownAddresses(), ip) && s.OtherNodes[ip] == ""
}

// ownAddresses are those that the node reports, or, where its object is gone, those that the records of the boot have.
func (s Snapshot) ownAddresses() []netip.Addr {
	if s.Node != nil {
		return volume.Addresses(s.Node)
	}
	var ips []netip.Addr
	for _, v := range s.Volumes {
		if v.Record == nil || s.Fence == nil || v.Record.BootID != s.Fence.Spec.BootID {
			continue
		}
		for _, text := range v.Record.Addresses {
			if ip, err := netip.ParseAddr(text); err == nil {
				ips = append(ips, ip)
			}
		}
	}
	return ips
}
