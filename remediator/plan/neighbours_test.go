package plan

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/types"

	"github.com/rbd-rescue/rbd-rescue/api/v1alpha1"
)

// neighbour is a volume of a namespace that is out, which the node has open through the same client.
func neighbour(s *Snapshot) {
	pod := podOn("node-a", "web-0")
	pod.Namespace = "web"
	v := heldVolume("pv-2", "files", "img2", pod)
	v.Claim = types.NamespacedName{Namespace: "web", Name: "files"}
	s.Volumes = append(s.Volumes, v)
	s.Pods = append(s.Pods, pod)
}

func refuseShared(s *Snapshot) { s.Settings.SharedClients = SharedRefuse }

func TestNextTellsWhichNeighboursTheFenceCutsOff(t *testing.T) {
	t.Parallel()
	d := Next(incident(neighbour))
	want := []v1alpha1.Neighbour{{PersistentVolume: "pv-2", Claim: "web/files"}}
	if diff := cmp.Diff(want, d.Status.Neighbours); diff != "" {
		t.Error(diff)
	}
	wantEvents := append(append([]string{}, started...), "NodeFence NeighboursCutOff", "Node NeighboursCutOff")
	if diff := cmp.Diff(wantEvents, reasons(d.Events)); diff != "" {
		t.Error(diff)
	}
}

// The neighbour has a client of its own, so that only the whole host, which a volume that is wanted later needs, cuts it off.
func TestNextTellsWhichNeighboursALaterEntryCutsOff(t *testing.T) {
	t.Parallel()
	ownClient := func(s *Snapshot) { s.Volumes[1].Record.Clients = []string{"10.0.0.1:0/55"} }
	s := incident(neighbour, ownClient)
	first := Next(s)
	if len(first.Status.Neighbours) > 0 {
		t.Fatalf("neighbours of the first client: %v", first.Status.Neighbours)
	}
	s = incident(neighbour, ownClient, recordOfAnotherBoot, listedFor(entryTTL))
	s.Fence.Status = first.Status
	s.Fence.Status.Volumes[0].Clients = nil
	d := Next(s)
	if want := []v1alpha1.Neighbour{{PersistentVolume: "pv-2", Claim: "web/files"}}; !cmp.Equal(want, d.Status.Neighbours) {
		t.Errorf("neighbours of the host: %v, want %v", d.Status.Neighbours, want)
	}
	if want := []string{"NodeFence NeighboursCutOff", "Node NeighboursCutOff"}; !cmp.Equal(want, reasons(d.Events)) {
		t.Errorf("events %v, want %v", reasons(d.Events), want)
	}
	s.Fence.Status = d.Status
	if again := reasons(Next(s).Events); len(again) > 0 {
		t.Errorf("tells %v twice", again)
	}
}

func TestNextWithSharedClients(t *testing.T) {
	t.Parallel()
	checkNext(t, map[string]nextCase{
		"refuses, where the policy says so": {snapshot: incident(neighbour, refuseShared), want: refusedBecause("SharedClient")},
		"fences a client that serves nobody else": {
			snapshot: incident(neighbour, refuseShared, func(s *Snapshot) { s.Volumes[1].Record.Clients = []string{"10.0.0.1:0/55"} }),
			want:     fencingWith(deadClient),
		},
		"refuses a whole host beside any other volume": {
			snapshot: incident(neighbour, refuseShared, recordOfAnotherBoot), want: refusedBecause("SharedClient"),
		},
		"fences when the neighbour moves as well": {
			snapshot: incident(neighbour, refuseShared, func(s *Snapshot) {
				s.Policies["web"] = v1alpha1.Policy{Mode: v1alpha1.ModeRescue}
				s.Pods[1].DeletionTimestamp = s.Pods[0].DeletionTimestamp
			}),
			want: fencingWith(deadClient),
		},
	})
}

func TestNextForceDeletesWhatANamespaceAllows(t *testing.T) {
	t.Parallel()
	checkNext(t, map[string]nextCase{
		"a bare pod": {
			snapshot: incident(func(s *Snapshot) {
				s.Pods[0].OwnerReferences = nil
				s.Policies["shop"] = v1alpha1.Policy{Mode: v1alpha1.ModeRescue, BarePods: true}
			}),
			want: fencingWith(deadClient),
		},
		"a pod with storage that cannot be fenced": {
			snapshot: incident(func(s *Snapshot) {
				s.Pods[0].Spec.Volumes = append(s.Pods[0].Spec.Volumes, claimVolume("nfs"))
				s.UnfencedClaims[types.NamespacedName{Namespace: "shop", Name: "nfs"}] = "PersistentVolume nfs"
				s.Policies["shop"] = v1alpha1.Policy{Mode: v1alpha1.ModeRescue, UnfencedStorage: true}
			}),
			want: fencingWith(deadClient),
		},
	})
}
