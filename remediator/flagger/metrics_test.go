package flagger

import (
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil"
	corev1 "k8s.io/api/core/v1"
)

// It is not parallel, for the gauges are of the process.
func TestPodsThatWaitAreCounted(t *testing.T) {
	for _, test := range []struct {
		name           string
		ready          corev1.ConditionStatus
		pod            *corev1.Pod
		change         func(*others)
		waiting, gated float64
	}{
		{"a gate that stays closed", corev1.ConditionUnknown, waitingPod(unflagged(), gated, unscheduled), readWriteMany, 1, 1},
		{"a gate that is opened", corev1.ConditionTrue, waitingPod(unflagged(), gated, unscheduled), readWriteMany, 0, 0},
		{"a pod without a gate", corev1.ConditionUnknown, waitingPod(unflagged()), nil, 1, 0},
		{"nobody", corev1.ConditionTrue, waitingPod(unflagged()), nil, 0, 0},
	} {
		writes := 0
		c, _ := cluster{mode: "rescue", ready: test.ready, pod: test.pod, change: test.change}.controller(t, &writes, nil)
		if _, err := c.Reconcile(t.Context(), allFlags); err != nil {
			t.Fatal(err)
		}
		if got := testutil.ToFloat64(waitingPods); got != test.waiting {
			t.Errorf("%s: %v pods wait, want %v", test.name, got, test.waiting)
		}
		if got := testutil.ToFloat64(gatedPods); got != test.gated {
			t.Errorf("%s: %v gates are closed, want %v", test.name, got, test.gated)
		}
	}
}
