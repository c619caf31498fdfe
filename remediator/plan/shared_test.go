package plan

import (
	"testing"

	corev1 "k8s.io/api/core/v1"

	"github.com/rbd-rescue/rbd-rescue/api/v1alpha1"
	"github.com/rbd-rescue/rbd-rescue/ceph"
)

// shared makes the volume ReadWriteMany: node-b has it as well, with a pod that runs and a client that watches.
func shared(s *Snapshot) {
	v := &s.Volumes[0]
	v.Exclusive, v.Shared = false, true
	runsElsewhereToo(s)
	v.Use.Watchers = append(v.Use.Watchers, ceph.Watcher{Address: ceph.MustParseAddress(otherClient)})
	s.OtherClients[ceph.MustParseAddress(otherClient)] = "node-b"
}

// withoutOldPod: the failed node's pod is gone from the API.
func withoutOldPod(s *Snapshot) {
	s.Volumes[0].Record.Pods = nil
	s.Volumes[0].Users, s.Pods = s.Volumes[0].Users[1:], nil
}

func gatedPod(s *Snapshot) {
	pod := podOn("", "db-0")
	pod.Status.Phase = corev1.PodPending
	pod.Spec.SchedulingGates = []corev1.PodSchedulingGate{{Name: v1alpha1.GateHeld}}
	s.Volumes[0].Users = append(s.Volumes[0].Users, pod)
}

func runsElsewhereToo(s *Snapshot) {
	pod := podOn("node-b", "db-9")
	pod.Status.Phase = corev1.PodRunning
	s.Volumes[0].Users = append(s.Volumes[0].Users, pod)
	s.Volumes[0].Attachments = append(s.Volumes[0].Attachments, attachment("pv-1", "node-b"))
}

func TestNextWithAReadWriteManyVolume(t *testing.T) {
	t.Parallel()
	checkNext(t, map[string]nextCase{
		"S2: fences the failed node's client alone": {
			snapshot: incident(shared),
			want: effect{
				Phase: v1alpha1.PhaseFencing, Fenced: "FenceUnproven", Volume: "Held Waiting",
				Steps: []string{taint, fence}, Events: started,
			},
		},
		"releases it from the failed node, and leaves the other node's pod and attachment": {
			snapshot: incident(shared, proven),
			want: effect{
				Phase: v1alpha1.PhaseReleasing, Fenced: "NodeFenced", Volume: "Releasing",
				Steps: []string{clear1, delete1}, Events: []string{"NodeFence NodeFenced", "Node NodeFenced"},
			},
		},
		"fences for a pod that is gated": {
			snapshot: incident(shared, gatedPod, func(s *Snapshot) { // the old one is gone from the API
				s.Volumes[0].Users, s.Pods = s.Volumes[0].Users[1:], nil
				s.Volumes[0].Use.Watchers = append(s.Volumes[0].Use.Watchers, ceph.Watcher{Address: ceph.MustParseAddress(deadClient)})
			}),
			want: effect{
				Phase: v1alpha1.PhaseFencing, Fenced: "FenceUnproven", Volume: "Held Waiting",
				Steps: []string{taint, fence}, Events: started,
			},
		},
		"S1: fences for a pod that is gated when Kubernetes has forgotten what the node had": {
			snapshot: incident(shared, fencing, withoutOldPod, gatedPod, func(s *Snapshot) {
				s.Node, s.Volumes[0].Attachments = nil, s.Volumes[0].Attachments[1:]
				s.Fence.Status = v1alpha1.NodeFenceStatus{
					Phase: v1alpha1.PhaseRefused, Times: s.Fence.Status.Times,
					Volumes: []v1alpha1.FencedVolume{{PersistentVolume: "pv-1", Phase: v1alpha1.VolumeRefused, Reason: v1alpha1.ReasonForeignClient}},
				}
				s.Fence.Spec.Clients = []string{deadClient}
			}),
			want: effect{
				Phase: v1alpha1.PhaseFencing, Fenced: "FenceUnproven", Volume: "Held Waiting",
				Steps: []string{fence}, Events: []string{"NodeFence FenceStarted"},
			},
		},
		"has recovered once no pod waits any more": {
			snapshot: incident(shared, released, runsElsewhereToo),
			want: effect{
				Phase: v1alpha1.PhaseRecovered, Fenced: "NodeFenced", Volume: "Recovered",
				Events: []string{
					"NodeFence VolumeReleased", "PersistentVolumeClaim VolumeReleased", "NodeFence VolumeRecovered", "PersistentVolumeClaim VolumeRecovered",
				},
			},
		},
		"has not recovered while a pod still waits, although another runs": {
			snapshot: incident(shared, released, runsElsewhereToo, gatedPod),
			want: effect{
				Phase: v1alpha1.PhaseRecovering, Fenced: "NodeFenced", Volume: "Released",
				Events: []string{"NodeFence VolumeReleased", "PersistentVolumeClaim VolumeReleased", "Pod VolumeReleased"},
			},
		},
		"S2: leaves a watcher on another node's address alone, though it is not on record yet": {
			snapshot: incident(shared, func(s *Snapshot) { delete(s.OtherClients, ceph.MustParseAddress(otherClient)) }),
			want: effect{
				Phase: v1alpha1.PhaseFencing, Fenced: "FenceUnproven", Volume: "Held Waiting",
				Steps: []string{taint, fence}, Events: started,
			},
		},
		"S2: refuses a watcher that no node is known for": {
			snapshot: incident(shared, watcherAt("10.0.0.77:0/7")),
			want:     refusedBecause("ForeignClient"),
		},
		"S2: refuses a client that is recorded for both nodes": {
			snapshot: incident(shared, func(s *Snapshot) { s.OtherClients[ceph.MustParseAddress(deadClient)] = "node-b" }),
			want:     refusedBecause("HealthyClient"),
		},
		"does nothing for a pod that runs with it elsewhere by right": {
			snapshot: incident(shared, withoutOldPod),
			want:     effect{Phase: v1alpha1.PhasePending, Fenced: "NoDemand", Volume: "Held NoDemand"},
		},
	})
}
