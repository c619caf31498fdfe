package plan

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"

	"github.com/rbd-rescue/rbd-rescue/api/v1alpha1"
	"github.com/rbd-rescue/rbd-rescue/volume"
)

// nodeState is what the node of an incident is now, as the boot that failed sees it.
type nodeState int

const (
	// nodeFailed: nothing was heard of the boot that failed.
	nodeFailed nodeState = iota
	// nodeGone: the API has no such node any more; what the machine does is not known.
	nodeGone
	// nodeReturned: Ready with the boot that failed: its mappings may be left.
	nodeReturned
	// nodeRebooted: the same machine, Ready with another boot: the one that failed is over (S3).
	nodeRebooted
	// nodeReplaced: another machine has taken the node's name; what became of the one that failed is not known (S3).
	nodeReplaced
	// nodeUnsettled: its kubelet answers but is not Ready, or another boot has failed in turn. Nothing is released.
	nodeUnsettled
)

func stateOf(s Snapshot) nodeState {
	if s.Node == nil {
		return nodeGone
	}
	sameBoot := volume.BootID(s.Node) == s.Fence.Spec.BootID
	_, failed := volume.Failed(s.Node)
	switch {
	case volume.Ready(s.Node) && sameBoot:
		return nodeReturned
	case volume.Ready(s.Node) && !sameMachine(s):
		return nodeReplaced
	case volume.Ready(s.Node) && volume.BootID(s.Node) != "":
		return nodeRebooted
	case failed && sameBoot:
		return nodeFailed
	default:
		return nodeUnsettled
	}
}

func sameMachine(s Snapshot) bool {
	info := s.Node.Status.NodeInfo
	return info.MachineID == s.Fence.Spec.MachineID && info.SystemUUID == s.Fence.Spec.SystemUUID
}

func (s Snapshot) nodeName() string {
	if s.Node != nil {
		return s.Node.Name
	}
	return s.Fence.Spec.NodeName
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
	return slices.ContainsFunc(node.Spec.Taints, func(t corev1.Taint) bool { return t.Key == v1alpha1.TaintFenced })
}
