package observe

import (
	"context"
	"fmt"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rbd-rescue/rbd-rescue/api/v1alpha1"
	"github.com/rbd-rescue/rbd-rescue/ceph"
	"github.com/rbd-rescue/rbd-rescue/remediator/plan"
	"github.com/rbd-rescue/rbd-rescue/volume"
)

// others finds which other nodes' clients are recorded on the addresses that a decision may come to (S2), and, where a whole
// host may have to be fenced, whether clients lie on their nodes' addresses at all.
func (o *Observer) others(ctx context.Context, s *plan.Snapshot) error {
	s.OtherClients, s.OtherHosts = map[ceph.Address]string{}, map[netip.Addr]string{}
	s.NodeAddressed, s.Unlocated = map[string]bool{}, map[string]plan.Unlocated{}
	current := newBoots(o.Reader, o.Live, s.Health.Nodes)
	for _, ip := range candidates(*s) {
		var pvs corev1.PersistentVolumeList
		if err := o.Reader.List(ctx, &pvs, client.MatchingFields{indexVolumeClientIP: ip.String()}, client.UnsafeDisableDeepCopy); err != nil {
			return fmt.Errorf("finding the records of clients at %s: %w", ip, err)
		}
		there := func(address ceph.Address) bool { return address.IP == ip }
		for i := range pvs.Items {
			err := eachOther(ctx, current, &pvs.Items[i], s.NodeName, there, func(node *corev1.Node, address ceph.Address) {
				s.OtherClients[address] = node.Name
				s.OtherHosts[address.IP] = node.Name
			})
			if err != nil {
				return err
			}
		}
	}
	for id, cluster := range s.Clusters {
		if cluster.Error == nil && plan.MayFenceHost(*s, id) {
			if err := o.locate(ctx, current, id, s); err != nil {
				return err
			}
		}
	}
	return nil
}

// otherPods finds which addresses that a decision may come to, and that are no node's, are those of pods on other nodes (S2).
func (o *Observer) otherPods(ctx context.Context, s *plan.Snapshot) error {
	s.OtherPods = map[netip.Addr]string{}
	for _, ip := range candidates(*s) {
		if s.OtherNodes[ip] != "" || s.Node != nil && slices.Contains(volume.Addresses(s.Node), ip) {
			continue
		}
		node, err := o.NodeOfPod(ctx, ip, s.NodeName)
		if err != nil {
			return err
		}
		if node != "" {
			s.OtherPods[ip] = node
		}
	}
	return nil
}

// locate finds out whether the recorded clients of other nodes lie on the addresses that these report, and which nodes have no
// recorded client. It reads every record and attachment, which only the rare fence of a whole host needs.
func (o *Observer) locate(ctx context.Context, current *boots, clusterID string, s *plan.Snapshot) error {
	volumes, err := o.eachVolume(ctx)
	if err != nil {
		return err
	}
	inCluster, located, onOwnAddress := map[string]bool{}, map[string]bool{}, true
	for pv := range volumes {
		if !volume.IsRBD(pv) {
			continue
		}
		if v, err := volume.Parse(pv); err != nil || v.ClusterID != clusterID {
			continue
		}
		inCluster[pv.Name] = true
		err := eachOther(ctx, current, pv, s.NodeName, anywhere, func(node *corev1.Node, address ceph.Address) {
			located[node.Name] = true
			onOwnAddress = onOwnAddress && slices.Contains(volume.Addresses(node), address.IP)
		})
		if err != nil {
			return err
		}
	}
	s.NodeAddressed[clusterID] = len(located) > 0 && onOwnAddress
	var unlocated plan.Unlocated
	nodes, err := o.eachNode(ctx)
	if err != nil {
		return err
	}
	for node := range nodes {
		if node.Name != s.NodeName && !located[node.Name] {
			unlocated.Node = node.Name
		}
	}
	attachments, err := o.eachAttachment(ctx)
	if err != nil {
		return err
	}
	for va := range attachments {
		node := va.Spec.NodeName
		if name, _ := volume.Attached(va); inCluster[name] && node != s.NodeName && !located[node] {
			unlocated.WithVolumes = node
		}
	}
	s.Unlocated[clusterID] = unlocated
	return nil
}

// eachOther visits the recorded clients of the current boots of all nodes but one, where they are wanted. Whoever has none there is not
// read: a record keeps every node that its volume ever ran on.
func eachOther(
	ctx context.Context, current *boots, pv *corev1.PersistentVolume, besides string, wanted func(ceph.Address) bool, visit func(*corev1.Node, ceph.Address),
) error {
	record, _ := ReadRecord(pv) // a record that cannot be read names nobody; the volume's own refusal tells it
	for name, clients := range record {
		addresses := slices.DeleteFunc(addressesOf(clients), func(address ceph.Address) bool { return !wanted(address) })
		if name == besides || len(addresses) == 0 {
			continue
		}
		node, err := current.node(ctx, name, clients.BootID)
		if err != nil {
			return err
		}
		if node == nil {
			continue
		}
		for _, address := range addresses {
			visit(node, address)
		}
	}
	return nil
}

func anywhere(ceph.Address) bool { return true }

func addressesOf(clients v1alpha1.NodeClients) []ceph.Address {
	var addresses []ceph.Address
	for _, text := range clients.Clients {
		if address, err := ceph.ParseAddress(text); err == nil {
			addresses = append(addresses, address)
		}
	}
	return addresses
}

// candidates are the IP addresses that a decision about the snapshot may come to; who else has a client is looked up for these alone.
func candidates(s plan.Snapshot) []netip.Addr {
	var ips []netip.Addr
	if s.Node != nil {
		ips = volume.Addresses(s.Node)
	}
	add := func(texts []string) {
		for _, address := range addressesOf(v1alpha1.NodeClients{Clients: texts}) {
			ips = append(ips, address.IP)
		}
	}
	add(s.Fence.Spec.Clients)
	for _, entry := range s.Fence.Status.Volumes {
		add(entry.Clients) // settled in an earlier look: the watcher, or ceph-csi's note, that told the address may be gone
	}
	for _, v := range s.Volumes {
		for _, watcher := range v.Use.Watchers {
			ips = append(ips, watcher.Address.IP)
		}
		for _, owner := range v.Use.LockOwners {
			ips = append(ips, owner.IP)
		}
		if ip, staged := v.Use.Staged[s.NodeName]; staged {
			ips = append(ips, ip)
		}
		if v.Record != nil {
			add(v.Record.Clients)
			add(v.Record.Before)
			for _, text := range v.Record.Addresses { // the node's own, where its object is gone
				if ip, err := netip.ParseAddr(text); err == nil {
					ips = append(ips, ip)
				}
			}
		}
	}
	slices.SortFunc(ips, netip.Addr.Compare)
	return slices.Compact(ips)
}
