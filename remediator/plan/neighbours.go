package plan

import (
	"fmt"
	"slices"
	"strings"

	"github.com/rbd-rescue/rbd-rescue/api/v1alpha1"
	"github.com/rbd-rescue/rbd-rescue/ceph"
)

// neighbours are the volumes on the node that entries cut off as well: what a node maps with one user shares one client
// (facts/krbd.md). A volume that the incident moves is none.
func neighbours(s Snapshot, clusterID string, clients []ceph.Address, moved func(Volume) bool) []Volume {
	var list []Volume
	for _, v := range s.Volumes {
		if HeldBy(s, v) && !moved(v) && sameCluster(s, v.ClusterID, clusterID) && cutOff(s, v, clients) {
			list = append(list, v)
		}
	}
	return list
}

func cutOff(s Snapshot, v Volume, clients []ceph.Address) bool {
	if slices.ContainsFunc(clients, isHost) {
		return true
	}
	return slices.ContainsFunc(clients, func(address ceph.Address) bool {
		return slices.Contains(recordedClients(s, v), address.String()) ||
			slices.ContainsFunc(v.Use.Watchers, func(w ceph.Watcher) bool { return w.Address == address })
	})
}

// refuseSharedClients refuses, where the policy says so, every volume whose client also serves one that stays.
func refuseSharedClients(s Snapshot, judgements map[string]judgement) (changed bool) {
	if s.Settings.SharedClients != SharedRefuse {
		return false
	}
	moved := func(v Volume) bool { return judgements[v.Name].free() && judgements[v.Name].clients.addresses != nil }
	for _, v := range s.Volumes {
		j, judged := judgements[v.Name]
		if !judged || !j.free() {
			continue
		}
		if others := neighbours(s, v.ClusterID, j.clients.addresses, moved); len(others) > 0 {
			judgements[v.Name] = judgement{refused: &refusal{v1alpha1.ReasonSharedClient, fmt.Sprintf(
				"its client also serves %s, and sharedClients is %q; move or stop the pods that use it, or set sharedClients to %q",
				names(others), SharedRefuse, SharedFence)}}
			changed = true
		}
	}
	return changed
}

// tellNeighbours notes which volumes the fence cuts off besides those that it moves, whenever it has got a new client.
func (d *draft) tellNeighbours() {
	moved := func(v Volume) bool {
		return slices.ContainsFunc(d.status.Volumes, func(e v1alpha1.FencedVolume) bool {
			return e.PersistentVolume == v.Name && len(e.Clients) > 0
		})
	}
	var all []Volume
	for _, c := range d.status.Clients {
		address, err := ceph.ParseAddress(c.Address)
		if err != nil {
			continue
		}
		for _, v := range neighbours(d.s, c.ClusterID, []ceph.Address{address}, moved) {
			if !slices.ContainsFunc(all, func(u Volume) bool { return u.Name == v.Name }) {
				all = append(all, v)
			}
		}
	}
	known := func(v Volume) bool {
		return slices.ContainsFunc(d.status.Neighbours, func(n v1alpha1.Neighbour) bool { return n.PersistentVolume == v.Name })
	}
	all = slices.DeleteFunc(all, known)
	for _, v := range all {
		neighbour := v1alpha1.Neighbour{PersistentVolume: v.Name}
		if v.Claim.Name != "" {
			neighbour.Claim = v.Claim.String()
		}
		d.status.Neighbours = append(d.status.Neighbours, neighbour)
	}
	if len(all) > 0 {
		d.announceNode(warning, v1alpha1.ReasonNeighboursCutOff, "Fence", fmt.Sprintf(
			"The fence of node %s also cuts off %s, which stay there: the node has them open through the same clients. Their pods get I/O errors until the node reboots.",
			d.s.NodeName, names(all)))
	}
}

// names lists volumes for people, the first few of many.
func names(volumes []Volume) string {
	const shown = 5
	var texts []string
	for _, v := range volumes[:min(shown, len(volumes))] {
		if v.Claim.Name == "" {
			texts = append(texts, "PersistentVolume "+v.Name)
			continue
		}
		texts = append(texts, "claim "+v.Claim.String())
	}
	if more := len(volumes) - shown; more > 0 {
		texts = append(texts, fmt.Sprintf("%d more", more))
	}
	return strings.Join(texts, ", ")
}
