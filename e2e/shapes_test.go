package e2e

import (
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rbd-rescue/rbd-rescue/api/v1alpha1"
	"github.com/rbd-rescue/rbd-rescue/e2e/lab"
	"github.com/rbd-rescue/rbd-rescue/volume"
)

// The CSIDriver says attachRequired=false: there is no VolumeAttachment, the pods alone tell who holds the volume, and nothing
// but the gate keeps the next one from it until the fence is proven, which takes until Ceph's monitor is back.
func TestNoAttachmentRequired(t *testing.T) {
	s := begin(t, v1alpha1.ModeRescue)
	s.must(s.lab.Kube.RequireAttachment(s.ctx, false))
	t.Cleanup(func() { s.must(s.lab.Kube.RequireAttachment(s.ctx, true)) }) // before the lab is healed
	db := s.workload("db", "node-b", false, patience)
	var attachments storagev1.VolumeAttachmentList
	s.must(s.lab.Client.List(s.ctx, &attachments))
	for _, va := range attachments.Items {
		if *va.Spec.Source.PersistentVolumeName == db.Volume {
			t.Fatalf("it is attached: %v", va)
		}
	}
	s.must(s.lab.Ceph.StopMon(s.ctx))
	s.must(s.lab.Nodes["node-b"].KillKubelet()) // its writer goes on
	s.gated(db)
	s.told(v1alpha1.ReasonGateClosed, "Pod", db.Name)
	s.must(s.lab.Ceph.StartMon(s.ctx))
	s.movesAway("node-b", db)
	s.refused(db, "node-b")
	s.reaches("node-b", v1alpha1.PhaseRecovered)
	s.proveData(db)
}

// A node holds volumes of two Ceph clusters, one of which loses its quorum: each is fenced in its own, and the trouble of
// one does not hold up the other.
func TestTwoCephClusters(t *testing.T) {
	s := beginApart(t, "apart-c", v1alpha1.ModeRescue)
	first, second := s.lab.Ceph, s.ceph
	db := s.workloadOf(lab.WorkloadOptions{Namespace: s.namespace, Name: "db", StatefulSet: true, On: s.node, Patience: patience, Ceph: first})
	far := s.workloadOf(lab.WorkloadOptions{Namespace: s.namespace, Name: "far", StatefulSet: true, On: s.node, Patience: patience, Ceph: second})
	planned := s.plan(s.node)
	s.must(second.StopQuorum(s.ctx))
	s.must(s.lab.Nodes[s.node].KillKubelet()) // its writers go on
	s.movesAway(s.node, db)
	s.refused(db, s.node)
	if pods := s.pods(far); len(pods) != 1 || pods[0].Spec.NodeName != s.node {
		t.Errorf("released although its cluster does not answer: %v", pods)
	}
	s.must(second.StartMon(s.ctx))
	s.runsElsewhere(far, s.node)
	s.wrote(far, s.node)
	s.refused(far, s.node)
	nf := s.reaches(s.node, v1alpha1.PhaseRecovered)
	var fenced []string
	for _, c := range nf.Status.Clients {
		fenced = append(fenced, c.ClusterID)
	}
	if slices.Sort(fenced); !slices.Equal(fenced, []string{first.ClusterID, second.ClusterID}) {
		t.Errorf("fenced in clusters %v", fenced)
	}
	s.asPlanned(planned)
	s.proveData(db, far)
}

// A volume of Kubernetes' own old driver. No kubelet of today runs its pod, so that a process on the node stands for what an
// old kubelet had mapped; all else is real.
func TestInTreeVolume(t *testing.T) {
	s := begin(t, v1alpha1.ModeRescue)
	db, err := s.lab.MakeWorkload(s.ctx, lab.WorkloadOptions{
		Namespace: s.namespace, Name: "db", StatefulSet: true, On: "node-d", Patience: patience, InTree: true,
	})
	s.must(err)
	pv := &corev1.PersistentVolume{}
	s.must(s.lab.Client.Get(s.ctx, client.ObjectKey{Name: db.Volume}, pv))
	v, err := volume.Parse(pv)
	s.must(err)
	s.must(s.lab.Rescue.Configure(s.ctx, map[string]any{
		"cephClusters": []any{s.lab.Ceph.Configuration(lab.ClusterID), s.lab.Ceph.Configuration(v.ClusterID)},
	}))
	s.eventually(soon, "its pod is bound to node-d", func() (bool, error) { return s.boundTo(db, "node-d"), nil })
	old, err := s.lab.WriteFrom("node-d", db.Image)
	s.must(err)
	t.Cleanup(func() { _ = old.Kill() })
	s.must(s.lab.Nodes["node-d"].KillKubelet())
	s.eventually(atLast, "its next pod is bound to another node", func() (bool, error) {
		pods := s.pods(db)
		return len(pods) == 1 && pods[0].Spec.NodeName != "" && pods[0].Spec.NodeName != "node-d", nil
	})
	nf, err := s.fence("node-d")
	s.must(err)
	if nf == nil || nf.Status.Times.FencedAt == nil {
		t.Fatalf("released without a fence: %+v", nf)
	}
	next, err := s.lab.WriteFrom("spare-a", db.Image)
	s.must(err)
	t.Cleanup(func() { _ = next.Kill() })
	s.wrote(db, "node-d")
	s.refused(db, "node-d")
	s.told(v1alpha1.ReasonVolumeReleased, "PersistentVolumeClaim", "db")
	s.proveData(db)
}

func (s *scenario) boundTo(w *lab.Workload, node string) bool {
	pods := s.pods(w)
	return len(pods) == 1 && pods[0].Spec.NodeName == node
}
