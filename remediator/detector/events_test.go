package detector

import (
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
)

func node(ready corev1.ConditionStatus, change func(*corev1.Node)) *corev1.Node {
	n := &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: "node-a", ResourceVersion: "1"},
		Status:     corev1.NodeStatus{Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: ready}}},
	}
	if change != nil {
		n.ResourceVersion = "2"
		change(n)
	}
	return n
}

func TestOfANodesUpdatesThoseMatterThatMayBeOfAFailure(t *testing.T) {
	t.Parallel()
	uses := func(n *corev1.Node) { n.Status.VolumesInUse = []corev1.UniqueVolumeName{"v"} }
	nothing := func(*corev1.Node) {}
	pause := func(n *corev1.Node) { n.Annotations = map[string]string{"rbd-rescue.io/paused": "true"} }
	for name, test := range map[string]struct {
		before, now *corev1.Node
		want        bool
	}{
		"one that is well uses another volume":       {node("True", nil), node("True", uses), false},
		"one that is well fails":                     {node("True", nil), node("Unknown", nothing), true},
		"one that failed is well":                    {node("Unknown", nil), node("True", nothing), true},
		"one that is well is paused":                 {node("True", nil), node("True", pause), true},
		"one that failed uses another volume":        {node("Unknown", nil), node("Unknown", uses), true},
		"nothing that is kept has changed":           {node("Unknown", nil), node("Unknown", nothing), false},
		"one that failed is told again, by a resync": {node("Unknown", nil), node("Unknown", nil), true},
	} {
		e := event.UpdateEvent{ObjectOld: test.before, ObjectNew: test.now}
		if got := news.Update(e) && notOfWellNodes.Update(e); got != test.want {
			t.Errorf("%s: matters: %v", name, got)
		}
	}
}

// At the start each of 5,000 nodes has an event.
func TestNodesThatAreWellAreOneThingToLookAt(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		node *corev1.Node
		want reconcile.Request
	}{
		"well":   {node("True", nil), nodesInTrouble},
		"failed": {node("Unknown", nil), request("node-a")},
	} {
		if got := ofNode(t.Context(), test.node); !slices.Equal(got, []reconcile.Request{test.want}) {
			t.Errorf("%s: %v", name, got)
		}
	}
}
