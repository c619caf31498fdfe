package plan

import (
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/rbd-rescue/rbd-rescue/api/v1alpha1"
)

func TestBreaker(t *testing.T) {
	t.Parallel()
	percent, two, nonsense := intstr.FromString("34%"), intstr.FromInt32(2), intstr.FromString("many")
	for _, test := range []struct {
		limit                   intstr.IntOrString
		nodes, failed, returned int
		open                    bool
	}{
		{percent, 1, 1, 0, false},
		{percent, 2, 1, 0, false},
		{percent, 2, 2, 0, true},
		{percent, 3, 1, 0, false},
		{percent, 3, 2, 0, true},
		{percent, 6, 2, 0, false},
		{percent, 6, 3, 0, true},
		{percent, 100, 34, 0, false},
		{percent, 100, 35, 0, true},
		{percent, 0, 0, 0, false},
		{percent, 6, 1, 2, true}, // it closes only when the nodes that came back have stayed
		{two, 100, 2, 0, false},
		{two, 100, 3, 0, true},
		{nonsense, 100, 2, 0, true},
		{nonsense, 100, 1, 0, false},
	} {
		settings := DefaultSettings()
		settings.MaxFailedNodes = test.limit
		if got := BreakerOpen(Health{Nodes: test.nodes, Failed: test.failed, Returned: test.returned}, nil, settings); got != test.open {
			t.Errorf("limit %s, %d of %d failed, %d returned: open is %v", test.limit.String(), test.failed, test.nodes, test.returned, got)
		}
	}
}

func TestBreakerCountsNodesThatAreNotReady(t *testing.T) {
	t.Parallel()
	silent, sick := nodeA(), incident(kubeletNotReady).Node
	for name, test := range map[string]struct {
		health Health
		node   *corev1.Node
		open   bool
	}{
		"all of three, each with a stuck pod":            {Health{Nodes: 3, NotReady: 3}, sick, true},
		"both of two, the second silent":                 {Health{Nodes: 2, Failed: 1, NotReady: 1}, sick, true},
		"one alone":                                      {Health{Nodes: 3, NotReady: 1}, sick, false},
		"one that boots beside one that is silent":       {Health{Nodes: 3, Failed: 1, NotReady: 1}, silent, false},
		"two beside one that is silent":                  {Health{Nodes: 3, Failed: 1, NotReady: 2}, silent, true},
		"two beside one that is silent, of many":         {Health{Nodes: 9, Failed: 1, NotReady: 2}, silent, false},
		"one beside one that is silent and one that was": {Health{Nodes: 5, Failed: 1, Returned: 1, NotReady: 1}, silent, true},
	} {
		if got := BreakerOpen(test.health, test.node, DefaultSettings()); got != test.open {
			t.Errorf("%s: open is %v", name, got)
		}
	}
}

func TestHealth(t *testing.T) {
	t.Parallel()
	node := func(status corev1.ConditionStatus, since time.Duration) *corev1.Node {
		return &corev1.Node{
			ObjectMeta: metav1.ObjectMeta{CreationTimestamp: metav1.NewTime(now.Add(-24 * time.Hour))},
			Status: corev1.NodeStatus{Conditions: []corev1.NodeCondition{{
				Type: corev1.NodeReady, Status: status, LastTransitionTime: metav1.NewTime(now.Add(-since)),
			}}},
		}
	}
	joined := node(corev1.ConditionTrue, 10*time.Second)
	joined.CreationTimestamp = metav1.NewTime(now.Add(-20 * time.Second))
	got := HealthOf([]*corev1.Node{
		node(corev1.ConditionTrue, time.Hour),
		node(corev1.ConditionUnknown, time.Hour),
		node(corev1.ConditionFalse, time.Hour),
		node(corev1.ConditionTrue, 30*time.Second), // came back
		node(corev1.ConditionTrue, -time.Hour),     // a clock that is wrong is no return
		joined,                                     // a new node was never failed
	}, 2, now)
	if want := (Health{Nodes: 8, Failed: 3, Returned: 1, NotReady: 1}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

func TestSettings(t *testing.T) {
	t.Parallel()
	if err := DefaultSettings().Validate(); err != nil {
		t.Error(err)
	}
	for name, change := range map[string]func(*Settings){
		"a policy that there is not":    func(s *Settings) { s.SharedClients = "maybe" },
		"no policy":                     func(s *Settings) { s.SharedClients = "" },
		"a share that is more than all": func(s *Settings) { s.MaxFailedNodes = intstr.FromString("101%") },
		"a share that is no number":     func(s *Settings) { s.MaxFailedNodes = intstr.FromString("x%") },
		"a number below zero":           func(s *Settings) { s.MaxFailedNodes = intstr.FromInt32(-1) },
		"no time":                       func(s *Settings) { s.StuckAfter = 0 },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			settings := DefaultSettings()
			change(&settings)
			if err := settings.Validate(); err == nil {
				t.Error("taken")
			}
		})
	}
}

func TestNextWhilePaused(t *testing.T) {
	t.Parallel()
	checkNext(t, map[string]nextCase{
		"fences nothing new": {
			snapshot: incident(paused),
			want: effect{
				Phase: v1alpha1.PhasePending, Fenced: "Paused", Volume: "Held Waiting",
				Events: []string{"NodeFence Paused", "Node Paused"},
			},
		},
		"finishes what was begun": {
			snapshot: incident(proven, paused),
			want: effect{
				Phase: v1alpha1.PhaseReleasing, Fenced: "NodeFenced", Volume: "Releasing",
				Steps: []string{clear1, delete1}, Events: []string{"NodeFence NodeFenced", "Node NodeFenced"},
			},
		},
		"does what a person asks for": {snapshot: incident(paused, personMade), want: fencingWith(deadClient)},
	})
}
