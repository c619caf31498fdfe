package e2e

import (
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rbd-rescue/rbd-rescue/api/v1alpha1"
	"github.com/rbd-rescue/rbd-rescue/e2e/lab"
)

// No snapshot can be taken of two images. Where none is required the release goes on, and it is told; where one is required the
// release waits, and goes on once it can be taken. The snapshot shows every record that the fenced node's writer was told is safe, and
// none of the next one's. It goes with its volume.
func TestSafetySnapshot(t *testing.T) {
	s := beginOnNode(t, v1alpha1.ModeRescue)
	s.must(s.lab.SetSnapshots(s.ctx, s.namespace, v1alpha1.SnapshotRequired))
	db := s.workload("db", s.node, true, patience)
	other := s.anotherNamespace("other", v1alpha1.ModeRescue)
	web := s.workloadOf(lab.WorkloadOptions{Namespace: other, Name: "web", On: s.node, Patience: patience})
	for _, w := range []*lab.Workload{db, web} {
		s.rbd("snap", "create", "--no-progress", lab.Pool+"/"+w.Image+"@mine")
		s.rbd("snap", "limit", "set", "--limit", "1", lab.Pool+"/"+w.Image)
	}
	s.must(s.lab.Nodes[s.node].KillKubelet()) // its writers go on until they are cut off
	s.movesAway(s.node, web)
	s.told(v1alpha1.ReasonSnapshotFailed, "NodeFence", s.node)
	s.told(v1alpha1.ReasonSnapshotFailed, "PersistentVolumeClaim", "db")
	if entry := s.volumeOf(db); entry.Phase != v1alpha1.VolumeHeld || entry.Reason != v1alpha1.ReasonSnapshotFailed ||
		!strings.Contains(entry.Message, "which its namespace requires") {
		t.Errorf("db is %s, %s: %s", entry.Phase, entry.Reason, entry.Message)
	}
	if pods := s.pods(db); len(pods) != 1 || pods[0].Spec.NodeName != s.node {
		t.Errorf("db was released without its snapshot: its pods are %v", pods)
	}

	s.rbd("snap", "limit", "clear", lab.Pool+"/"+db.Image)
	s.runsElsewhere(db, s.node)
	s.wrote(db, s.node)
	s.refused(db, s.node)
	s.told(v1alpha1.ReasonSnapshotTaken, "PersistentVolumeClaim", "db")
	snapshot := s.volumeOf(db).Snapshot
	t.Logf("the snapshot was there %s after it was first asked for", snapshot.TakenAt.Sub(snapshot.AskedAt.Time))
	s.proveSnapshot(db, snapshot.Name)
	s.proveData(db, web)

	// Ceph deletes no image that has a snapshot.
	s.must(s.lab.Client.Patch(s.ctx, &corev1.PersistentVolume{ObjectMeta: metav1.ObjectMeta{Name: db.Volume}},
		clientPatch(`{"spec":{"persistentVolumeReclaimPolicy":"Delete"}}`)))
	s.must(s.lab.Client.Delete(s.ctx, &appsv1.StatefulSet{ObjectMeta: metav1.ObjectMeta{Namespace: s.namespace, Name: db.Name}},
		client.PropagationPolicy(metav1.DeletePropagationForeground)))
	s.must(s.lab.Client.Delete(s.ctx, &corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Namespace: s.namespace, Name: db.Name}}))
	s.told(v1alpha1.ReasonSnapshotRemoved, "NodeFence", s.node)
	s.rbd("snap", "rm", "--no-progress", lab.Pool+"/"+db.Image+"@mine") // whoever has taken one removes it
	s.eventually(60*time.Second, "the image can be deleted", func() (bool, error) {
		_, err := s.lab.Ceph.RBD(s.ctx, "rm", "--no-progress", lab.Pool+"/"+db.Image)
		return err == nil, err
	})
}

func (s *scenario) rbd(command ...string) {
	s.Helper()
	_, err := s.lab.Ceph.RBD(s.ctx, command...)
	s.must(err)
}

// volumeOf is what the NodeFence says of an application's volume.
func (s *scenario) volumeOf(w *lab.Workload) v1alpha1.FencedVolume {
	s.Helper()
	nf, err := s.fence(s.node)
	s.must(err)
	for _, entry := range nf.Status.Volumes {
		if entry.PersistentVolume == w.Volume {
			return entry
		}
	}
	s.Fatalf("NodeFence %s does not list %s", nf.Name, w.Volume)
	return v1alpha1.FencedVolume{}
}

// proveSnapshot reads a snapshot back. A write that was under way when the client was cut off may be in it, and was never acknowledged.
func (s *scenario) proveSnapshot(w *lab.Workload, name string) {
	s.Helper()
	report, err := w.CheckSnapshot(s.ctx, name, s.node)
	s.must(err)
	if !report.OK || len(report.Writers) != 1 || report.Writers[0].Node != s.node || report.Writers[0].Acknowledged == 0 ||
		report.Writers[0].Records > report.Writers[0].Acknowledged+1 {
		s.Errorf("snapshot %s of %s is not what %s has left:\n%s", name, w.Image, s.node, report)
		return
	}
	s.Logf("%6.1f s  snapshot %s is what %s has left:\n%s", time.Since(s.began).Seconds(), name, s.node, report)
}
