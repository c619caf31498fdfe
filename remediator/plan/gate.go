package plan

import (
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"

	"github.com/rbd-rescue/rbd-rescue/api/v1alpha1"
	"github.com/rbd-rescue/rbd-rescue/volume"
)

// Holder is a node that is not Ready, and holds a ReadWriteMany volume which a gated pod wants.
type Holder struct {
	NodeName string
	// Node is nil when the API has no such node any more.
	Node   *corev1.Node
	Volume volume.Volume
	// Fences are all NodeFences of the node.
	Fences []*v1alpha1.NodeFence
}

// Gated tells whether the pod carries the gate.
func Gated(pod *corev1.Pod) bool {
	return slices.ContainsFunc(pod.Spec.SchedulingGates, func(g corev1.PodSchedulingGate) bool { return g.Name == v1alpha1.GateHeld })
}

// GateReason says why a gated pod must still wait, or, with waits false, why it need not (S9). It waits as long as a failed
// node holds one of its ReadWriteMany volumes and is not proven to be cut off from it (S1), and its namespace is in mode
// rescue: nothing would be fenced for it otherwise.
//
// holders are all nodes that hold such a volume and are not Ready, or gone.
func GateReason(policy v1alpha1.Policy, holders []Holder) (reason string, waits bool) {
	if policy.Mode != v1alpha1.ModeRescue {
		return fmt.Sprintf("its namespace is not in mode %s", v1alpha1.ModeRescue), false
	}
	reason = "no failed node holds a ReadWriteMany volume of it"
	for _, h := range holders {
		fence := h.cutOffBy()
		if fence == "" {
			return fmt.Sprintf("claim %s (volume %s) is ReadWriteMany, and node %s is not proven to be cut off from it", h.Volume.Claim, h.Volume.Name, h.NodeName), true
		}
		reason = fmt.Sprintf("node %s is proven to be cut off from claim %s (NodeFence %s)", h.NodeName, h.Volume.Claim, fence)
	}
	return reason, false
}

// cutOffBy names the NodeFence of this boot that has proven that every client of the node on the volume is cut off, and
// still says so: a volume is only released after that. Empty for none.
func (h Holder) cutOffBy() string {
	for _, nf := range h.Fences {
		if !nf.Active() || (h.Node != nil && nf.Spec.BootID != volume.BootID(h.Node)) || !meta.IsStatusConditionTrue(nf.Status.Conditions, v1alpha1.ConditionFenced) {
			continue
		}
		for _, entry := range nf.Status.Volumes {
			if entry.PersistentVolume != h.Volume.Name {
				continue
			}
			switch entry.Phase {
			case v1alpha1.VolumeReleasing, v1alpha1.VolumeReleased, v1alpha1.VolumeRecovered:
				return nf.Name
			}
		}
	}
	return ""
}
