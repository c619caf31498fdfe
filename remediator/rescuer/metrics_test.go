package rescuer

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/metrics"

	"github.com/rbd-rescue/rbd-rescue/api/v1alpha1"
)

// series of one NodeFence and metric, each by its labels but the one that names the NodeFence.
func series(t *testing.T, metric, nodefence string) map[string]float64 {
	t.Helper()
	families, err := metrics.Registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	values := map[string]float64{}
	for _, family := range families {
		if family.GetName() != v1alpha1.MetricPrefix+metric {
			continue
		}
		for _, m := range family.GetMetric() {
			key, ours := "", false
			for _, label := range m.GetLabel() {
				if label.GetName() == "nodefence" {
					ours = label.GetValue() == nodefence
					continue
				}
				key += label.GetName() + "=" + label.GetValue() + " "
			}
			if ours {
				values[key] = m.GetGauge().GetValue()
			}
		}
	}
	return values
}

func TestTheStateOfANodeFenceIsMeasuredUntilItsEnd(t *testing.T) {
	t.Parallel()
	const name = "node-a-measured"
	state := func(phase v1alpha1.NodeFencePhase, conditions ...metav1.Condition) *v1alpha1.NodeFence {
		return &v1alpha1.NodeFence{
			ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: v1alpha1.NodeFenceSpec{NodeName: "node-a"},
			Status: v1alpha1.NodeFenceStatus{Phase: phase, Conditions: conditions, Clients: []v1alpha1.FencedClient{
				{Address: "10.0.0.1:0/1", Kept: true, Until: new(metav1.NewTime(time.Unix(2000, 0)))},
				{Address: "10.0.0.1:0/2", Kept: true, Until: new(metav1.NewTime(time.Unix(1000, 0)))},
				{Address: "10.0.0.1:0/3", Until: new(metav1.NewTime(time.Unix(500, 0)))}, // somebody else's, which nothing relies on
			}},
		}
	}
	fenced := func(status metav1.ConditionStatus, reason string) metav1.Condition {
		return metav1.Condition{Type: v1alpha1.ConditionFenced, Status: status, Reason: reason}
	}
	check := func(what, metric string, want map[string]float64) {
		t.Helper()
		if diff := cmp.Diff(want, series(t, metric, name)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", what, diff)
		}
	}
	fencing := state(v1alpha1.PhaseFencing, fenced(metav1.ConditionFalse, v1alpha1.ReasonFenceUnproven))
	measure(state(""), fencing)
	check("phase", "_nodefence_phase", map[string]float64{"node=node-a phase=Fencing ": 1})
	check("condition", "_nodefence_condition", map[string]float64{"condition=Fenced node=node-a reason=FenceUnproven status=False ": 1})
	check("expiry", "_fence_expiry_timestamp_seconds", map[string]float64{"": 1000})

	releasing := state(v1alpha1.PhaseReleasing, fenced(metav1.ConditionTrue, v1alpha1.ReasonNodeFenced))
	measure(fencing, releasing)
	check("phase", "_nodefence_phase", map[string]float64{"node=node-a phase=Releasing ": 1})
	check("condition", "_nodefence_condition", map[string]float64{"condition=Fenced node=node-a reason=NodeFenced status=True ": 1})

	measure(releasing, state(v1alpha1.PhaseLifted, fenced(metav1.ConditionTrue, v1alpha1.ReasonNodeFenced)))
	check("phase", "_nodefence_phase", map[string]float64{"node=node-a phase=Lifted ": 1})
	check("condition after the end", "_nodefence_condition", map[string]float64{})
	check("expiry after the end", "_fence_expiry_timestamp_seconds", map[string]float64{})

	forget(name)
	check("phase of one that is gone", "_nodefence_phase", map[string]float64{})
}
