package plan

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"

	"github.com/rbd-rescue/rbd-rescue/api/v1alpha1"
	"github.com/rbd-rescue/rbd-rescue/volume"
)

// GateView is what is so of all nodes when a gate is decided on, read at one time: from the cache, or from the API itself.
type GateView struct {
	Nodes       map[string]*corev1.Node
	Attachments []*storagev1.VolumeAttachment
	Fences      []*v1alpha1.NodeFence
}

// SharedVolume is a volume of a gated pod which Kubernetes would let it have beside another node.
type SharedVolume struct {
	volume.Volume
	// Users are the pods that name the claim, on any node or on none.
	Users []*corev1.Pod
	// Record of its clients, by node.
	Record v1alpha1.ClientRecord
}

// Holder is a boot of a node that is not known to have let go of a volume.
type Holder struct {
	NodeName string
	// BootID is empty where nothing tells it.
	BootID string
	Volume volume.Volume
	// Fence is the NodeFence that cuts this boot off from the volume as far as its status tells; nil for none.
	Fence *v1alpha1.NodeFence
	// Gone: the API has no such node any more.
	Gone bool
	// Over: a person says that the boot is over.
	Over bool
}

// Gated tells whether the pod carries the gate.
func Gated(pod *corev1.Pod) bool {
	return slices.ContainsFunc(pod.Spec.SchedulingGates, func(g corev1.PodSchedulingGate) bool { return g.Name == v1alpha1.GateHeld })
}

// GateReason says why a gated pod must still wait, or, with waits false, why it need not (S9). It waits as long as a failed
// node holds one of its volumes and is not cut off from it (S1), and its namespace is in mode rescue: nothing would be fenced
// for it otherwise. That a node is cut off is what NodeFences say: before the gate is opened, Unproven must be asked.
//
// holders are those of all volumes of the pod.
func GateReason(policy v1alpha1.Policy, holders []Holder) (reason string, waits bool) {
	if policy.Mode != v1alpha1.ModeRescue {
		return fmt.Sprintf("its namespace is not in mode %s", v1alpha1.ModeRescue), false
	}
	reason = "no failed node holds a volume of it that several nodes may have"
	for _, h := range holders {
		switch {
		case h.Over:
			reason = fmt.Sprintf("a person says that the boot of node %s which held claim %s is over", h.NodeName, h.Volume.Claim)
		case h.Fence == nil:
			return fmt.Sprintf("several nodes may have claim %s (volume %s) at once, and node %s, which is %s, is not proven to be cut off from it",
				h.Volume.Claim, h.Volume.Name, h.NodeName, pick(h.Gone, "gone from the API", "not Ready")), true
		default:
			reason = fmt.Sprintf("node %s is proven to be cut off from claim %s (NodeFence %s)", h.NodeName, h.Volume.Claim, h.Fence.Name)
		}
	}
	return reason, false
}

// Unproven says which proof is missing that the holder is cut off from its volume; empty for none. cluster is what the
// volume's Ceph cluster says now, with the barrier of pools, which hold the volume: what a NodeFence says may be old (S1).
// fences are all.
func Unproven(now time.Time, h Holder, fences []*v1alpha1.NodeFence, cluster Cluster, pools []string) string {
	entry, listed := entryOf(h.Fence, h.Volume.Name)
	if !listed {
		return fmt.Sprintf("NodeFence %s does not list it", h.Fence.Name)
	}
	s := Snapshot{Now: now, Fence: h.Fence, OtherFences: fences, Clusters: map[string]Cluster{h.Volume.ClusterID: cluster}}
	proof, missing := verify(s, slices.DeleteFunc(slices.Clone(h.Fence.Status.Clients), func(c v1alpha1.FencedClient) bool {
		return c.ClusterID != h.Volume.ClusterID || !slices.Contains(entry.Clients, c.Address)
	}))
	if proof.covers(Volume{Volume: h.Volume, Pools: pools}, entry.Clients) {
		return ""
	}
	if len(missing) == 0 {
		return fmt.Sprintf("not every pool that holds it has confirmed what NodeFence %s asked for", h.Fence.Name)
	}
	return firstMissing(missing)
}

// Holders are the boots that may still write to a volume:
//   - that of a node which is not Ready, or gone, and has the volume: attached, in use as it said last, or used by a pod;
//   - the boot that an active NodeFence fences, if that lists the volume and the boot has neither come back nor ended: the last
//     trace of it in Kubernetes may be gone.
//
// That a machine has another boot, Ready or not, ends the one before: the newer one is a holder of its own.
func Holders(view GateView, v SharedVolume) []Holder {
	boots := map[string]map[string]bool{} // by node
	add := func(node, boot string) {
		if boots[node] == nil {
			boots[node] = map[string]bool{}
		}
		boots[node][boot] = true
	}
	for _, name := range nodesWith(view, v) {
		node := view.Nodes[name]
		switch {
		case node == nil:
			add(name, v.Record[name].BootID)
		case !volume.Ready(node):
			add(name, volume.BootID(node))
		}
	}
	for _, nf := range view.Fences {
		if _, listed := entryOf(nf, v.Name); listed && nf.Active() && !letGo(nf, view.Nodes[nf.Spec.NodeName]) {
			add(nf.Spec.NodeName, nf.Spec.BootID)
		}
	}
	var holders []Holder
	for _, name := range slices.Sorted(maps.Keys(boots)) {
		for _, boot := range slices.Sorted(maps.Keys(boots[name])) {
			holders = append(holders, view.holder(name, boot, v))
		}
	}
	return holders
}

// nodesWith are the nodes that have a volume as Kubernetes sees it, well or not.
func nodesWith(view GateView, v SharedVolume) []string {
	names := map[string]bool{}
	for _, va := range view.Attachments {
		if name, _ := volume.Attached(va); name == v.Name { // also one that may be under way
			names[va.Spec.NodeName] = true
		}
	}
	for _, node := range view.Nodes {
		if slices.Contains(node.Status.VolumesInUse, corev1.UniqueVolumeName(v.UniqueName)) {
			names[node.Name] = true
		}
	}
	for _, pod := range v.Users {
		if pod.Spec.NodeName != "" && !volume.Finished(pod) {
			names[pod.Spec.NodeName] = true
		}
	}
	return slices.Collect(maps.Keys(names))
}

// letGo tells whether the boot that a NodeFence fences is Ready again, so that what it holds is its kubelet's to say, or over.
func letGo(nf *v1alpha1.NodeFence, node *corev1.Node) bool {
	switch {
	case nf.Status.Times.OverAt != nil:
		return true
	case node == nil || volume.BootID(node) == "":
		return false
	case volume.BootID(node) == nf.Spec.BootID:
		return volume.Ready(node)
	default:
		return isMachine(node, nf.Spec)
	}
}

// holder finds what cuts a boot off from a volume. Where nothing tells which boot it is, only the node's newest NodeFence counts.
func (view GateView) holder(node, boot string, v SharedVolume) Holder {
	h := Holder{NodeName: node, BootID: boot, Volume: v.Volume, Gone: view.Nodes[node] == nil}
	var fences []*v1alpha1.NodeFence
	for _, nf := range view.Fences {
		if nf.Spec.NodeName == node && (boot == "" || nf.Spec.BootID == boot) {
			fences = append(fences, nf)
		}
	}
	if boot == "" && len(fences) > 1 {
		fences = []*v1alpha1.NodeFence{slices.MaxFunc(fences, func(a, b *v1alpha1.NodeFence) int {
			return a.CreationTimestamp.Compare(b.CreationTimestamp.Time)
		})}
	}
	for _, nf := range fences {
		if cutsOffFrom(nf, v.Volume) && !view.heldAnew(nf, v) && (h.Fence == nil || strings.Compare(nf.Name, h.Fence.Name) < 0) {
			h.Fence = nf
		}
		h.Over = h.Over || saidToBeOver(nf, view.Nodes[node])
	}
	return h
}

// heldAnew tells whether the boot has got the volume again since a NodeFence cut it off, or may have: perhaps by another client.
func (view GateView) heldAnew(nf *v1alpha1.NodeFence, v SharedVolume) bool {
	seen := Volume{Volume: v.Volume, Users: v.Users}
	for _, va := range view.Attachments {
		if name, _ := volume.Attached(va); name == v.Name {
			seen.Attachments = append(seen.Attachments, va)
		}
	}
	s := Snapshot{NodeName: nf.Spec.NodeName, Node: view.Nodes[nf.Spec.NodeName], Fence: nf}
	entry, _ := entryOf(nf, v.Name)
	return HeldAnew(s, seen) || mayHaveAnother(s, seen, entry)
}

// cutsOffFrom tells whether a NodeFence says that every client of its boot on the volume is cut off: a volume is only
// released after that.
func cutsOffFrom(nf *v1alpha1.NodeFence, v volume.Volume) bool {
	entry, listed := entryOf(nf, v.Name)
	if !listed || !nf.Active() || len(entry.Clients) == 0 {
		return false
	}
	switch entry.Phase {
	case v1alpha1.VolumeReleasing, v1alpha1.VolumeReleased, v1alpha1.VolumeRecovered:
	default:
		return false
	}
	return !slices.ContainsFunc(entry.Clients, func(address string) bool {
		return !slices.ContainsFunc(nf.Status.Clients, func(c v1alpha1.FencedClient) bool {
			return c.ClusterID == v.ClusterID && c.Address == address && c.Epoch > 0
		})
	})
}

// saidToBeOver tells whether a person has lifted this fence by their word, and the node has not come back since then. Of a node
// that is gone nobody can tell that: a boot that was said to be over, and came back, may have the volume still.
func saidToBeOver(nf *v1alpha1.NodeFence, node *corev1.Node) bool {
	if nf.Status.Phase != v1alpha1.PhaseLifted || nf.Status.Times.LiftedAt == nil || node == nil || !overridden(nf) {
		return false
	}
	since := notReadySince(Snapshot{Node: node})
	return since != nil && !since.After(nf.Status.Times.LiftedAt.Time)
}

func entryOf(nf *v1alpha1.NodeFence, persistentVolume string) (v1alpha1.FencedVolume, bool) {
	for _, entry := range nf.Status.Volumes {
		if entry.PersistentVolume == persistentVolume {
			return entry, true
		}
	}
	return v1alpha1.FencedVolume{}, false
}
