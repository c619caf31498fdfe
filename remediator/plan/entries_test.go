package plan

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/rbd-rescue/rbd-rescue/api/v1alpha1"
)

// noEntry: nothing of the incident is in Ceph.
func noEntry(s *Snapshot) { clear(s.Clusters["c1"].Map.Blocklist) }

func addresses(clients []v1alpha1.FencedClient) []string {
	var list []string
	for _, c := range clients {
		list = append(list, c.Address)
	}
	return list
}

// The host was settled, and no answer came: then another node reports its address.
func TestNextWritesNoEntryThatThisLookRefuses(t *testing.T) {
	t.Parallel()
	first := Next(incident(recordOfAnotherBoot))
	s := incident(recordOfAnotherBoot, taintedNode, func(s *Snapshot) { s.OtherNodes[netip.MustParseAddr("10.0.0.1")] = "node-b" })
	s.Fence.Status = first.Status
	d := Next(s)
	if len(d.Steps) > 0 {
		t.Errorf("S2: %v", steps(d.Steps))
	}
	if got := addresses(d.Status.Clients); !slices.Equal(got, []string{"10.0.0.1:0/0"}) {
		t.Errorf("it may still arrive, and is not known any more: %v", got)
	}
	arrived(&s)
	s.Fence.Status = d.Status
	d = Next(s)
	if len(d.Status.Clients) > 0 || !slices.Equal(steps(d.Steps), []string{"remove the taint from node node-a"}) {
		t.Errorf("once it can't arrive any more: clients %v, steps %v", d.Status.Clients, steps(d.Steps))
	}
	if d.Status.Phase != v1alpha1.PhaseRefused {
		t.Errorf("phase %s", d.Status.Phase)
	}
}

func TestNextWritesNoEntryForANamespaceThatHasOptedOut(t *testing.T) {
	t.Parallel()
	s := incident(fencing, func(s *Snapshot) { s.Policies["shop"] = v1alpha1.Policy{} })
	if got := steps(Next(s).Steps); slices.Contains(got, fence) {
		t.Errorf("S6: %v", got)
	}
}

// One volume was released behind one client; the other's client was never listed, and the node is Ready again.
func TestNextWritesOnlyKeptEntriesOfANodeThatIsBack(t *testing.T) {
	t.Parallel()
	s := incident(releasedBehindOne, nodeReady("boot-1"), func(s *Snapshot) {
		s.Fence.Status.Clients = append(s.Fence.Status.Clients, v1alpha1.FencedClient{ClusterID: "c1", Address: "10.0.0.1:0/99"})
		s.Fence.Status.Volumes[1].Clients = []string{"10.0.0.1:0/99"}
		noEntry(s)
	})
	if got := steps(Next(s).Steps); !slices.Equal(got, []string{fence, clear1}) && !slices.Equal(got, []string{fence}) {
		t.Errorf("S2: %v, want only the renewal of what is kept", got)
	}
}

// Held behind a barrier that is stuck, the node came back, and has the volume for a pod that nobody has looked at.
func TestNextFencesTheHostWhereAHeldVolumeCameBackToTheNode(t *testing.T) {
	t.Parallel()
	pod := podOn("node-a", "db-1")
	pod.DeletionTimestamp = new(metav1.NewTime(now))
	s := incident(proven, barrierAt(9), func(s *Snapshot) {
		s.Pods, s.Volumes[0].Users = []*corev1.Pod{pod}, []*corev1.Pod{pod}
	})
	d := Next(s)
	if want := "add 10.0.0.1:0/0 to the blocklist of cluster c1 for 87600h0m0s"; !slices.Contains(steps(d.Steps), want) {
		t.Errorf("S1: %v, want %s", steps(d.Steps), want)
	}
}

func TestNextFencesTheHostWhereAClientIsAProcess(t *testing.T) {
	t.Parallel()
	checkNext(t, map[string]nextCase{
		"S1: beside the recorded client": {
			snapshot: incident(func(s *Snapshot) { s.Volumes[0].Userspace = true }), want: fencingWith(deadClient + ", " + deadHost),
		},
		"S1: beside a live watcher": {
			snapshot: incident(watcherAt(deadClient), func(s *Snapshot) { s.Volumes[0].Userspace = true }),
			want:     fencingWith(deadClient + ", " + deadHost),
		},
	})
}

// The record may be of the boot before the last: nobody can ask the Node object any more.
func TestNextFencesTheHostOfANodeThatIsGone(t *testing.T) {
	t.Parallel()
	d := Next(incident(func(s *Snapshot) { s.Node, s.Volumes[0].Record.Addresses = nil, []string{"10.0.0.1"} }))
	if want := "add 10.0.0.1:0/42, 10.0.0.1:0/0 to the blocklist of cluster c1 for 87600h0m0s"; !slices.Contains(steps(d.Steps), want) {
		t.Errorf("S1: %v, want %s", steps(d.Steps), want)
	}
}

// secondFence is another incident of the same node: of another boot, with the same entry.
func secondFence(boot string) option {
	return func(s *Snapshot) {
		nf := s.Fence.DeepCopy()
		nf.Name, nf.UID, nf.Spec.BootID = "node-a-2", "nf2", boot
		s.OtherFences = append(s.OtherFences, nf)
	}
}

func TestNextLiftsBesideAnotherIncidentOfTheNode(t *testing.T) {
	t.Parallel()
	remove := "remove 10.0.0.1:0/42 from the blocklist of cluster c1"
	for name, test := range map[string]struct {
		snapshot Snapshot
		want     []string
	}{
		"S9: that is over as well: neither leaves the entry to the other": {
			incident(released, nodeReady("boot-2"), secondFence("boot-0")), []string{remove},
		},
		"S3: of the boot that runs now": {incident(released, nodeReady("boot-2"), secondFence("boot-2")), nil},
		"S9: that a person has ended as well": {
			incident(released, personSaysOver("boot-1"), secondFence("boot-9"), func(s *Snapshot) {
				s.OtherFences[0].Annotations = map[string]string{v1alpha1.AnnotationLift: "boot-9"}
			}), []string{remove},
		},
		"S3: whose machine is another": {
			incident(released, nodeReady("boot-2"), secondFence("boot-0"), func(s *Snapshot) { s.OtherFences[0].Spec.MachineID = "another" }), nil,
		},
		"S9: and leaves it the taint": {
			incident(released, arrived, noEntry, personSaysOver("boot-1"), secondFence("boot-9")), nil,
		},
		"and takes the taint where that is over": {
			incident(released, arrived, noEntry, nodeReady("boot-2"), secondFence("boot-0")), []string{"remove the taint from node node-a"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := steps(Next(test.snapshot).Steps); !slices.Equal(got, test.want) {
				t.Errorf("%v, want %v", got, test.want)
			}
		})
	}
}

// An add is in doubt until a minute after it was asked for last, not first.
func TestNextWaitsForEntriesThatMayStillArrive(t *testing.T) {
	t.Parallel()
	s := incident(fencing, func(s *Snapshot) { s.Now = now.Add(5 * time.Minute) })
	s.Fence.Status = Next(s).Status // asks again
	s.Now = s.Now.Add(time.Second)
	for name, boot := range map[string]string{"the same boot": "boot-1", "a new boot": "boot-2"} {
		back := s
		back.Node = nodeA()
		nodeReady(boot)(&back)
		if d := Next(back); d.Status.Phase == v1alpha1.PhaseCancelled || d.Status.Phase == v1alpha1.PhaseLifted {
			t.Errorf("S2: %s, and the phase is %s a second after an entry was asked for", name, d.Status.Phase)
		}
		arrived(&back)
		if d := Next(back); d.Status.Phase != v1alpha1.PhaseCancelled && d.Status.Phase != v1alpha1.PhaseLifted {
			t.Errorf("%s, and the phase is %s a minute later: %s", name, d.Status.Phase, d.Status.Message)
		}
	}
}

// The entry is there, and the node is Ready with a new boot seconds later.
func TestNextLiftsAtOnceWhatWasAskedForOnce(t *testing.T) {
	t.Parallel()
	for name, again := range map[string]bool{"once": false, "again": true} {
		s := incident(fencing)
		if again {
			s.Fence.Status = Next(s).Status
		}
		proven := incident(listedFor(entryTTL), barrierAt(10), taintedNode)
		proven.Fence.Status = s.Fence.Status
		s.Fence.Status = Next(proven).Status
		s = incident(nodeReady("boot-2"), noEntry, func(n *Snapshot) { n.Fence.Status = s.Fence.Status })
		if lifted := Next(s).Status.Phase == v1alpha1.PhaseLifted; lifted == again {
			t.Errorf("asked for %s, and lifted: %v", name, lifted)
		}
	}
}

func TestNextKeepsWhatItWasReleasedBehindThoughTheVolumeIsJudgedAnew(t *testing.T) {
	t.Parallel()
	s := incident(released, noEntry, func(s *Snapshot) {
		s.Fence.Status.Volumes[0].Phase, s.Fence.Status.Volumes[0].Clients = v1alpha1.VolumeRefused, nil
		s.Fence.Status.Clients[0].Until, s.Fence.Status.Clients[0].Epoch = nil, 0
	})
	if got := steps(Next(s).Steps); !slices.Contains(got, fence) {
		t.Errorf("S4: %v", got)
	}
}

// Its pool has confirmed, another pool of the cluster has not, so that the fence as a whole was never proven.
func TestNextKeepsTheEntryOfAVolumeThatWasReleasedBeforeAllPoolsHadConfirmed(t *testing.T) {
	t.Parallel()
	s := incident(proven, barrierAt(9), func(s *Snapshot) {
		s.changeCluster(func(c *Cluster) { c.Barrier, c.Proven = 0, map[string]uint32{"rbd": 10} })
	})
	s.Fence.Status = Next(s).Status
	if got := s.Fence.Status; got.Volumes[0].Phase != v1alpha1.VolumeReleasing || got.Clients[0].Epoch != 0 {
		t.Fatalf("it is not so: %+v", got)
	}
	nodeReady("boot-1")(&s)
	noEntry(&s)
	if got := steps(Next(s).Steps); !slices.Contains(got, fence) {
		t.Errorf("S4: %v", got)
	}
}

// What was announced as fenced stays so, though nothing has left the node yet: Ceph still shows the watch.
func TestNextKeepsAnEntryThatWasProven(t *testing.T) {
	t.Parallel()
	s := incident(proven, watcherAt(deadClient))
	s.Fence.Status = Next(s).Status
	if got := s.Fence.Status; got.Volumes[0].Phase != v1alpha1.VolumeHeld || got.Times.FencedAt == nil {
		t.Fatalf("it is not so: %+v", got)
	}
	nodeReady("boot-1")(&s)
	noEntry(&s)
	if got := steps(Next(s).Steps); !slices.Contains(got, fence) {
		t.Errorf("S4: %v", got)
	}
}
