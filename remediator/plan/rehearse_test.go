package plan

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/rbd-rescue/rbd-rescue/api/v1alpha1"
)

// healthy is the incident before the failure: the node is Ready, its pod runs, and there is no NodeFence.
func healthy(options ...option) Snapshot {
	s := incident(nodeReady("boot-1"))
	s.Node.Status.Conditions[0].LastTransitionTime = metav1.NewTime(now.AddDate(0, 0, -1))
	s.Pods[0].DeletionTimestamp, s.Pods[0].DeletionGracePeriodSeconds = nil, nil
	s.Pods[0].Status.Phase = corev1.PodRunning
	s.Fence, s.Health = nil, Health{Nodes: 3}
	for _, o := range options {
		o(&s)
	}
	return s
}

// bare takes the pod's controller away.
func bare(s *Snapshot) { s.Pods[0].OwnerReferences = nil }

// besideIt adds a volume of a namespace that did not opt in, and that the same client serves.
func besideIt(s *Snapshot) {
	pod := podOn("node-a", "files-0")
	pod.Namespace, pod.Spec.Volumes = "web", []corev1.Volume{claimVolume("files")}
	v := heldVolume("pv-2", "files", "img-2", pod)
	v.Claim.Namespace = "web"
	s.Pods, s.Volumes = append(s.Pods, pod), append(s.Volumes, v)
}

func rehearse(s Snapshot) Rehearsal {
	s = IfFailed(s)
	nf, verdict := FenceOf(s)
	s.Fence = nf
	return Rehearse(s, verdict)
}

func TestRehearse(t *testing.T) {
	t.Parallel()
	cut := []v1alpha1.FencedClient{{ClusterID: "c1", Address: deadClient, Scope: v1alpha1.ScopeClient, Source: "record"}}
	volume := func(phase v1alpha1.FencedVolumePhase, reason string) []v1alpha1.FencedVolume {
		v := v1alpha1.FencedVolume{PersistentVolume: "pv-1", Claim: "shop/data", Image: "rbd/img", Phase: phase, Reason: reason}
		if phase == v1alpha1.VolumeReleased {
			v.Clients = []string{deadClient}
		}
		return []v1alpha1.FencedVolume{v}
	}
	released := Rehearsal{
		Node: "node-a", BootID: "boot-1", Clients: cut, Volumes: volume(v1alpha1.VolumeReleased, ""),
		DeletedPods: []string{"shop/db-0"}, Tainted: true,
	}
	with := func(r Rehearsal, change func(*Rehearsal)) Rehearsal {
		change(&r)
		return r
	}
	for name, test := range map[string]struct {
		snapshot Snapshot
		want     Rehearsal
	}{
		"a healthy node: all that its failure would bring": {healthy(), released},
		"a node that has failed already":                   {incident(func(s *Snapshot) { s.Fence = nil }), released},
		"the safety snapshot is taken on the way":          {healthy(snapshots(v1alpha1.SnapshotRequired)), released},
		"a live watcher is the record's client": {
			healthy(watcherAt(deadClient)),
			with(released, func(r *Rehearsal) {
				r.Clients = []v1alpha1.FencedClient{{ClusterID: "c1", Address: deadClient, Scope: v1alpha1.ScopeClient, Source: "record+watcher"}}
			}),
		},
		"S6: a pod that nobody makes again is refused, and nothing is cut off": {
			healthy(bare),
			Rehearsal{Node: "node-a", BootID: "boot-1", Reason: v1alpha1.ReasonBarePod, Volumes: volume(v1alpha1.VolumeRefused, v1alpha1.ReasonBarePod)},
		},
		"S6: what is cut off besides is told": {
			healthy(besideIt),
			with(released, func(r *Rehearsal) {
				r.Neighbours = []v1alpha1.Neighbour{{PersistentVolume: "pv-2", Claim: "web/files"}}
			}),
		},
		"S7: the breaker that this failure would open is told, and what is behind it": {
			healthy(func(s *Snapshot) { s.Health = Health{Nodes: 3, Failed: 1} }),
			with(released, func(r *Rehearsal) { r.Reason = v1alpha1.ReasonBreakerOpen }),
		},
		"a pause is told, and what is behind it": {
			healthy(func(s *Snapshot) { s.Paused = "somebody paused it" }),
			with(released, func(r *Rehearsal) { r.Reason = v1alpha1.ReasonPaused }),
		},
		"nobody opted in: nothing would be fenced": {
			healthy(func(s *Snapshot) { s.Policies = nil }),
			Rehearsal{Node: "node-a", BootID: "boot-1", Reason: v1alpha1.ReasonNoDemand},
		},
		"a pod that Kubernetes never evicts is no demand": {
			healthy(func(s *Snapshot) {
				s.Pods[0].Spec.Tolerations = []corev1.Toleration{{Key: corev1.TaintNodeUnreachable, Operator: corev1.TolerationOpExists}}
			}),
			Rehearsal{Node: "node-a", BootID: "boot-1", Reason: v1alpha1.ReasonNoDemand, Volumes: volume(v1alpha1.VolumeHeld, v1alpha1.ReasonNoDemand)},
		},
		"Ceph does not answer": {
			healthy(cephError(errors.New("no monitor"))),
			Rehearsal{Node: "node-a", BootID: "boot-1", Reason: v1alpha1.ReasonCephUnreachable, Volumes: volume(v1alpha1.VolumeHeld, v1alpha1.ReasonCephUnreachable)},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := rehearse(test.snapshot)
			if len(got.Clients) == 0 && got.Why == "" || got.Reason != "" && got.Why == "" {
				t.Errorf("nothing says why: %+v", got)
			}
			got.Why, got.Steps = "", nil // texts
			for i := range got.Volumes {
				got.Volumes[i].Message = ""
			}
			if diff := cmp.Diff(test.want, got, cmpopts.EquateEmpty()); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestARehearsalChangesNothing(t *testing.T) {
	t.Parallel()
	s, same := healthy(besideIt), healthy(besideIt)
	rehearse(s)
	if diff := cmp.Diff(same.Node, s.Node) + cmp.Diff(same.Pods, s.Pods) + cmp.Diff(same.Clusters["c1"].Map.Blocklist, s.Clusters["c1"].Map.Blocklist) +
		cmp.Diff(same.Volumes[0].Attachments, s.Volumes[0].Attachments); diff != "" {
		t.Error(diff)
	}
}

// What a person asks for is done to a node that answers: its pods are asked to go.
func TestRehearseWhatAPersonAsksFor(t *testing.T) {
	t.Parallel()
	s := healthy()
	s.Fence = &v1alpha1.NodeFence{Spec: v1alpha1.NodeFenceSpec{NodeName: "node-a", BootID: "boot-1"}}
	got := Rehearse(s, Verdict{})
	want := []string{
		"taint node node-a",
		"add 10.0.0.1:0/42 to the blocklist of cluster c1 for 87600h0m0s",
		"delete pod shop/db-0",
	}
	if len(got.Steps) < 3 || got.Why != "" || got.Volumes[0].Phase != v1alpha1.VolumeReleased {
		t.Errorf("%+v", got)
	}
	if diff := cmp.Diff(want, got.Steps); diff != "" {
		t.Error(diff)
	}
}
