package rescuer

import (
	"context"
	"slices"
	"strings"
	"syscall"
	"testing"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rbd-rescue/rbd-rescue/api/v1alpha1"
	"github.com/rbd-rescue/rbd-rescue/ceph"
	"github.com/rbd-rescue/rbd-rescue/ceph/cephtest"
)

// requireSnapshot has nothing of namespace shop released without a safety snapshot.
func (w *world) requireSnapshot() {
	w.Helper()
	w.setSnapshotPolicy(v1alpha1.SnapshotRequired)
	w.required = true
}

func (w *world) setSnapshotPolicy(policy v1alpha1.SnapshotPolicy) {
	w.Helper()
	ns := &corev1.Namespace{}
	if err := w.client.Get(context.Background(), client.ObjectKey{Name: "shop"}, ns); err != nil {
		w.Fatal(err)
	}
	ns.Annotations[v1alpha1.AnnotationSnapshot] = string(policy)
	if err := w.client.Update(context.Background(), ns); err != nil {
		w.Fatal(err)
	}
}

func TestASnapshotIsTakenBeforeAnythingIsReleased(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.requireSnapshot()
	if err := w.settle(w.controller()); err != nil {
		t.Fatal(err)
	}
	w.checkReleased()
	if s := w.volume("pv").Snapshot; s.State != v1alpha1.SnapshotTaken || !slices.Equal(w.ceph.Snapshots(image), []string{s.Name}) {
		t.Errorf("the status says %+v, Ceph has %v", s, w.ceph.Snapshots(image))
	}
}

func TestAUserWithoutTheRightForSnapshotsReleasesWithoutAndSaysSo(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.ceph.FailNext("create snapshot", &ceph.CommandError{Command: "create snapshot", Errno: syscall.EPERM})
	if err := w.settle(w.controller()); err != nil {
		t.Fatal(err)
	}
	w.checkReleased()
	told := 0
	for len(w.events.Events) > 0 {
		if e := <-w.events.Events; strings.HasPrefix(e, "Warning SnapshotFailed") && strings.Contains(e, "the user needs the caps for snapshots") {
			told++
		}
	}
	if told != 1 {
		t.Errorf("told %d times", told)
	}
}

func TestNothingIsReleasedWithoutASnapshotThatIsRequired(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.requireSnapshot()
	c := w.controller()
	w.ceph.FailNext("create snapshot", &ceph.CommandError{Command: "create snapshot", Errno: syscall.EPERM})
	for range 4 {
		w.look(c)
	}
	if w.deleted != nil || w.volume("pv").Phase != v1alpha1.VolumeHeld {
		t.Fatalf("pv is %s", w.volume("pv").Phase)
	}
	w.required = false
	w.setSnapshotPolicy(v1alpha1.SnapshotBestEffort)
	if err := w.settle(c); err != nil {
		t.Fatal(err)
	}
	w.checkReleased()
}

// movedOn is an API that shows no VolumeAttachment any more, from the moment on that when holds; the cache still has it.
type movedOn struct {
	client.Reader
	ceph *cephtest.Cluster
	when func(*cephtest.Cluster) bool
}

func (r movedOn) Get(ctx context.Context, key client.ObjectKey, o client.Object, opts ...client.GetOption) error {
	if _, is := o.(*storagev1.VolumeAttachment); is && r.when(r.ceph) {
		return apierrors.NewNotFound(schema.GroupResource{Resource: "volumeattachments"}, key.Name)
	}
	return r.Reader.Get(ctx, key, o, opts...)
}

func TestNoSnapshotIsTakenOnceAnotherNodeMayHaveTheVolume(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.requireSnapshot()
	c := w.controller()
	c.Live = movedOn{w.client, w.ceph, func(*cephtest.Cluster) bool { return true }}
	for range 4 {
		w.look(c)
	}
	if taken := w.ceph.Snapshots(image); len(taken) > 0 || w.deleted != nil {
		t.Errorf("took %v", taken)
	}
}

// It was attached when the snapshot was asked for, and no longer when that was seen: another node may have written in between.
func TestASnapshotDoesNotCountOnceAnotherNodeMayHaveTheVolume(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.requireSnapshot()
	c := w.controller()
	c.Live = movedOn{w.client, w.ceph, func(cluster *cephtest.Cluster) bool { return len(cluster.Snapshots(image)) > 0 }}
	c.Observer.Live = c.Live
	for range 4 {
		w.look(c)
	}
	if s := w.volume("pv").Snapshot; s == nil || s.State != v1alpha1.SnapshotFailed || w.deleted != nil {
		t.Errorf("the status says %+v", s)
	}
}
