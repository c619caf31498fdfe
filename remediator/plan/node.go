package plan

import (
	"cmp"
	"slices"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"

	"github.com/rbd-rescue/rbd-rescue/api/v1alpha1"
	"github.com/rbd-rescue/rbd-rescue/volume"
)

// nodeState is what the node of an incident is now, as the boot that is fenced sees it.
type nodeState int

const (
	// nodeFailed: the boot has failed.
	nodeFailed nodeState = iota
	// nodeGone: the API has no such node any more; what the machine does is not known.
	nodeGone
	// nodeAsked: it answers, and a person wants this very boot fenced.
	nodeAsked
	// nodeReturned: Ready with the boot that failed: its mappings may be left.
	nodeReturned
	// nodeRebooted: the same machine, Ready with another boot: the one that failed is over (S3).
	nodeRebooted
	// nodeReplaced: another machine has taken the node's name; what became of the one that failed is not known (S3).
	nodeReplaced
	// nodeUnsettled: its kubelet answers but is not Ready, or another boot has failed in turn, as the Node object says or, where it
	// is gone, the records. Nothing new is released.
	nodeUnsettled
)

func stateOf(s Snapshot) nodeState {
	if s.Fence.Spec.BootID == "" {
		return nodeUnsettled // whose end could never be told (S3)
	}
	if s.Node == nil {
		if last := IdentityOf(s).BootID; last != "" && last != s.Fence.Spec.BootID {
			return nodeUnsettled // that one's own NodeFence acts (S1)
		}
		return nodeGone
	}
	sameBoot := volume.BootID(s.Node) == s.Fence.Spec.BootID
	_, failed := failureOf(s)
	switch {
	case failed && sameBoot:
		return nodeFailed
	case sameBoot && !s.Fence.Spec.Automatic:
		return nodeAsked
	case volume.Ready(s.Node) && sameBoot:
		return nodeReturned
	case volume.Ready(s.Node) && !sameMachine(s):
		return nodeReplaced
	case volume.Ready(s.Node) && volume.BootID(s.Node) != "":
		return nodeRebooted
	default:
		return nodeUnsettled
	}
}

// acts tells whether volumes may be taken from a node in this state.
func (state nodeState) acts() bool {
	return state == nodeFailed || state == nodeGone || state == nodeAsked
}

func sameMachine(s Snapshot) bool { return isMachine(s.Node, s.Fence.Spec) }

// isMachine compares what a NodeFence knows of its machine; where it knows nothing, no machine is the same. One of the two is not
// enough: machines that are made from one template may have its machineID (S3).
func isMachine(node *corev1.Node, spec v1alpha1.NodeFenceSpec) bool {
	info := node.Status.NodeInfo
	return cmp.Or(spec.MachineID, spec.SystemUUID) != "" && spec.MachineID == info.MachineID && spec.SystemUUID == info.SystemUUID
}

// sameBoot tells whether the node reports the boot that is fenced.
func sameBoot(s Snapshot) bool { return s.Node != nil && volume.BootID(s.Node) == s.Fence.Spec.BootID }

// Identity is a boot of a machine.
type Identity struct {
	BootID, MachineID, SystemUUID string
}

// IdentityOf is the node's last boot: as the Node object says, or, where it is gone, as the records of its volumes agree.
// The bootID is empty if that is not known.
func IdentityOf(s Snapshot) Identity {
	if s.Node != nil {
		info := s.Node.Status.NodeInfo
		return Identity{BootID: info.BootID, MachineID: info.MachineID, SystemUUID: info.SystemUUID}
	}
	var identity Identity
	for _, v := range s.Volumes {
		if v.Record == nil || attachmentTo(s.NodeName, v) == nil {
			continue
		}
		if identity.BootID != "" && identity.BootID != v.Record.BootID {
			return Identity{}
		}
		identity = Identity{BootID: v.Record.BootID, MachineID: v.Record.MachineID, SystemUUID: v.Record.SystemUUID}
	}
	return identity
}

// attachmentTo is the volume's VolumeAttachment to a node; nil for none.
func attachmentTo(node string, v Volume) *storagev1.VolumeAttachment {
	for _, va := range v.Attachments {
		if va.Spec.NodeName == node {
			return va
		}
	}
	return nil
}

// attachedElsewhere is the other node that the volume is attached to; empty for none.
func attachedElsewhere(node string, v Volume) string {
	for _, va := range v.Attachments {
		if va.Spec.NodeName != node && va.Status.Attached {
			return va.Spec.NodeName
		}
	}
	return ""
}

func inUse(node *corev1.Node, v Volume) bool {
	return node != nil && slices.Contains(node.Status.VolumesInUse, corev1.UniqueVolumeName(v.UniqueName))
}

func tainted(node *corev1.Node) bool {
	return node != nil && slices.ContainsFunc(node.Spec.Taints, func(t corev1.Taint) bool { return t.Key == v1alpha1.TaintFenced })
}
