package detector

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus/testutil"
	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/intstr"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/tools/events"
	clocktesting "k8s.io/utils/clock/testing"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/rbd-rescue/rbd-rescue/api/v1alpha1"
	"github.com/rbd-rescue/rbd-rescue/remediator/announce"
	"github.com/rbd-rescue/rbd-rescue/remediator/observe"
	"github.com/rbd-rescue/rbd-rescue/remediator/plan"
)

var now = time.Date(2026, 11, 23, 3, 0, 0, 0, time.UTC)

// objects are three nodes, of which failed have failed, and a volume of node-0 that a pod elsewhere waits for.
func objects(failed int) []client.Object {
	list := []client.Object{
		&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "rbd-rescue"}},
		&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "shop", Annotations: map[string]string{v1alpha1.AnnotationMode: "rescue"}}},
		&corev1.PersistentVolume{
			ObjectMeta: metav1.ObjectMeta{Name: "pv"},
			Spec: corev1.PersistentVolumeSpec{
				AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce},
				ClaimRef:    &corev1.ObjectReference{Namespace: "shop", Name: "data"},
				PersistentVolumeSource: corev1.PersistentVolumeSource{CSI: &corev1.CSIPersistentVolumeSource{
					Driver: "rbd.csi.ceph.com", VolumeHandle: "h",
					VolumeAttributes: map[string]string{"clusterID": "c1", "pool": "rbd", "imageName": "img"},
				}},
			},
		},
		&corev1.PersistentVolumeClaim{
			ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "data"}, Spec: corev1.PersistentVolumeClaimSpec{VolumeName: "pv"},
		},
		&storagev1.VolumeAttachment{
			ObjectMeta: metav1.ObjectMeta{Name: "va"},
			Spec: storagev1.VolumeAttachmentSpec{
				NodeName: "node-0", Attacher: "rbd.csi.ceph.com", Source: storagev1.VolumeAttachmentSource{PersistentVolumeName: new("pv")},
			},
			Status: storagev1.VolumeAttachmentStatus{Attached: true},
		},
		&corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "db-0", UID: "new"},
			Spec: corev1.PodSpec{NodeName: "node-2", Volumes: []corev1.Volume{{Name: "data", VolumeSource: corev1.VolumeSource{
				PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: "data"},
			}}}},
			Status: corev1.PodStatus{Phase: corev1.PodPending},
		},
	}
	for i := range 3 {
		ready := corev1.ConditionTrue
		if i < failed {
			ready = corev1.ConditionUnknown
		}
		list = append(list, &corev1.Node{
			ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("node-%d", i)},
			Status: corev1.NodeStatus{
				Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: ready, LastTransitionTime: metav1.NewTime(now.Add(-time.Hour))}},
				NodeInfo:   corev1.NodeSystemInfo{BootID: fmt.Sprintf("boot-%d", i)},
			},
		})
	}
	return list
}

// beside is a detector beside these objects.
func beside(t *testing.T, objects []client.Object) *Controller {
	t.Helper()
	scheme := runtime.NewScheme()
	if err := errors.Join(clientgoscheme.AddToScheme(scheme), v1alpha1.AddToScheme(scheme)); err != nil {
		t.Fatal(err)
	}
	builder := fake.NewClientBuilder().WithScheme(scheme).WithObjects(objects...)
	if err := observe.AddIndexes(t.Context(), fakeIndexer{builder}); err != nil {
		t.Fatal(err)
	}
	api, clock := builder.Build(), clocktesting.NewFakePassiveClock(now)
	return &Controller{
		Client: api, Announcer: announce.New(events.NewFakeRecorder(100), clock), Observer: &observe.Observer{
			Reader: api, Live: api, Clock: clock, Namespace: "rbd-rescue", Settings: plan.Settings{MaxFailedNodes: intstr.FromInt32(1)},
		},
	}
}

func looksAt(t *testing.T, c *Controller, nodes ...string) {
	t.Helper()
	for _, node := range nodes {
		if _, err := c.Reconcile(t.Context(), reconcile.Request{NamespacedName: client.ObjectKey{Name: node}}); err != nil {
			t.Fatal(err)
		}
	}
}

func change[T client.Object](t *testing.T, c *Controller, o T, change func(T)) {
	t.Helper()
	if err := c.Client.Get(t.Context(), client.ObjectKeyFromObject(o), o); err != nil {
		t.Fatal(err)
	}
	change(o)
	status := o.DeepCopyObject().(T)
	if err := c.Client.Status().Update(t.Context(), status); err != nil {
		t.Fatal(err)
	}
	o.SetResourceVersion(status.GetResourceVersion())
	if err := c.Client.Update(t.Context(), o); err != nil {
		t.Fatal(err)
	}
}

// gauges are those of the process, so that no test here is parallel.
type gauges struct {
	failed, notReady, breaker, paused, pausedNodes float64

	unfenced map[string]float64
}

func measured() gauges {
	g := gauges{
		testutil.ToFloat64(failedNodesGauge), testutil.ToFloat64(notReadyNodes), testutil.ToFloat64(breakerOpen), testutil.ToFloat64(paused), testutil.ToFloat64(pausedNodes),
		map[string]float64{},
	}
	all := testutil.CollectAndCount(unfencedNodes)
	for _, reason := range []string{v1alpha1.ReasonBreakerOpen, v1alpha1.ReasonPaused, v1alpha1.ReasonFenceRefused, v1alpha1.ReasonFenceOverridden} {
		if v := testutil.ToFloat64(unfencedNodes.WithLabelValues(reason)); v != 0 {
			g.unfenced[reason] = v
			all--
		}
	}
	g.unfenced["any other"] = float64(all)
	return g
}

func check(t *testing.T, when string, want gauges) {
	t.Helper()
	if want.unfenced == nil {
		want.unfenced = map[string]float64{}
	}
	want.unfenced["any other"] = 0
	if diff := cmp.Diff(want, measured(), cmp.AllowUnexported(gauges{})); diff != "" {
		t.Errorf("%s (-want +got):\n%s", when, diff)
	}
}

func TestTheBreakerIsMeasuredUntilItCloses(t *testing.T) {
	c := beside(t, objects(2))
	looksAt(t, c, "node-0", "node-1")
	check(t, "two of three have failed", gauges{failed: 2, breaker: 1, unfenced: map[string]float64{"BreakerOpen": 1}})
	ready := func(node *corev1.Node) { node.Status.Conditions[0].Status = corev1.ConditionTrue }
	change(t, c, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "node-0"}}, ready)
	looksAt(t, c, "node-0") // nothing looks at node-1, which is silent
	check(t, "one is back", gauges{failed: 1})
	change(t, c, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "node-1"}}, ready)
	looksAt(t, c, "node-1")
	check(t, "both are back", gauges{})
}

func TestANodeThatSaysThatItIsNotReadyIsMeasured(t *testing.T) {
	c := beside(t, objects(1))
	change(t, c, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "node-0"}}, func(node *corev1.Node) {
		node.Status.Conditions[0].Status = corev1.ConditionFalse
	})
	looksAt(t, c, "node-0")
	check(t, "its kubelet answers", gauges{notReady: 1})
}

func TestAPauseIsMeasuredBeforeAnyNodeFails(t *testing.T) {
	pause := func(o client.Object) { o.SetAnnotations(map[string]string{v1alpha1.AnnotationPaused: "true"}) }
	c := beside(t, objects(0))
	change(t, c, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "node-1"}}, func(o *corev1.Node) { pause(o) })
	looksAt(t, c, "node-1")
	check(t, "a node is paused", gauges{pausedNodes: 1})
	change(t, c, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "rbd-rescue"}}, func(o *corev1.Namespace) { pause(o) })
	looksAt(t, c, "node-1")
	check(t, "all is paused", gauges{paused: 1, pausedNodes: 1})
}

func TestANodeThatIsNotFencedThoughItsVolumesAreWantedIsMeasured(t *testing.T) {
	c := beside(t, objects(1))
	change(t, c, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "node-0"}}, func(node *corev1.Node) { node.Status.NodeInfo.BootID = "" })
	looksAt(t, c, "node-0")
	check(t, "nothing tells its boot", gauges{failed: 1, unfenced: map[string]float64{"FenceRefused": 1}})
	change(t, c, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "node-0"}}, func(node *corev1.Node) { node.Status.NodeInfo.BootID = "boot-0" })
	looksAt(t, c, "node-0")
	check(t, "it is fenced", gauges{failed: 1})
}
