package doctor

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/rbd-rescue/rbd-rescue/api/v1alpha1"
	"github.com/rbd-rescue/rbd-rescue/ceph"
	"github.com/rbd-rescue/rbd-rescue/volume"
)

// settling is how long staging and the recorder's next look may take after an attachment or a pod's start.
const settling = 2 * time.Minute

// records: for each volume in use the clients of the node's current boot are on record, looked at since each pod runs.
func records(f Inside, r *report) string {
	missing := map[string][]string{}
	covered := 0
	for _, v := range f.Volumes {
		if v.RecordError != nil {
			r.fail(fmt.Sprintf("Remove the annotation, and it is written anew: kubectl annotate pv %s %s-.", v.Name, v1alpha1.AnnotationClients),
				"The record of PersistentVolume %s cannot be read: %v; the volume would be refused.", v.Name, v.RecordError)
			continue
		}
		if v.ReadOnly || v.FormError != nil || f.cluster(v.ClusterID) == nil {
			continue // never recorded, or another check's
		}
		for _, use := range v.Nodes {
			node := f.node(use.Node)
			switch {
			case node == nil || !volume.Ready(node) || f.Now.Sub(use.Since) < settling:
			case complete(v.Record[use.Node], node, use.Pods):
				covered++
			default:
				missing[use.Node] = append(missing[use.Node], fmt.Sprintf("%s (claim %s)", v.Name, v.Claim))
			}
		}
	}
	for _, name := range sortedKeys(missing) {
		why := f.hostRefused(name)
		remedy := fmt.Sprintf("It is looked for every minute. If it stays so, see what the remediator says of the volume: kubectl -n %s logs deployment/rbd-rescue-remediator --all-pods; "+
			"`rbd status` shows the image's watcher.", f.Namespace)
		if why == "" {
			r.warn(remedy, "Which Ceph clients node %s has is not on record for %s: its whole host would be fenced.", name, some(missing[name]))
			continue
		}
		r.fail(remedy, "Which Ceph clients node %s has is not on record for %s, and its whole host may not be fenced: %s.", name, some(missing[name]), why)
	}
	return fmt.Sprintf("The Ceph clients of every volume in use are on record (%d).", covered)
}

// complete: what plan asks of a record before it fences single clients.
func complete(record v1alpha1.NodeClients, node *corev1.Node, pods []*corev1.Pod) bool {
	return record.BootID == volume.BootID(node) && len(record.Clients) > 0 &&
		!slices.ContainsFunc(pods, func(pod *corev1.Pod) bool { return !record.Covers(pod.UID) })
}

// hostRefused says why the whole host of a node would not be fenced; empty if it would.
func (f Inside) hostRefused(name string) string {
	for _, ip := range volume.Addresses(f.node(name)) {
		for i := range f.Nodes {
			if other := &f.Nodes[i]; other.Name != name && slices.Contains(volume.Addresses(other), ip) {
				return fmt.Sprintf("node %s reports its address %s too", other.Name, ip)
			}
		}
		for _, c := range f.Clusters {
			if daemon := c.Daemons[ip]; daemon != "" {
				return fmt.Sprintf("%s of Ceph cluster %s lives there (%s)", daemon, c.ID, ip)
			}
		}
	}
	return ""
}

// addresses: from where nodes reach Ceph, as their records tell: from an address of their own, and of no other node.
func addresses(f Inside, r *report) string {
	seen := f.seenAt()
	owners := map[netip.Addr]string{}
	for i := range f.Nodes {
		for _, ip := range volume.Addresses(&f.Nodes[i]) {
			owners[ip] = f.Nodes[i].Name
		}
	}
	remedy := "Ceph's nodes plugin has to use the host's network (hostNetwork: true), with no NAT between nodes and Ceph."
	strangers := map[string]netip.Addr{}
	located := map[string]bool{}
	for _, ip := range slices.SortedFunc(maps.Keys(seen), netip.Addr.Compare) {
		nodes := seen[ip]
		for _, name := range nodes {
			located[name] = true
			owner, owned := owners[ip]
			switch {
			case owned && owner != name && !slices.Contains(volume.Addresses(f.node(name)), ip):
				r.fail(remedy, "Node %s reaches Ceph from %s, which is the address of node %s: its clients would be refused (HealthyClient).", name, ip, owner)
			case !owned:
				strangers[name] = ip
			}
		}
		if len(nodes) > 1 {
			r.fail(remedy, "Nodes %s reach Ceph from the same address %s: none of them can be fenced as a host (SharedAddress).", some(nodes), ip)
		}
	}
	if names := sortedKeys(strangers); len(names) > 0 {
		r.warn("Where storage has a network of its own this is as it should be. Otherwise: "+remedy,
			"These nodes reach Ceph from an address that they do not report: %s (%s from %s). Where a client of theirs is not on record, or may be a manager's of Ceph, they are refused.",
			some(names), names[0], strangers[names[0]])
	}
	if len(located) == 0 {
		return "No node has a Ceph client on record yet."
	}
	return fmt.Sprintf("Every node with a client on record reaches Ceph from an address of its own (%d).", len(located))
}

// seenAt are the nodes whose recorded clients of the current boot lie at each address.
func (f Inside) seenAt() map[netip.Addr][]string {
	seen := map[netip.Addr][]string{}
	for _, v := range f.Volumes {
		for name, record := range v.Record {
			node := f.node(name)
			if node == nil || record.BootID != volume.BootID(node) {
				continue
			}
			for _, text := range record.Clients {
				if address, err := ceph.ParseAddress(text); err == nil && !slices.Contains(seen[address.IP], name) {
					seen[address.IP] = append(seen[address.IP], name)
				}
			}
		}
	}
	return seen
}
