package retention

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/tools/events"
	clocktesting "k8s.io/utils/clock/testing"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	"github.com/rbd-rescue/rbd-rescue/api/v1alpha1"
	"github.com/rbd-rescue/rbd-rescue/ceph"
	"github.com/rbd-rescue/rbd-rescue/ceph/cephtest"
	"github.com/rbd-rescue/rbd-rescue/remediator/announce"
	"github.com/rbd-rescue/rbd-rescue/remediator/plan"
)

var image = ceph.Image{Pool: "rbd", Name: "img"}

// world is a cluster and a Ceph in memory.
type world struct {
	*testing.T
	*Controller
	client client.Client
	ceph   *cephtest.Cluster
	clock  *clocktesting.FakePassiveClock
	events *events.FakeRecorder
}

func newWorld(t *testing.T, fences ...*v1alpha1.NodeFence) *world {
	t.Helper()
	scheme := runtime.NewScheme()
	if err := errors.Join(clientgoscheme.AddToScheme(scheme), v1alpha1.AddToScheme(scheme)); err != nil {
		t.Fatal(err)
	}
	volume := pv(corev1.PersistentVolumeReclaimDelete, corev1.VolumeBound)
	volume.Name = "pv"
	objects := []client.Object{volume}
	for _, nf := range fences {
		nf.Finalizers = []string{v1alpha1.FinalizerFence} // the fake client keeps no deleted object without one
		objects = append(objects, nf)
	}
	w := &world{T: t, clock: clocktesting.NewFakePassiveClock(now), events: events.NewFakeRecorder(100)}
	w.ceph = cephtest.New(w.clock)
	w.client = fake.NewClientBuilder().WithScheme(scheme).WithObjects(objects...).WithStatusSubresource(&v1alpha1.NodeFence{}).Build()
	w.Controller = &Controller{
		Client: w.client, Live: w.client, Clock: w.clock, Settings: plan.DefaultSettings(), Announcer: announce.New(w.events, w.clock),
		Clusters: ceph.NewClusters(map[string]ceph.Dial{"c1": func(context.Context) (ceph.Conn, error) { return w.ceph, nil }}),
	}
	return w
}

func (w *world) look() {
	w.Helper()
	if _, err := w.Reconcile(w.Context(), allSnapshots); err != nil {
		w.Fatal(err)
	}
}

func (w *world) fence(name string) *v1alpha1.NodeFence {
	w.Helper()
	nf := &v1alpha1.NodeFence{}
	if err := w.client.Get(w.Context(), client.ObjectKey{Name: name}, nf); err != nil {
		w.Fatal(err)
	}
	return nf
}

func (w *world) told() []string {
	var told []string
	for len(w.events.Events) > 0 {
		told = append(told, <-w.events.Events)
	}
	return told
}

func TestASnapshotGoesWithItsNodeFence(t *testing.T) {
	t.Parallel()
	w := newWorld(t, deleted(fence("a", v1alpha1.PhaseLifted, time.Hour)))
	w.ceph.AddSnapshot(image, "of-a")
	w.ceph.AddSnapshot(image, "somebody's")
	w.look()
	if left := w.ceph.Snapshots(image); !slices.Equal(left, []string{"somebody's"}) {
		t.Errorf("left are %v", left)
	}
	if s := w.fence("a").Status.Volumes[0].Snapshot; s.State != v1alpha1.SnapshotRemoved || s.RemovedAt == nil || s.Message != "its NodeFence was deleted" {
		t.Errorf("the status says %+v", s)
	}
	if told := w.told(); len(told) != 1 || !strings.Contains(told[0], v1alpha1.ReasonSnapshotRemoved) {
		t.Errorf("told %q", told)
	}
}

func TestASnapshotThatIsInUseStaysAndIsTold(t *testing.T) {
	t.Parallel()
	w := newWorld(t, deleted(fence("a", v1alpha1.PhaseLifted, time.Hour)), deleted(fence("b", v1alpha1.PhaseLifted, time.Hour)))
	w.ceph.AddSnapshot(image, "of-a")
	w.ceph.AddSnapshot(image, "of-b")
	w.ceph.UseSnapshot("of-a", true)
	w.look()
	if left := w.ceph.Snapshots(image); !slices.Equal(left, []string{"of-a"}) {
		t.Errorf("left are %v", left)
	}
	if told := w.told(); !slices.ContainsFunc(told, func(e string) bool {
		return strings.HasPrefix(e, "Warning SnapshotKept") && strings.Contains(e, "rbd children rbd/img@of-a")
	}) {
		t.Errorf("told %q", told)
	}
	w.ceph.UseSnapshot("of-a", false)
	w.look()
	if left := w.ceph.Snapshots(image); len(left) > 0 {
		t.Errorf("left are %v once it is no longer in use", left)
	}
}

// S8: a crash after the removal, before it is noted.
func TestASnapshotThatIsGoneAlreadyIsNoted(t *testing.T) {
	t.Parallel()
	w := newWorld(t, deleted(fence("a", v1alpha1.PhaseLifted, time.Hour)))
	w.look()
	if s := w.fence("a").Status.Volumes[0].Snapshot; s.State != v1alpha1.SnapshotRemoved {
		t.Errorf("the status says %+v", s)
	}
}

func TestASnapshotThatDoesNotCountIsRemovedWheneverItComes(t *testing.T) {
	t.Parallel()
	nf := fence("a", v1alpha1.PhaseRecovered, 0)
	nf.Status.Volumes[0].Snapshot = nil
	nf.Status.Discarded = []v1alpha1.DiscardedSnapshot{{ClusterID: "c1", Image: "rbd/img", Name: "late", DiscardedAt: metav1.NewMicroTime(now)}}
	w := newWorld(t, nf)
	w.look()
	w.ceph.AddSnapshot(image, "late")
	w.look()
	if left := w.ceph.Snapshots(image); len(left) > 0 || len(w.fence("a").Status.Discarded) != 1 {
		t.Errorf("left are %v, and %v", left, w.fence("a").Status.Discarded)
	}
	w.clock.SetTime(now.Add(plan.DiscardedFor + time.Second))
	w.look()
	if left := w.fence("a").Status.Discarded; len(left) > 0 {
		t.Errorf("looks for it for ever: %v", left)
	}
}

func TestASnapshotStaysWhileCephDoesNotAnswer(t *testing.T) {
	t.Parallel()
	w := newWorld(t, deleted(fence("a", v1alpha1.PhaseLifted, time.Hour)))
	w.ceph.AddSnapshot(image, "of-a")
	w.ceph.FailNext("remove snapshot", ceph.ErrInDoubt)
	w.look()
	if s := w.fence("a").Status.Volumes[0].Snapshot; s.State != v1alpha1.SnapshotTaken {
		t.Errorf("the status says %+v", s)
	}
	w.look()
	if s := w.fence("a").Status.Volumes[0].Snapshot; s.State != v1alpha1.SnapshotRemoved {
		t.Errorf("the status says %+v", s)
	}
}

func TestNothingIsAskedWhileThereIsNoSnapshot(t *testing.T) {
	t.Parallel()
	w := newWorld(t, state(fence("a", v1alpha1.PhaseRecovered, 0), v1alpha1.SnapshotFailed))
	result, err := w.Reconcile(t.Context(), allSnapshots)
	if err != nil || result.RequeueAfter != 0 || len(w.ceph.Calls()) > 0 {
		t.Errorf("looks again after %s, asked %v: %v", result.RequeueAfter, w.ceph.Calls(), err)
	}
}
