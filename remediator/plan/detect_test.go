package plan

import (
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/rbd-rescue/rbd-rescue/api/v1alpha1"
)

func noFence(s *Snapshot) { s.Fence = nil }

func TestDetect(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		snapshot Snapshot
		creates  bool
		why      string
		events   int
	}{
		"makes an incident of a failed node whose volume is wanted": {snapshot: incident(noFence), creates: true},
		"makes one after an earlier incident has ended": {
			snapshot: incident(func(s *Snapshot) { s.Fence.Status.Phase = v1alpha1.PhaseLifted }), creates: true,
		},
		"makes none of a failure whose fence a person has lifted": {
			snapshot: incident(func(s *Snapshot) {
				s.Fence.Status.Phase, s.Fence.Status.Times.LiftedAt = v1alpha1.PhaseLifted, new(metav1.NewMicroTime(now))
				personSaysOver("boot-1")(s)
			}),
			why: "a person has lifted", events: 1,
		},
		"makes one of the next failure of a boot whose fence a person has lifted": {
			snapshot: incident(func(s *Snapshot) {
				s.Fence.Status.Phase, s.Fence.Status.Times.LiftedAt = v1alpha1.PhaseLifted, new(metav1.NewMicroTime(now.Add(-time.Hour)))
				personSaysOver("boot-1")(s)
			}),
			creates: true,
		},
		"makes one of another boot than the one whose fence is active": {
			snapshot: incident(func(s *Snapshot) { s.Fence.Spec.BootID = "boot-0" }), creates: true,
		},
		"makes none while one is active":      {snapshot: incident(), why: "is active"},
		"makes none for a node that is Ready": {snapshot: incident(noFence, nodeReady("boot-1")), why: "not failed"},
		"makes one of a node that is gone while volumes are attached to it": {
			snapshot: incident(noFence, func(s *Snapshot) { s.Node = nil }), creates: true,
		},
		"makes none of a node that is gone and holds nothing": {
			snapshot: incident(noFence, func(s *Snapshot) { s.Node, s.Volumes[0].Attachments = nil, nil }), why: "not failed",
		},
		"S3: refuses a node that is gone and whose boot no record tells": {
			snapshot: incident(noFence, noRecord, func(s *Snapshot) { s.Node = nil }), why: "bootID", events: 1,
		},
		"makes one of a node that is not Ready and whose pod is stuck": {snapshot: incident(noFence, kubeletNotReady, stuckPod), creates: true},
		"makes none while a kubelet that is not Ready has its time to end the pod": {
			snapshot: incident(noFence, kubeletNotReady), why: "not failed",
		},
		"makes one of a node that is out of service and not Ready": {snapshot: incident(noFence, kubeletNotReady, outOfService), creates: true},
		"makes none of a Ready node that is out of service":        {snapshot: incident(noFence, nodeReady("boot-1"), outOfService), why: "not failed"},
		"makes none while it is paused":                            {snapshot: incident(noFence, paused), why: "Paused", events: 1},
		"makes none without demand":                                {snapshot: incident(noFence, func(s *Snapshot) { s.Pods[0].DeletionTimestamp = nil }), why: "wanted"},
		"makes none for a namespace that is out":                   {snapshot: incident(noFence, func(s *Snapshot) { clear(s.Policies) }), why: "wanted"},
		"makes none for a namespace that observes":                 {snapshot: incident(noFence, observing), why: "wanted"},
		"S3: refuses a node that has no bootID":                    {snapshot: incident(noFence, func(s *Snapshot) { s.Node.Status.NodeInfo.BootID = "" }), why: "bootID", events: 1},
		"S7: makes none while the breaker is open":                 {snapshot: incident(noFence, func(s *Snapshot) { s.Health = Health{Nodes: 4, Failed: 2} }), why: "BreakerOpen", events: 1},
		"S7: makes none while all nodes are not Ready": {
			snapshot: incident(noFence, kubeletNotReady, stuckPod, func(s *Snapshot) { s.Health = Health{Nodes: 3, NotReady: 3} }), why: "BreakerOpen", events: 1,
		},
		"S5: a pod's own annotations change nothing": {snapshot: incident(noFence, forged), why: "not failed"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			v := Detect(test.snapshot)
			if (v.Create != nil) != test.creates || !strings.Contains(v.Why, test.why) || len(v.Events) != test.events {
				t.Errorf("got %+v", v)
			}
		})
	}
}

func observing(s *Snapshot) { s.Policies["shop"] = v1alpha1.Policy{Mode: v1alpha1.ModeObserve} }

// forged is a healthy node with a pod whose owner claims that the node holds its volumes.
func forged(s *Snapshot) {
	nodeReady("boot-1")(s)
	s.Pods[0].Labels = map[string]string{v1alpha1.LabelHeld: "true"}
	s.Pods[0].Annotations = map[string]string{v1alpha1.AnnotationHeldVolumes: `[{"claim":"shop/data","volume":"pv-1","node":"node-a"}]`}
}

func kubeletNotReady(s *Snapshot) { s.Node.Status.Conditions[0].Status = corev1.ConditionFalse }

func stuckPod(s *Snapshot) {
	s.Pods[0].DeletionTimestamp.Time = now.Add(-s.Settings.StuckAfter - time.Second)
}

func outOfService(s *Snapshot) {
	s.Node.Spec.Taints = append(s.Node.Spec.Taints, corev1.Taint{Key: corev1.TaintNodeOutOfService, Effect: corev1.TaintEffectNoExecute})
}

func paused(s *Snapshot) { s.Paused = "annotation rbd-rescue.io/paused on node node-a pauses it" }

func TestDetectLooksAgainWhenAPodMayBeStuck(t *testing.T) {
	t.Parallel()
	s := incident(noFence, kubeletNotReady)
	if v := Detect(s); v.Wait != s.Pods[0].DeletionTimestamp.Add(s.Settings.StuckAfter).Sub(now) {
		t.Errorf("looks again after %s", v.Wait)
	}
}

func TestIncidentNameIsTheSameForTheSameFailure(t *testing.T) {
	t.Parallel()
	s := incident(noFence)
	name := incidentName(s, "boot-1", now)
	if again := incidentName(s, "boot-1", now.In(time.FixedZone("x", 3600))); again != name {
		t.Errorf("%s and %s", name, again)
	}
	for _, other := range []string{
		incidentName(s, "boot-2", now), incidentName(s, "boot-1", now.Add(time.Second)), incidentName(incident(), "boot-1", now),
	} {
		if other == name {
			t.Errorf("two failures are both %s", name)
		}
	}
	s.NodeName = strings.Repeat("n", 253)
	if long := incidentName(s, "boot-1", now); len(long) > 253 {
		t.Errorf("name of %d characters", len(long))
	}
}

func TestDemandIgnoresFinishedPods(t *testing.T) {
	t.Parallel()
	done := podOn("node-a", "job")
	done.Status.Phase = corev1.PodSucceeded
	if wanted, missing := demand(incident(noFence), heldVolume("pv-1", "data", "img", done)); wanted {
		t.Errorf("a finished pod is demand (%s)", missing)
	}
}
