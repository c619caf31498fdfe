package plan

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rbd-rescue/rbd-rescue/api/v1alpha1"
	"github.com/rbd-rescue/rbd-rescue/ceph"
)

// theirsFor is an incident's first look, in which an entry of its client stands already.
func theirsFor(ttl time.Duration) Snapshot { return incident(listedFor(ttl), barrierAt(10)) }

// lifting is an incident that has relied on the entry that stood at its first look, once its node is Ready with a new boot.
func lifting(first Snapshot) Snapshot {
	return incident(listedFor(entryTTL), nodeReady("boot-2"), taintedNode, func(s *Snapshot) { s.Fence.Status = Next(first).Status })
}

func TestAnEntryThatStandsIsNeverAskedFor(t *testing.T) {
	t.Parallel()
	for name, ttl := range map[string]time.Duration{"for an hour": time.Hour, "for ten years": entryTTL, "and is over": -time.Second} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := Next(theirsFor(ttl))
			if got := steps(d.Steps); slices.Contains(got, fence) {
				t.Errorf("S4: %v", got)
			}
			if !d.Status.Clients[0].Foreign || d.Status.Clients[0].AskedAt != nil {
				t.Errorf("S3: it is somebody else's: %+v", d.Status.Clients[0])
			}
		})
	}
}

func TestAnEntryThatEndsTooSoonIsWaitedForAndThePersonIsToldWhatToDo(t *testing.T) {
	t.Parallel()
	s := theirsFor(time.Hour)
	d := Next(s)
	for what, text := range map[string]string{"volume": d.Status.Volumes[0].Message, "NodeFence": d.Status.Message, "event": d.Events[len(d.Events)-1].Note} {
		for _, want := range []string{
			deadClient + " ends at 2026-11-23T04:00:00Z", "ceph osd blocklist rm " + deadClient + ";", "Between the two the client may write: nothing is released before that",
		} {
			if !strings.Contains(text, want) {
				t.Errorf("%s: %q does not say %q", what, text, want)
			}
		}
		if len(text) > 900 { // announce cuts an event at 1000
			t.Errorf("%s: %d bytes", what, len(text))
		}
	}
	s.Fence.Status, s.Now = d.Status, s.Now.Add(time.Hour-3*time.Second)
	if d = Next(s); d.Wait > 3*time.Second {
		t.Errorf("it ends in 3 s, and is looked at in %s", d.Wait)
	}
	noEntry(&s)
	s.Fence.Status, s.Now = d.Status, s.Now.Add(4*time.Second)
	d = Next(s)
	if got := steps(d.Steps); !slices.Contains(got, fence) {
		t.Errorf("it is gone, and ours is not asked for: %v", got)
	}
	if d.Status.Clients[0].Foreign {
		t.Error("it is ours now, and still taken for somebody else's")
	}
}

func TestAnEntryThatIsReliedOnAndEndsTooSoonIsSaidToBeDangerous(t *testing.T) {
	t.Parallel()
	s := incident(released)
	s.Fence.Status = Next(s).Status
	listedFor(time.Hour)(&s)
	d := Next(s)
	if want := "volumes of node node-a may run elsewhere, so make sure first that it is off"; !strings.Contains(d.Status.Message, want) {
		t.Errorf("%q does not say %q", d.Status.Message, want)
	}
}

func TestALiftLeavesAnEntryThatWasThereBefore(t *testing.T) {
	t.Parallel()
	s := lifting(theirsFor(entryTTL))
	d := Next(s)
	if got := steps(d.Steps); !slices.Equal(got, []string{"remove the taint from node node-a"}) {
		t.Fatalf("S3: %v", got)
	}
	s.Fence.Status, s.Node.Spec.Taints = d.Status, nil
	d = Next(s)
	if d.Status.Phase != v1alpha1.PhaseLifted || d.Status.Clients[0].Until == nil || !strings.Contains(d.Status.Message, deadClient) {
		t.Errorf("it is %s: %s (%+v)", d.Status.Phase, d.Status.Message, d.Status.Clients)
	}
	if got, want := reasons(d.Events), []string{"NodeFence FenceLifted", "Node FenceLifted", "NodeFence EntryLeft", "Node EntryLeft"}; !slices.Equal(got, want) {
		t.Fatalf("told %v, want %v", got, want)
	}
	if note := d.Events[3].Note; !strings.Contains(note, "ceph osd blocklist rm "+deadClient) {
		t.Errorf("%q does not say how to remove it", note)
	}
}

func TestALiftTellsARangeThatCutsTheNodeOff(t *testing.T) {
	t.Parallel()
	s := incident(released, noEntry, arrived, nodeReady("boot-2"), func(s *Snapshot) {
		s.Node.Spec.Taints = nil
		s.changeCluster(func(c *Cluster) { c.Map.Ranges = map[string]time.Time{"cidr:10.0.0.0:0/24": now.Add(time.Hour)} })
	})
	d := Next(s)
	if last := d.Events[len(d.Events)-1]; last.Reason != v1alpha1.ReasonEntryLeft || !strings.Contains(last.Note, "ceph osd blocklist range rm 10.0.0.0/24") {
		t.Errorf("told %v: %s", reasons(d.Events), last.Note)
	}
}

func TestAnEntryOfAnotherNodeFenceIsWhoseThatOneSays(t *testing.T) {
	t.Parallel()
	for name, theirs := range map[string]bool{"its own": false, "somebody else's": true} {
		s := theirsFor(entryTTL)
		other := s.Fence.DeepCopy()
		other.Name = "node-a-0"
		other.Status.Clients = []v1alpha1.FencedClient{{ClusterID: "c1", Address: deadClient, Foreign: theirs}}
		s.OtherFences = []*v1alpha1.NodeFence{other}
		d := Next(s)
		if got := d.Status.Clients[0].Foreign; got != theirs {
			t.Errorf("%s: foreign is %v", name, got)
		}
		s.Fence.Status = d.Status // the other one has seen it go, and written it again
		other.Status.Clients[0].Foreign = false
		if Next(s).Status.Clients[0].Foreign {
			t.Errorf("%s: it is the other's own by now", name)
		}
	}
}

func TestAnEntryThatWasAskedForIsNotTakenForSomebodyElses(t *testing.T) {
	t.Parallel()
	s := incident(fencing, listedFor(entryTTL), barrierAt(10))
	if c := Next(s).Status.Clients[0]; c.Foreign || c.Address != ceph.MustParseAddress(deadClient).String() {
		t.Errorf("%+v", c)
	}
}
