package plan

import (
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/rbd-rescue/rbd-rescue/api/v1alpha1"
	"github.com/rbd-rescue/rbd-rescue/ceph"
)

// personMade is a NodeFence that a person made by hand.
func personMade(s *Snapshot) { s.Fence.Spec.Automatic = false }

func personSaysOver(boot string) option {
	return func(s *Snapshot) { s.Fence.Annotations = map[string]string{v1alpha1.AnnotationLift: boot} }
}

// running is a pod that nobody has asked to go.
func running(s *Snapshot) {
	s.Pods[0].DeletionTimestamp = nil
	s.Pods[0].Status.Phase = corev1.PodRunning
}

func TestNextOfAPersonsNodeFence(t *testing.T) {
	t.Parallel()
	healthy := func(s *Snapshot) { nodeReady("boot-1")(s); running(s) }
	checkNext(t, map[string]nextCase{
		"fences a healthy node": {snapshot: incident(personMade, healthy), want: fencingWith(deadClient)},
		"S1: deletes nothing before the fence is proven": {
			snapshot: incident(personMade, healthy, func(s *Snapshot) {
				s.Fence.Status = Next(incident(personMade, healthy)).Status
				taintedNode(s)
				listedFor(entryTTL)(s)
			}),
			want: effect{Phase: v1alpha1.PhaseFencing, Fenced: "FenceUnproven", Volume: "Held Waiting"},
		},
		"then asks a healthy kubelet to end the pod, and leaves volumesInUse to it": {
			snapshot: incident(personMade, healthy, func(s *Snapshot) {
				s.Fence.Status = Next(incident(personMade, healthy)).Status
				taintedNode(s)
				listedFor(entryTTL)(s)
				barrierAt(10)(s)
			}),
			want: effect{
				Phase: v1alpha1.PhaseReleasing, Fenced: "NodeFenced", Volume: "Releasing",
				Steps: []string{"delete pod shop/db-0"}, Events: []string{"NodeFence NodeFenced", "Node NodeFenced"},
			},
		},
		"S6: fences nothing for a namespace that is out": {
			snapshot: incident(personMade, healthy, func(s *Snapshot) { clear(s.Policies) }),
			want:     effect{Phase: v1alpha1.PhasePending, Fenced: "NoDemand"},
		},
		"takes the clients that a person names": {
			snapshot: incident(personMade, noRecord, func(s *Snapshot) { s.Fence.Spec.Clients = []string{"10.0.0.1:0/77"} }),
			want:     fencingWith("10.0.0.1:0/77"),
		},
		"S2: refuses a client that a person names, and another node has": {
			snapshot: incident(personMade, noRecord, func(s *Snapshot) { s.Fence.Spec.Clients = []string{otherClient} }),
			want:     refusedBecause("HealthyClient"),
		},
		"refuses what a person names and cannot be read": {
			snapshot: incident(personMade, func(s *Snapshot) { s.Fence.Spec.Clients = []string{"10.0.0.1"} }), want: refusedBecause("ClientUnknown"),
		},
		"S3: refuses a node of which nothing tells the boot": {
			snapshot: incident(personMade, noRecord, func(s *Snapshot) { s.Node, s.Fence.Spec.BootID = nil, "" }),
			want:     effect{Phase: v1alpha1.PhaseRefused, Fenced: "FenceRefused", Events: []string{"NodeFence FenceRefused"}},
		},
	})
}

func TestNextLiftsByAPersonsWord(t *testing.T) {
	t.Parallel()
	checkNext(t, map[string]nextCase{
		"S3: of this very boot": {
			snapshot: incident(released, nodeReady("boot-1"), personSaysOver("boot-1")),
			want: effect{
				Phase: v1alpha1.PhaseReleasing, Fenced: "NodeFenced", Volume: "Releasing",
				Steps: []string{"remove 10.0.0.1:0/42 from the blocklist of cluster c1"},
			},
		},
		"S3: and puts it on record": {
			snapshot: incident(released, arrived, personSaysOver("boot-1"), func(s *Snapshot) {
				clear(s.Clusters["c1"].Map.Blocklist)
				s.Node.Spec.Taints = nil
			}),
			want: effect{
				Phase: v1alpha1.PhaseLifted, Fenced: "FenceOverridden", Volume: "Releasing",
				Events: []string{"NodeFence FenceOverridden", "Node FenceOverridden"},
			},
		},
		"S3: not when the word is about another boot": {
			snapshot: incident(released, nodeReady("boot-1"), personSaysOver("boot-9")),
			want: effect{
				Phase: v1alpha1.PhaseRecovered, Fenced: "NodeFenced", Volume: "Released",
				Events: []string{
					"NodeFence VolumeReleased", "PersistentVolumeClaim VolumeReleased", "NodeFence NodeStillFenced", "Node NodeStillFenced",
				},
			},
		},
	})
}

// otherCluster gives the node a second volume, of a Ceph cluster that never confirms its fence.
func otherCluster(s *Snapshot) {
	pod := podOn("node-a", "log-0")
	pod.Spec.Volumes[0] = claimVolume("logs")
	pod.DeletionTimestamp = s.Pods[0].DeletionTimestamp
	v := heldVolume("pv-2", "logs", "img2", pod)
	v.ClusterID = "c2"
	s.Pods, s.Volumes = append(s.Pods, pod), append(s.Volumes, v)
	s.Clusters["c2"] = Cluster{Known: true, Map: ceph.OSDMap{Epoch: 5, FSID: "2", Blocklist: map[ceph.Address]time.Time{}}}
}

// releasedBehindOne of two clusters: the other has not confirmed.
func releasedBehindOne(s *Snapshot) {
	otherCluster(s)
	s.Fence.Status = Next(*s).Status
	listedFor(entryTTL)(s)
	barrierAt(10)(s)
	taintedNode(s)
	s.Fence.Status = Next(*s).Status
}

func TestNextKeepsTheFenceThatAVolumeWasReleasedBehind(t *testing.T) {
	t.Parallel()
	s := incident(releasedBehindOne)
	if s.Fence.Status.Volumes[0].Phase != v1alpha1.VolumeReleasing || s.Fence.Status.Times.FencedAt != nil {
		t.Fatalf("it is not so: %+v", s.Fence.Status)
	}
	nodeReady("boot-1")(&s)
	clear(s.Clusters["c1"].Map.Blocklist)
	for range 2 { // the first look sees that the entry is gone, the second might take the incident for one that never began
		s.Now = s.Now.Add(inDoubtFor)
		d := Next(s)
		if d.Status.Phase == v1alpha1.PhaseCancelled || !slices.Contains(steps(d.Steps), fence) {
			t.Errorf("S4: phase %s, steps %v", d.Status.Phase, steps(d.Steps))
		}
		s.Fence.Status = d.Status
	}
}

func TestNextOfANodeThatIsBack(t *testing.T) {
	t.Parallel()
	checkNext(t, map[string]nextCase{
		"S2: writes no first entry of a node that is back, and cancels once none can arrive any more": {
			snapshot: incident(fencing, nodeReady("boot-1"), func(s *Snapshot) { s.Now = now.Add(inDoubtFor) }),
			want: effect{
				Phase: v1alpha1.PhaseCancelled, Fenced: "FenceCancelled", Volume: "Held Waiting",
				Events: []string{"NodeFence FenceCancelled", "Node FenceCancelled"},
			},
		},
		"S2: writes no first entry of a node that is back, and waits while one may still arrive": {
			snapshot: incident(fencing, nodeReady("boot-1"), func(s *Snapshot) { s.Now = now.Add(inDoubtFor - time.Second) }),
			want: effect{
				Phase: v1alpha1.PhaseFencing, Fenced: "FenceUnproven", Volume: "Held Waiting",
				Events: []string{"NodeFence NodeStillFenced", "Node NodeStillFenced"},
			},
		},
		"finishes a release that was begun when the node answers again": {
			snapshot: incident(proven, nodeReady("boot-1"), func(s *Snapshot) {
				s.Fence.Status = Next(incident(proven)).Status
				stuckPod(s)
			}),
			want: effect{
				Phase: v1alpha1.PhaseReleasing, Fenced: "NodeFenced", Volume: "Releasing", Steps: []string{delete1},
				Events: []string{"NodeFence NodeStillFenced", "Node NodeStillFenced"},
			},
		},
	})
}
