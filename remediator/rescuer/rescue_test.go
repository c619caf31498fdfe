package rescuer

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/tools/events"
	clocktesting "k8s.io/utils/clock/testing"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/rbd-rescue/rbd-rescue/api/v1alpha1"
	"github.com/rbd-rescue/rbd-rescue/ceph"
	"github.com/rbd-rescue/rbd-rescue/ceph/cephtest"
	"github.com/rbd-rescue/rbd-rescue/remediator/announce"
	"github.com/rbd-rescue/rbd-rescue/remediator/observe"
	"github.com/rbd-rescue/rbd-rescue/remediator/plan"
)

const (
	deadClient = "10.0.0.1:0/42"
	uniqueName = "kubernetes.io/csi/rbd.csi.ceph.com^h"
)

var (
	now   = time.Date(2026, 11, 23, 3, 0, 0, 0, time.UTC)
	image = ceph.Image{Pool: "rbd", Name: "img"}
)

// world is one cluster and one Ceph in memory, with node-a failed under pod shop/db-0.
type world struct {
	*testing.T
	client client.WithWatch
	ceph   *cephtest.Cluster
	events *events.FakeRecorder

	// lock: the steps of one decision run side by side.
	lock sync.Mutex
	// writes so far; the one with number crashAt fails, and so does everything after it, until restart.
	writes, crashAt int
	crashed         bool
	// deleted are the preconditions with which the pod was deleted.
	deleted *client.DeleteOptions
	// required: nothing may be released without a safety snapshot.
	required bool
}

// errCrashed is what every call gives after the crash.
var errCrashed = errors.New("the process is gone")

func newWorld(t *testing.T, besides ...client.Object) *world {
	t.Helper()
	w := &world{T: t, ceph: cephtest.New(clocktesting.NewFakePassiveClock(now)), events: events.NewFakeRecorder(1000)}
	w.ceph.Watch(image, deadClient)
	w.ceph.FailWith(func(call string) error {
		if call == "osd blocklist" || call == "create snapshot" {
			return w.write()
		}
		return nil
	})
	scheme := runtime.NewScheme()
	if err := errors.Join(clientgoscheme.AddToScheme(scheme), v1alpha1.AddToScheme(scheme)); err != nil {
		t.Fatal(err)
	}
	builder := fake.NewClientBuilder().WithScheme(scheme).WithObjects(append(objects(), besides...)...).
		WithStatusSubresource(&v1alpha1.NodeFence{}, &corev1.Node{}).
		WithIndex(&corev1.Pod{}, "status.podIP", func(o client.Object) []string { return []string{o.(*corev1.Pod).Status.PodIP} }) // the API server has it
	if err := observe.AddIndexes(context.Background(), fakeIndexer{builder}); err != nil {
		t.Fatal(err)
	}
	w.client = builder.WithInterceptorFuncs(interceptor.Funcs{
		Delete: func(ctx context.Context, c client.WithWatch, o client.Object, opts ...client.DeleteOption) error {
			if err := w.write(); err != nil {
				return err
			}
			if _, ok := o.(*corev1.Pod); !ok {
				return c.Delete(ctx, o, opts...)
			}
			return w.deletePod(ctx, c, o, opts)
		},
		Patch: func(ctx context.Context, c client.WithWatch, o client.Object, p client.Patch, opts ...client.PatchOption) error {
			if err := w.write(); err != nil {
				return err
			}
			return c.Patch(ctx, o, p, opts...)
		},
		SubResourcePatch: func(ctx context.Context, c client.Client, sub string, o client.Object, p client.Patch, opts ...client.SubResourcePatchOption) error {
			if err := w.write(); err != nil {
				return err
			}
			w.checkFenced("cleared volumesInUse")
			return c.SubResource(sub).Patch(ctx, o, p, opts...)
		},
		SubResourceUpdate: func(ctx context.Context, c client.Client, sub string, o client.Object, opts ...client.SubResourceUpdateOption) error {
			if err := w.write(); err != nil {
				return err
			}
			return c.SubResource(sub).Update(ctx, o, opts...)
		},
	}).Build()
	return w
}

type fakeIndexer struct{ *fake.ClientBuilder }

func (f fakeIndexer) IndexField(_ context.Context, o client.Object, field string, values client.IndexerFunc) error {
	f.WithIndex(o, field, values)
	return nil
}

func objects() []client.Object {
	record, err := json.Marshal(v1alpha1.ClientRecord{
		"node-a": {NodeUID: "a", BootID: "boot-1", Clients: []string{deadClient}, Pods: []types.UID{"old"}},
	})
	if err != nil {
		panic(err)
	}
	return []client.Object{
		&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "shop", Annotations: map[string]string{v1alpha1.AnnotationMode: "rescue"}}},
		&corev1.Node{
			ObjectMeta: metav1.ObjectMeta{Name: "node-a", UID: "a"},
			Spec:       corev1.NodeSpec{Taints: []corev1.Taint{{Key: "somebody.else/s", Effect: corev1.TaintEffectNoSchedule}}},
			Status: corev1.NodeStatus{
				Conditions:   []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionUnknown, LastTransitionTime: metav1.NewTime(now.Add(-time.Minute))}},
				Addresses:    []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: "10.0.0.1"}},
				NodeInfo:     corev1.NodeSystemInfo{BootID: "boot-1"},
				VolumesInUse: []corev1.UniqueVolumeName{"other/1", uniqueName, "other/2"},
			},
		},
		&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "node-b", UID: "b"}},
		&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "node-c", UID: "c"}},
		&corev1.PersistentVolume{
			ObjectMeta: metav1.ObjectMeta{Name: "pv", Annotations: map[string]string{v1alpha1.AnnotationClients: string(record)}},
			Spec: corev1.PersistentVolumeSpec{
				AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce},
				ClaimRef:    &corev1.ObjectReference{Namespace: "shop", Name: "data"},
				PersistentVolumeSource: corev1.PersistentVolumeSource{CSI: &corev1.CSIPersistentVolumeSource{
					Driver: "rbd.csi.ceph.com", VolumeHandle: "h",
					VolumeAttributes: map[string]string{"clusterID": "c1", "pool": "rbd", "imageName": "img"},
				}},
			},
		},
		&corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "data"}, Spec: corev1.PersistentVolumeClaimSpec{VolumeName: "pv"}},
		&storagev1.VolumeAttachment{
			ObjectMeta: metav1.ObjectMeta{Name: "va", UID: "va"},
			Spec: storagev1.VolumeAttachmentSpec{
				NodeName: "node-a", Source: storagev1.VolumeAttachmentSource{PersistentVolumeName: new("pv")},
			},
			Status: storagev1.VolumeAttachmentStatus{Attached: true},
		},
		&corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{
				Namespace: "shop", Name: "db-0", UID: "old", DeletionTimestamp: new(metav1.NewTime(now)), DeletionGracePeriodSeconds: new(int64(30)),
				Finalizers:      []string{"the-fake-client/wants-one"},
				OwnerReferences: []metav1.OwnerReference{{Kind: "StatefulSet", Name: "db", Controller: new(true)}},
			},
			Spec: corev1.PodSpec{NodeName: "node-a", Volumes: []corev1.Volume{{Name: "data", VolumeSource: corev1.VolumeSource{
				PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: "data"},
			}}}},
		},
		&v1alpha1.NodeFence{
			ObjectMeta: metav1.ObjectMeta{Name: "nf", UID: "nf", Finalizers: []string{v1alpha1.FinalizerFence}},
			Spec:       v1alpha1.NodeFenceSpec{NodeName: "node-a", Automatic: true, BootID: "boot-1"},
		},
	}
}

// write counts a write, or crashes.
func (w *world) write() error {
	w.lock.Lock()
	defer w.lock.Unlock()
	if w.writes++; w.writes == w.crashAt {
		w.crashed = true
	}
	if w.crashed {
		return errCrashed
	}
	return nil
}

// deletePod deletes as the API server would: the fake client ignores preconditions, and keeps an object that has finalizers.
func (w *world) deletePod(ctx context.Context, c client.Client, o client.Object, opts []client.DeleteOption) error {
	w.checkFenced("deleted " + o.GetName())
	w.deleted = (&client.DeleteOptions{}).ApplyOptions(opts)
	pod := &corev1.Pod{}
	if err := c.Get(ctx, client.ObjectKeyFromObject(o), pod); err != nil {
		return err
	}
	if w.deleted.Preconditions == nil || *w.deleted.Preconditions.UID != pod.UID || *w.deleted.Preconditions.ResourceVersion != pod.ResourceVersion {
		w.Errorf("deleted %s with preconditions %v", pod.Name, w.deleted.Preconditions)
	}
	pod.Finalizers = nil
	return c.Update(ctx, pod)
}

// checkFenced is S1: at this moment the client is on the blocklist, and the barrier was passed.
func (w *world) checkFenced(what string) {
	if !slices.Contains(w.ceph.Blocklist(), deadClient) {
		w.Errorf("S1: %s while the client is not on the blocklist", what)
	}
	if !slices.Contains(w.ceph.Calls(), "probe") {
		w.Errorf("S1: %s without a barrier", what)
	}
	if w.required && len(w.ceph.Snapshots(image)) == 0 {
		w.Errorf("%s without a safety snapshot", what)
	}
}

// controller is a process that has just started.
func (w *world) controller() *Controller {
	w.crashed = false
	clock := clocktesting.NewFakePassiveClock(now)
	clusters := ceph.NewClusters(map[string]ceph.Dial{"c1": func(context.Context) (ceph.Conn, error) { return w.ceph, nil }})
	return &Controller{
		Client: w.client, Live: w.client, Clusters: clusters,
		Observer:  &observe.Observer{Reader: w.client, Live: w.client, Clusters: clusters, Clock: clock, Settings: plan.DefaultSettings()},
		Announcer: announce.New(w.events, clock),
	}
}

func (w *world) fence() *v1alpha1.NodeFence {
	w.Helper()
	nf := &v1alpha1.NodeFence{}
	if err := w.client.Get(context.Background(), client.ObjectKey{Name: "nf"}, nf); err != nil {
		w.Fatal(err)
	}
	return nf
}

// settle reconciles until nothing is asked for at once any more.
func (w *world) settle(c *Controller) error {
	for range 10 {
		result, err := c.Reconcile(context.Background(), reconcile.Request{NamespacedName: client.ObjectKey{Name: "nf"}})
		if err != nil {
			return err
		}
		if result.RequeueAfter > time.Second {
			return nil
		}
	}
	return nil
}

func (w *world) podIsGone() bool {
	return client.IgnoreNotFound(w.client.Get(context.Background(), client.ObjectKey{Namespace: "shop", Name: "db-0"}, &corev1.Pod{})) == nil &&
		w.client.Get(context.Background(), client.ObjectKey{Namespace: "shop", Name: "db-0"}, &corev1.Pod{}) != nil
}

// checkReleased is the state that every way must end in.
func (w *world) checkReleased() {
	w.Helper()
	node := &corev1.Node{}
	if err := w.client.Get(context.Background(), client.ObjectKey{Name: "node-a"}, node); err != nil {
		w.Fatal(err)
	}
	if want := []corev1.UniqueVolumeName{"other/1", "other/2"}; !slices.Equal(node.Status.VolumesInUse, want) {
		w.Errorf("volumesInUse is %v", node.Status.VolumesInUse)
	}
	if len(node.Spec.Taints) != 2 || node.Spec.Taints[0].Key != "somebody.else/s" || node.Spec.Taints[1].Key != v1alpha1.TaintFenced {
		w.Errorf("taints are %v", node.Spec.Taints)
	}
	if !w.podIsGone() {
		w.Error("the stuck pod is still there")
	}
	if w.deleted == nil || w.deleted.GracePeriodSeconds == nil || *w.deleted.GracePeriodSeconds != 0 {
		w.Errorf("deleted with %+v", w.deleted)
	}
	if !slices.Equal(w.ceph.Blocklist(), []string{deadClient}) {
		w.Errorf("blocklist is %v", w.ceph.Blocklist())
	}
	if nf := w.fence(); nf.Status.Phase != v1alpha1.PhaseReleasing || nf.Status.Times.FencedAt == nil {
		w.Errorf("phase %s, %+v", nf.Status.Phase, nf.Status.Times)
	}
}

func TestRescueFencesProvesAndReleases(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	if err := w.settle(w.controller()); err != nil {
		t.Fatal(err)
	}
	w.checkReleased()
}

// S8: whichever write is the last before a crash, a new process ends in the same state, and S1 holds at every write.
func TestRescueSurvivesACrashAtEveryWrite(t *testing.T) {
	t.Parallel()
	whole := newWorld(t)
	whole.requireSnapshot()
	if err := whole.settle(whole.controller()); err != nil {
		t.Fatal(err)
	}
	if whole.writes < 6 {
		t.Fatalf("only %d writes", whole.writes)
	}
	for crashAt := 1; crashAt <= whole.writes; crashAt++ {
		t.Run(fmt.Sprintf("before write %d", crashAt), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.requireSnapshot()
			w.crashAt = crashAt
			if err := w.settle(w.controller()); !errors.Is(err, errCrashed) {
				t.Fatalf("did not crash: %v", err)
			}
			if err := w.settle(w.controller()); err != nil {
				t.Fatal(err)
			}
			w.checkReleased()
			if taken := w.ceph.Snapshots(image); len(taken) != 1 {
				t.Errorf("snapshots are %v", taken)
			}
		})
	}
}

func TestRescueReleasesNothingWhileAPlacementGroupLags(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.ceph.Lag(true)
	if err := w.settle(w.controller()); err != nil {
		t.Fatal(err)
	}
	if w.podIsGone() || w.deleted != nil {
		t.Error("S1: the pod was deleted before the fence was proven")
	}
	if nf := w.fence(); nf.Status.Phase != v1alpha1.PhaseFencing {
		t.Errorf("phase %s", nf.Status.Phase)
	}
	w.ceph.Lag(false)
	if err := w.settle(w.controller()); err != nil {
		t.Fatal(err)
	}
	w.checkReleased()
}

func TestRescueReleasesNothingWhenTheLiveNodeIsReadyAgain(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := w.controller()
	c.Live = nodesReady{w.client} // what the API says, while the cache still shows the failure
	if err := w.settle(c); err != nil {
		t.Fatal(err)
	}
	if w.deleted != nil {
		t.Error("the pod was deleted although the node answers again")
	}
}

// S7: the cache shows one failure, the API many.
func TestRescueFencesNothingWhenTheLiveBreakerIsOpen(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := w.controller()
	c.Live = allUnknown{w.client}
	if err := w.settle(c); err != nil {
		t.Fatal(err)
	}
	if listed := w.ceph.Blocklist(); len(listed) > 0 {
		t.Errorf("S7: %v are cut off", listed)
	}
}

// S7: the same where the kubelets answer that they are not ready: each node would be the next.
func TestRescueFencesNothingWhenTheLiveNodesAreNotReady(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := w.controller()
	c.Live = othersNotReady{w.client}
	if err := w.settle(c); err != nil {
		t.Fatal(err)
	}
	if listed := w.ceph.Blocklist(); len(listed) > 0 {
		t.Errorf("S7: %v are cut off", listed)
	}
}

// othersNotReady lists every node but node-a as not ready.
type othersNotReady struct{ client.Reader }

func (r othersNotReady) List(ctx context.Context, list client.ObjectList, opts ...client.ListOption) error {
	err := r.Reader.List(ctx, list, opts...)
	if nodes, ok := list.(*corev1.NodeList); ok && err == nil {
		for i := range nodes.Items {
			if nodes.Items[i].Name != "node-a" {
				nodes.Items[i].Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionFalse}}
			}
		}
	}
	return err
}

// allUnknown lists every node as failed.
type allUnknown struct{ client.Reader }

func (r allUnknown) List(ctx context.Context, list client.ObjectList, opts ...client.ListOption) error {
	err := r.Reader.List(ctx, list, opts...)
	if nodes, ok := list.(*corev1.NodeList); ok && err == nil {
		for i := range nodes.Items {
			nodes.Items[i].Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionUnknown}}
		}
	}
	return err
}

// nodesReady shows every node as Ready.
type nodesReady struct{ client.Reader }

func (r nodesReady) Get(ctx context.Context, key client.ObjectKey, o client.Object, opts ...client.GetOption) error {
	err := r.Reader.Get(ctx, key, o, opts...)
	if node, ok := o.(*corev1.Node); ok && err == nil {
		node.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}}
	}
	return err
}

func TestRescueTellsAFailedStep(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.ceph.FailWith(func(call string) error {
		if call == "osd blocklist" {
			return &ceph.CommandError{Command: call, Errno: 13}
		}
		return nil
	})
	if err := w.settle(w.controller()); err == nil {
		t.Fatal("a refused command is no error")
	}
	var told []string
	for len(w.events.Events) > 0 {
		told = append(told, <-w.events.Events)
	}
	if !slices.ContainsFunc(told, func(e string) bool { return len(e) > 0 && e[:18] == "Warning StepFailed" }) {
		t.Errorf("told %q", told)
	}
}

// S3: the decision to remove was taken from a cache that did not have the other incident yet.
func TestAnEntryThatAnotherIncidentNeedsIsNotRemoved(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	w := newWorld(t)
	c := w.controller()
	other := &v1alpha1.NodeFence{
		ObjectMeta: metav1.ObjectMeta{Name: "other"},
		Spec:       v1alpha1.NodeFenceSpec{NodeName: "node-a", BootID: "boot-2"},
		Status:     v1alpha1.NodeFenceStatus{Phase: v1alpha1.PhaseFencing, Clients: []v1alpha1.FencedClient{{ClusterID: "c1", Address: deadClient}}},
	}
	if err := w.client.Create(ctx, other); err != nil {
		t.Fatal(err)
	}
	if err := w.client.Status().Update(ctx, other); err != nil {
		t.Fatal(err)
	}
	free := ceph.MustParseAddress("10.0.0.1:0/43")
	clients := []ceph.Address{ceph.MustParseAddress(deadClient), free}
	for _, step := range []plan.Step{
		plan.AddToBlocklist{ClusterID: "c1", Clients: clients, TTL: time.Hour}, plan.RemoveFromBlocklist{ClusterID: "c1", Clients: clients},
	} {
		if err := c.carryOut(ctx, w.fence(), step); err != nil {
			t.Fatal(err)
		}
	}
	if got := w.ceph.Blocklist(); !slices.Equal(got, []string{deadClient}) {
		t.Errorf("blocklist is %v", got)
	}
}

// S2, S4: what is asked for late could be done after the doubt about it has ended.
func TestCephIsNotAskedToChangeTheBlocklistLateInALook(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := w.controller()
	ctx, cancel := context.WithTimeout(t.Context(), reconcileTimeout-askWithin)
	defer cancel()
	clients := []ceph.Address{ceph.MustParseAddress(deadClient)}
	for _, step := range []plan.Step{
		plan.AddToBlocklist{ClusterID: "c1", Clients: clients, TTL: time.Hour}, plan.RemoveFromBlocklist{ClusterID: "c1", Clients: clients},
	} {
		if err := c.carryOut(ctx, w.fence(), step); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%T: %v", step, err)
		}
	}
	if got := w.ceph.Blocklist(); len(got) > 0 {
		t.Errorf("blocklist is %v", got)
	}
}
