package plan

import (
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/rbd-rescue/rbd-rescue/api/v1alpha1"
)

const unfence = "remove 10.0.0.1:0/42 from the blocklist of cluster c1"

func notReadyIn(boot string) option {
	return func(s *Snapshot) {
		nodeReady(boot)(s)
		s.Node.Status.Conditions[0].Status = corev1.ConditionUnknown
	}
}

func gone(s *Snapshot) { s.Node = nil }

// seen follows proven: the entry was seen to have arrived.
func seen(s *Snapshot) {
	proven(s)
	s.Fence.Status = Next(*s).Status
}

// The new boot fails while the entries of the old one are being removed: they must not come back, least of all a whole host's.
func TestALiftThatHasBegunGoesOnWhateverTheNewBootDoes(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct{ now option }{
		"it fails":                 {notReadyIn("boot-2")},
		"its Node object is gone":  {gone},
		"it is a third one's turn": {notReadyIn("boot-3")},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := incident(seen, nodeReady("boot-2"))
			d := Next(s)
			if got := steps(d.Steps); !slices.Equal(got, []string{unfence}) {
				t.Fatalf("it is not lifted: %v", got)
			}
			s = incident(test.now, noEntry, func(n *Snapshot) { n.Fence.Status = d.Status; n.Now = s.Now.Add(time.Second) })
			for range 3 {
				d = Next(s)
				if got := steps(d.Steps); slices.Contains(got, fence) {
					t.Fatalf("S2: %v", got)
				}
				s.Fence.Status = d.Status
				if s.Node != nil {
					s.Node.Spec.Taints = nil
				}
			}
			if s.Fence.Status.Phase != v1alpha1.PhaseLifted {
				t.Errorf("S9: the phase is %s: %s", s.Fence.Status.Phase, s.Fence.Status.Message)
			}
		})
	}
}

// Of two asks nobody could tell which one Ceph has done, and whether the other may still remove what a later fence has proven.
func TestCephIsAskedToRemoveAnEntryOnceAMinute(t *testing.T) {
	t.Parallel()
	s := incident(seen, nodeReady("boot-2"))
	s.Fence.Status = Next(s).Status
	s.Now = s.Now.Add(time.Second)
	d := Next(s)
	if len(d.Steps) > 0 || d.Status.Phase == v1alpha1.PhaseLifted || d.Wait > time.Second {
		t.Errorf("S4: a second later: steps %v, phase %s, next look in %s", steps(d.Steps), d.Status.Phase, d.Wait)
	}
	s.Now = s.Now.Add(time.Minute)
	if got := steps(Next(s).Steps); !slices.Equal(got, []string{unfence}) {
		t.Errorf("a minute later: %v", got)
	}
}

// An earlier NodeFence has asked for its removal, and no answer came.
func TestAnEntryThatMayStillBeRemovedProvesNothing(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		ago    time.Duration
		proven bool
	}{
		"asked just now":     {time.Second, false},
		"asked a minute ago": {time.Minute, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			earlier := incident(proven).Fence
			earlier.Name = "node-a-0"
			earlier.Status.Clients[0].RemovalAskedAt = new(metav1.NewMicroTime(now.Add(-test.ago)))
			s := incident(proven, func(s *Snapshot) { s.OtherFences = []*v1alpha1.NodeFence{earlier} })
			d := Next(s)
			released := slices.ContainsFunc(steps(d.Steps), func(step string) bool { return strings.Contains(step, "shop/db-0") })
			if released != test.proven {
				t.Errorf("S4: steps %v (%s)", steps(d.Steps), d.Status.Message)
			}
			g := gate(isCutOff)
			cluster := s.Clusters["c1"]
			if missing := Unproven(now, Holders(g.view, g.volume)[0], []*v1alpha1.NodeFence{earlier}, cluster, []string{"rbd"}); (missing == "") != test.proven {
				t.Errorf("S1: the gate: %q", missing)
			}
		})
	}
}

// It leaves the entry to another NodeFence, which must see for as long that it may still be removed.
func TestALiftIsNotOverWhileItsRemovalOfAnEntryThatStaysMayStillCome(t *testing.T) {
	t.Parallel()
	s := incident(seen, nodeReady("boot-2"))
	s.Fence.Status = Next(s).Status
	other := incident(proven).Fence
	other.Name, other.Spec.BootID = "node-a-2", "boot-2"
	s = incident(notReadyIn("boot-2"), listedFor(entryTTL), func(n *Snapshot) {
		n.Fence.Status, n.OtherFences, n.Now = s.Fence.Status, []*v1alpha1.NodeFence{other}, s.Now.Add(time.Second)
	})
	if d := Next(s); d.Status.Phase == v1alpha1.PhaseLifted || len(d.Steps) > 0 {
		t.Errorf("a second later: phase %s, steps %v", d.Status.Phase, steps(d.Steps))
	}
	s.Now = s.Now.Add(time.Minute)
	if d := Next(s); d.Status.Phase != v1alpha1.PhaseLifted || len(d.Steps) > 0 {
		t.Errorf("a minute later: phase %s, steps %v", d.Status.Phase, steps(d.Steps))
	}
}

// The clock was set back by an hour: what Ceph was asked for is in doubt for a minute more, not for an hour.
func TestDoubtEndsAlsoWhereTheClockWasSetBack(t *testing.T) {
	t.Parallel()
	s := incident(fencing, nodeReady("boot-2"))
	s.Now = s.Now.Add(-time.Hour)
	d := Next(s)
	if d.Status.Phase == v1alpha1.PhaseLifted {
		t.Fatal("S2: it is lifted while its entry may still arrive")
	}
	s.Fence.Status, s.Now = d.Status, s.Now.Add(time.Minute)
	if d := Next(s); d.Status.Phase != v1alpha1.PhaseLifted {
		t.Errorf("S9: a minute later it is %s: %s", d.Status.Phase, d.Status.Message)
	}
}
