package detector

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/tools/events"
	clocktesting "k8s.io/utils/clock/testing"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/rbd-rescue/rbd-rescue/api/v1alpha1"
	"github.com/rbd-rescue/rbd-rescue/ceph"
	"github.com/rbd-rescue/rbd-rescue/remediator/announce"
	"github.com/rbd-rescue/rbd-rescue/remediator/observe"
	"github.com/rbd-rescue/rbd-rescue/remediator/plan"
)

type fakeIndexer struct{ *fake.ClientBuilder }

func (f fakeIndexer) IndexField(_ context.Context, o client.Object, field string, values client.IndexerFunc) error {
	f.WithIndex(o, field, values)
	return nil
}

// onNode is a node, and an opted-in claim of it that Kubernetes wants elsewhere: its pod is Terminating.
func onNode(name string, ready corev1.ConditionStatus) []client.Object {
	volume, claim := "pv-"+name, "data-"+name
	return []client.Object{
		&corev1.Node{
			ObjectMeta: metav1.ObjectMeta{Name: name, UID: "uid"},
			Status: corev1.NodeStatus{
				Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: ready}}, NodeInfo: corev1.NodeSystemInfo{BootID: "boot"},
			},
		},
		&storagev1.VolumeAttachment{
			ObjectMeta: metav1.ObjectMeta{Name: "va-" + name},
			Spec: storagev1.VolumeAttachmentSpec{
				NodeName: name, Attacher: "rbd.csi.ceph.com", Source: storagev1.VolumeAttachmentSource{PersistentVolumeName: &volume},
			},
			Status: storagev1.VolumeAttachmentStatus{Attached: true},
		},
		&corev1.PersistentVolume{
			ObjectMeta: metav1.ObjectMeta{Name: volume},
			Spec: corev1.PersistentVolumeSpec{
				ClaimRef: &corev1.ObjectReference{Namespace: "shop", Name: claim},
				PersistentVolumeSource: corev1.PersistentVolumeSource{CSI: &corev1.CSIPersistentVolumeSource{
					Driver: "rbd.csi.ceph.com", VolumeHandle: volume, VolumeAttributes: map[string]string{"clusterID": "c1", "pool": "rbd", "imageName": volume},
				}},
			},
		},
		&corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{
				Namespace: "shop", Name: "pod-" + name, Finalizers: []string{"kept"}, DeletionTimestamp: &metav1.Time{Time: time.Unix(1, 0)},
				OwnerReferences: []metav1.OwnerReference{{Kind: "StatefulSet", Name: "db", Controller: new(true)}},
			},
			Spec: corev1.PodSpec{NodeName: name, Volumes: []corev1.Volume{{Name: "data", VolumeSource: corev1.VolumeSource{
				PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: claim},
			}}}},
		},
	}
}

func TestOneLookAtAllNodesMakesANodeFenceForEachInTrouble(t *testing.T) {
	t.Parallel()
	refused := errors.New("refused")
	for name, test := range map[string]struct {
		request reconcile.Request
		// failing is the node whose NodeFence cannot be made.
		failing string
		want    []string
	}{
		"after an event of a pod":                   {nodesInTrouble, "", []string{"node-a", "node-b"}},
		"after an event of a node":                  {request("node-b"), "", []string{"node-b"}},
		"after an event of a node that is well":     {request("node-c"), "", nil},
		"one that fails does not hold up the other": {nodesInTrouble, "node-a", []string{"node-b"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, api := newController(t, func(ctx context.Context, c client.WithWatch, o client.Object, options ...client.CreateOption) error {
				if nf, is := o.(*v1alpha1.NodeFence); is && nf.Spec.NodeName == test.failing {
					return refused
				}
				return c.Create(ctx, o, options...)
			})
			_, err := c.Reconcile(t.Context(), test.request)
			if errors.Is(err, refused) != (test.failing != "") || err != nil && test.failing == "" {
				t.Errorf("error %v", err)
			}
			var fences v1alpha1.NodeFenceList
			if err := api.List(t.Context(), &fences); err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, nf := range fences.Items {
				got = append(got, nf.Spec.NodeName)
			}
			slices.SortFunc(got, strings.Compare)
			if !slices.Equal(got, test.want) {
				t.Errorf("NodeFences for %v, want %v", got, test.want)
			}
		})
	}
}

func request(node string) reconcile.Request {
	return reconcile.Request{NamespacedName: client.ObjectKey{Name: node}}
}

func newController(t *testing.T, create func(context.Context, client.WithWatch, client.Object, ...client.CreateOption) error) (*Controller, client.Client) {
	t.Helper()
	scheme := runtime.NewScheme()
	if err := errors.Join(clientgoscheme.AddToScheme(scheme), v1alpha1.AddToScheme(scheme)); err != nil {
		t.Fatal(err)
	}
	builder := fake.NewClientBuilder().WithScheme(scheme).WithInterceptorFuncs(interceptor.Funcs{Create: create}).
		WithObjects(&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "shop", Annotations: map[string]string{v1alpha1.AnnotationMode: "rescue"}}})
	for _, objects := range [][]client.Object{
		onNode("node-a", corev1.ConditionUnknown), onNode("node-b", corev1.ConditionUnknown), onNode("node-c", corev1.ConditionTrue),
	} {
		builder.WithObjects(objects...)
	}
	if err := observe.AddIndexes(t.Context(), fakeIndexer{builder}); err != nil {
		t.Fatal(err)
	}
	api := builder.Build()
	clock := clocktesting.NewFakePassiveClock(time.Unix(1000, 0))
	settings := plan.DefaultSettings()
	settings.MaxFailedNodes.StrVal = "100%"
	observer := &observe.Observer{Reader: api, Live: api, Clusters: ceph.NewClusters(nil), Clock: clock, Namespace: "rbd-rescue", Settings: settings}
	return &Controller{Client: api, Observer: observer, Announcer: announce.New(&events.FakeRecorder{}, clock)}, api
}
