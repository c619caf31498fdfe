package flagger

import (
	"context"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rbd-rescue/rbd-rescue/api/v1alpha1"
)

func gated(pod *corev1.Pod) {
	pod.Spec.NodeName = ""
	pod.Spec.SchedulingGates = []corev1.PodSchedulingGate{{Name: "queue"}, {Name: v1alpha1.GateHeld}}
}

func readWriteMany(pv *corev1.PersistentVolume, _ *corev1.Node, _ *v1alpha1.NodeFence) {
	pv.Spec.AccessModes = []corev1.PersistentVolumeAccessMode{corev1.ReadWriteMany}
}

func fenced(pv *corev1.PersistentVolume, node *corev1.Node, nf *v1alpha1.NodeFence) {
	readWriteMany(pv, node, nf)
	nf.Spec.NodeName = node.Name
	nf.Status.Phase = v1alpha1.PhaseReleasing
	nf.Status.Volumes = []v1alpha1.FencedVolume{{PersistentVolume: pv.Name, Phase: v1alpha1.VolumeReleasing}}
	nf.Status.Conditions = []metav1.Condition{{Type: v1alpha1.ConditionFenced, Status: metav1.ConditionTrue}}
}

func TestTheGateIsOpened(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		cluster cluster
		open    bool
	}{
		"S1: not while the node is not fenced": {
			cluster: cluster{mode: "rescue", ready: corev1.ConditionUnknown, pod: waitingPod(unflagged(), gated), change: readWriteMany},
		},
		"S1: not while the kubelet answers, but is not ready": {
			cluster: cluster{mode: "rescue", ready: corev1.ConditionFalse, pod: waitingPod(unflagged(), gated), change: readWriteMany},
		},
		"once the fence is proven": {
			cluster: cluster{mode: "rescue", ready: corev1.ConditionUnknown, pod: waitingPod(unflagged(), gated), change: fenced}, open: true,
		},
		"S9: when the node is Ready again": {
			cluster: cluster{mode: "rescue", ready: corev1.ConditionTrue, pod: waitingPod(unflagged(), gated), change: readWriteMany}, open: true,
		},
		"S9: when the namespace opts out": {
			cluster: cluster{mode: "", ready: corev1.ConditionUnknown, pod: waitingPod(unflagged(), gated), change: readWriteMany}, open: true,
		},
		"S9: of a pod whose volumes need none": {
			cluster: cluster{mode: "rescue", ready: corev1.ConditionUnknown, pod: waitingPod(unflagged(), gated)}, open: true,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			writes := 0
			c, recorder := test.cluster.controller(t, &writes, nil)
			for range 2 {
				if _, err := c.Reconcile(t.Context(), allFlags); err != nil {
					t.Fatal(err)
				}
			}
			checkGate(t, c, test.open)
			told := false
			for len(recorder.Events) > 0 {
				told = strings.Contains(<-recorder.Events, v1alpha1.ReasonGateOpened) || told
			}
			if told != test.open {
				t.Errorf("told that the gate is open: %v", told)
			}
		})
	}
}

func checkGate(t *testing.T, c *Controller, open bool) {
	t.Helper()
	pod := &corev1.Pod{}
	if err := c.Client.Get(t.Context(), client.ObjectKey{Namespace: "shop", Name: "db-0"}, pod); err != nil {
		t.Fatal(err)
	}
	want := 2
	if open {
		want = 1
	}
	if gates := pod.Spec.SchedulingGates; len(gates) != want || gates[0].Name != "queue" {
		t.Errorf("the gates are %v, want %d", gates, want)
	}
}

// staleNodes is a cache that has not heard yet that a node has failed.
type staleNodes struct{ client.Client }

func (s staleNodes) Get(ctx context.Context, key client.ObjectKey, o client.Object, options ...client.GetOption) error {
	err := s.Client.Get(ctx, key, o, options...)
	if node, ok := o.(*corev1.Node); ok {
		node.Status.Conditions[0].Status = corev1.ConditionTrue
	}
	return err
}

func TestAStaleCacheOpensNoGate(t *testing.T) {
	t.Parallel()
	writes := 0
	c, _ := cluster{
		mode: "rescue", ready: corev1.ConditionUnknown, pod: waitingPod(unflagged(), gated), change: readWriteMany,
	}.controller(t, &writes, nil)
	c.Client = staleNodes{c.Client}
	if _, err := c.Reconcile(t.Context(), allFlags); err != nil {
		t.Fatal(err)
	}
	checkGate(t, c, false)
}
