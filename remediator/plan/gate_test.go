package plan

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/rbd-rescue/rbd-rescue/api/v1alpha1"
)

// holder is node-a, which holds the volume and is not proven to be cut off.
func holder(change ...func(*v1alpha1.NodeFence)) Holder {
	s := incident()
	nf := s.Fence
	nf.Status.Volumes = []v1alpha1.FencedVolume{{PersistentVolume: "pv-1", Phase: v1alpha1.VolumeHeld}}
	for _, c := range change {
		c(nf)
	}
	return Holder{NodeName: "node-a", Node: s.Node, Volume: s.Volumes[0].Volume, Fences: []*v1alpha1.NodeFence{nf}}
}

// fenced is what the rescuer writes with the proof at hand.
func fenced(nf *v1alpha1.NodeFence) {
	nf.Status.Phase = v1alpha1.PhaseReleasing
	nf.Status.Volumes[0].Phase = v1alpha1.VolumeReleasing
	nf.Status.Conditions = []metav1.Condition{{Type: v1alpha1.ConditionFenced, Status: metav1.ConditionTrue}}
}

func TestGateReason(t *testing.T) {
	t.Parallel()
	gone := holder(fenced)
	gone.Node = nil
	unfencedToo := holder()
	unfencedToo.NodeName = "node-c"
	for name, test := range map[string]struct {
		mode    v1alpha1.Mode
		holders []Holder
		waits   bool
	}{
		"S1: waits while nothing is fenced":               {v1alpha1.ModeRescue, []Holder{holder()}, true},
		"S1: waits where there is no NodeFence":           {v1alpha1.ModeRescue, []Holder{{NodeName: "node-a", Node: nodeA()}}, true},
		"S1: waits while one of two nodes is not cut off": {v1alpha1.ModeRescue, []Holder{holder(fenced), unfencedToo}, true},
		"S1: waits while the fence is not proven any more": {v1alpha1.ModeRescue, []Holder{holder(fenced, func(nf *v1alpha1.NodeFence) {
			nf.Status.Conditions[0].Status = metav1.ConditionFalse
		})}, true},
		"S1: waits while another volume alone is cut off": {v1alpha1.ModeRescue, []Holder{holder(fenced, func(nf *v1alpha1.NodeFence) {
			nf.Status.Volumes[0].PersistentVolume = "pv-2"
		})}, true},
		"S1: waits where another boot of the node was fenced": {v1alpha1.ModeRescue, []Holder{holder(fenced, func(nf *v1alpha1.NodeFence) {
			nf.Spec.BootID = "boot-0"
		})}, true},
		"S1: waits where the fence is lifted": {v1alpha1.ModeRescue, []Holder{holder(fenced, func(nf *v1alpha1.NodeFence) {
			nf.Status.Phase = v1alpha1.PhaseLifted
		})}, true},
		"opens once the node is proven to be cut off":             {v1alpha1.ModeRescue, []Holder{holder(fenced)}, false},
		"opens once it is proven for a node whose object is gone": {v1alpha1.ModeRescue, []Holder{gone}, false},
		"S9: opens when no failed node holds the volume":          {v1alpha1.ModeRescue, nil, false},
		"S9: opens when the namespace only observes":              {v1alpha1.ModeObserve, []Holder{holder()}, false},
		"S9: opens when the namespace opts out":                   {v1alpha1.ModeOff, []Holder{holder()}, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if reason, waits := GateReason(v1alpha1.Policy{Mode: test.mode}, test.holders); waits != test.waits || reason == "" {
				t.Errorf("waits: %v (%s), want %v", waits, reason, test.waits)
			}
		})
	}
}

func TestGated(t *testing.T) {
	t.Parallel()
	pod := &corev1.Pod{Spec: corev1.PodSpec{SchedulingGates: []corev1.PodSchedulingGate{{Name: "queue"}}}}
	if Gated(pod) {
		t.Error("another gate is taken for rbd-rescue's")
	}
	pod.Spec.SchedulingGates = append(pod.Spec.SchedulingGates, corev1.PodSchedulingGate{Name: v1alpha1.GateHeld})
	if !Gated(pod) {
		t.Error("the gate is not seen")
	}
}
