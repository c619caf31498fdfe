package flagger

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
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

	"github.com/rbd-rescue/rbd-rescue/api/v1alpha1"
	"github.com/rbd-rescue/rbd-rescue/ceph"
	"github.com/rbd-rescue/rbd-rescue/ceph/cephtest"
	"github.com/rbd-rescue/rbd-rescue/remediator/announce"
	"github.com/rbd-rescue/rbd-rescue/remediator/observe"
)

const (
	heldByA   = `[{"claim":"shop/data","volume":"pv","node":"node-a"}]`
	sharedByA = `[{"claim":"shop/data","volume":"pv","node":"node-a","shared":true}]`
	told      = "Warning VolumeHeld Waiting: claim shop/data (volume pv) is still held by node node-a, which is NotReady. See: kubectl get nodefences."
)

type fakeIndexer struct{ *fake.ClientBuilder }

func (f fakeIndexer) IndexField(_ context.Context, o client.Object, field string, values client.IndexerFunc) error {
	f.WithIndex(o, field, values)
	return nil
}

// flags are what rbd-rescue and others wrote on a pod.
type flags struct{ Labels, Annotations map[string]string }

func flagged(by string) flags {
	return flags{
		map[string]string{"app": "db", v1alpha1.LabelHeld: "true"},
		map[string]string{"other": "kept", v1alpha1.AnnotationHeldVolumes: by},
	}
}

func unflagged() flags {
	return flags{map[string]string{"app": "db"}, map[string]string{"other": "kept"}}
}

// cluster is one in which node-a has failed with claim shop/data attached, and pod shop/db-0 uses the claim.
type cluster struct {
	mode  string
	ready corev1.ConditionStatus
	pod   *corev1.Pod
	// change the other objects; nil for none.
	change func(*others)
	more   []client.Object
}

// others are the objects beside the pod, and Ceph.
type others struct {
	pv         *corev1.PersistentVolume
	claim      *corev1.PersistentVolumeClaim
	node       *corev1.Node
	fence      *v1alpha1.NodeFence
	attachment *storagev1.VolumeAttachment // nil for none
	ceph       *cephtest.Cluster
}

func waitingPod(f flags, change ...func(*corev1.Pod)) *corev1.Pod {
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "db-0", UID: "new", Labels: f.Labels, Annotations: f.Annotations},
		Spec: corev1.PodSpec{NodeName: "node-b", Volumes: []corev1.Volume{{Name: "data", VolumeSource: corev1.VolumeSource{
			PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: "data"},
		}}}},
	}
	for _, c := range change {
		c(pod)
	}
	return pod
}

func (c cluster) objects() ([]client.Object, *cephtest.Cluster) {
	node := &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: "node-a"},
		Status: corev1.NodeStatus{
			Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: c.ready}},
			NodeInfo:   corev1.NodeSystemInfo{BootID: "boot-1"},
		},
	}
	pv := &corev1.PersistentVolume{
		ObjectMeta: metav1.ObjectMeta{Name: "pv"},
		Spec: corev1.PersistentVolumeSpec{
			AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce},
			ClaimRef:    &corev1.ObjectReference{Namespace: "shop", Name: "data"},
			PersistentVolumeSource: corev1.PersistentVolumeSource{CSI: &corev1.CSIPersistentVolumeSource{
				Driver: "rbd.csi.ceph.com", VolumeHandle: "h",
				VolumeAttributes: map[string]string{"clusterID": "c1", "pool": "rbd", "imageName": "img"},
			}},
		},
	}
	nf := &v1alpha1.NodeFence{
		ObjectMeta: metav1.ObjectMeta{Name: "node-z-1"}, Spec: v1alpha1.NodeFenceSpec{NodeName: "node-z", BootID: "boot-1"},
	}
	o := &others{
		pv: pv, node: node, fence: nf, ceph: cephtest.New(clock),
		claim: &corev1.PersistentVolumeClaim{
			ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "data"}, Spec: corev1.PersistentVolumeClaimSpec{VolumeName: "pv"},
		},
		attachment: &storagev1.VolumeAttachment{
			ObjectMeta: metav1.ObjectMeta{Name: "va"},
			Spec:       storagev1.VolumeAttachmentSpec{NodeName: "node-a", Source: storagev1.VolumeAttachmentSource{PersistentVolumeName: new("pv")}},
			Status:     storagev1.VolumeAttachmentStatus{Attached: true},
		},
	}
	if c.change != nil {
		c.change(o)
	}
	objects := []client.Object{
		o.pv, o.fence, o.claim, c.pod,
		&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "shop", Annotations: map[string]string{v1alpha1.AnnotationMode: c.mode}}},
	}
	objects = append(objects, c.more...)
	if o.node != nil {
		objects = append(objects, o.node)
	}
	if o.attachment != nil {
		objects = append(objects, o.attachment)
	}
	return objects, o.ceph
}

var clock = clocktesting.NewFakePassiveClock(time.Date(2026, 11, 23, 3, 0, 0, 0, time.UTC))

// controller over the cluster; writes counts the patches, refuse gives their error.
func (c cluster) controller(t *testing.T, writes *int, refuse error) (*Controller, *events.FakeRecorder) {
	t.Helper()
	scheme := runtime.NewScheme()
	if err := errors.Join(clientgoscheme.AddToScheme(scheme), v1alpha1.AddToScheme(scheme)); err != nil {
		t.Fatal(err)
	}
	objects, inMemory := c.objects()
	builder := fake.NewClientBuilder().WithScheme(scheme).WithObjects(objects...).WithInterceptorFuncs(interceptor.Funcs{
		Patch: func(ctx context.Context, api client.WithWatch, o client.Object, p client.Patch, opts ...client.PatchOption) error {
			*writes++
			if refuse != nil {
				return refuse
			}
			return api.Patch(ctx, o, p, opts...)
		},
	})
	if err := observe.AddIndexes(t.Context(), fakeIndexer{builder}); err != nil {
		t.Fatal(err)
	}
	api, recorder := builder.Build(), events.NewFakeRecorder(10)
	clusters := ceph.NewClusters(map[string]ceph.Dial{"c1": func(context.Context) (ceph.Conn, error) { return inMemory, nil }})
	return &Controller{
		Client: api, Live: api, Observer: &observe.Observer{Reader: api, Live: api, Clock: clock, Clusters: clusters}, Announcer: announce.New(recorder, clock),
	}, recorder
}

func TestReconcile(t *testing.T) {
	t.Parallel()
	terminating := func(pod *corev1.Pod) {
		pod.DeletionTimestamp, pod.Finalizers = new(metav1.Now()), []string{"the-fake-client/wants-one"}
	}
	finished := func(pod *corev1.Pod) { pod.Status.Phase = corev1.PodSucceeded }
	onFailedNode := func(pod *corev1.Pod) { pod.Spec.NodeName = "node-a" }
	bare := func(pod *corev1.Pod) { pod.Labels, pod.Annotations = nil, nil }

	for name, test := range map[string]struct {
		cluster cluster
		want    flags
		writes  int
		told    []string
	}{
		"flags a pod that the webhook missed, and says what it waits for": {
			cluster: cluster{mode: "rescue", ready: corev1.ConditionUnknown, pod: waitingPod(unflagged())},
			want:    flagged(heldByA), writes: 1, told: []string{told},
		},
		"flags a pod that has no label and no annotation at all": {
			cluster: cluster{mode: "observe", ready: corev1.ConditionUnknown, pod: waitingPod(unflagged(), bare, unscheduled)},
			want: flags{
				map[string]string{v1alpha1.LabelHeld: "true"}, map[string]string{v1alpha1.AnnotationHeldVolumes: heldByA},
			},
			writes: 1, told: []string{told},
		},
		"announces a pod that the webhook flagged, without writing it": {
			cluster: cluster{mode: "rescue", ready: corev1.ConditionUnknown, pod: waitingPod(flagged(heldByA))},
			want:    flagged(heldByA), told: []string{told},
		},
		"S5: corrects a flag that somebody forged": {
			cluster: cluster{mode: "rescue", ready: corev1.ConditionUnknown, pod: waitingPod(flagged(`[{"node":"node-z"}]`))},
			want:    flagged(heldByA), writes: 1, told: []string{told},
		},
		"S6: leaves pods of a namespace alone that did not opt in": {
			cluster: cluster{mode: "", ready: corev1.ConditionUnknown, pod: waitingPod(unflagged())},
			want:    unflagged(),
		},
		"S9: takes the flag away when the namespace opts out": {
			cluster: cluster{mode: "", ready: corev1.ConditionUnknown, pod: waitingPod(flagged(heldByA))},
			want:    unflagged(), writes: 1,
		},
		"S9: takes the flag away when the node is Ready again": {
			cluster: cluster{mode: "rescue", ready: corev1.ConditionTrue, pod: waitingPod(flagged(heldByA))},
			want:    unflagged(), writes: 1,
		},
		"takes the flag away from a pod that is finished": {
			cluster: cluster{mode: "rescue", ready: corev1.ConditionUnknown, pod: waitingPod(flagged(heldByA), finished)},
			want:    unflagged(), writes: 1,
		},
		"does not flag a pod that is Terminating": {
			cluster: cluster{mode: "rescue", ready: corev1.ConditionUnknown, pod: waitingPod(unflagged(), terminating)},
			want:    unflagged(),
		},
		"does not flag a pod that runs with a ReadWriteMany volume by right": {
			cluster: cluster{mode: "rescue", ready: corev1.ConditionUnknown, pod: waitingPod(unflagged(), running), change: readWriteMany},
			want:    unflagged(),
		},
		"flags a pod that waits for a ReadWriteMany volume of a node whose kubelet says that it is not Ready": {
			cluster: cluster{mode: "rescue", ready: corev1.ConditionFalse, pod: waitingPod(unflagged(), unscheduled), change: readWriteMany},
			want:    flagged(sharedByA), writes: 1, told: []string{told},
		},
		"does not flag a pod for another volume of such a node, which may still let it go": {
			cluster: cluster{mode: "rescue", ready: corev1.ConditionFalse, pod: waitingPod(unflagged(), unscheduled)},
			want:    unflagged(),
		},
		"flags a pod for a volume that needs no attachment and that a pod of the failed node uses": {
			cluster: cluster{
				mode: "rescue", ready: corev1.ConditionUnknown, pod: waitingPod(unflagged(), unscheduled), change: noTrace,
				more: []client.Object{noAttachmentRequired(), podOnNodeA()},
			},
			want: flagged(sharedByA), writes: 1, told: []string{told},
		},
		"does not flag the failed node's own pod": {
			cluster: cluster{mode: "rescue", ready: corev1.ConditionUnknown, pod: waitingPod(unflagged(), onFailedNode)},
			want:    unflagged(),
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			writes := 0
			c, recorder := test.cluster.controller(t, &writes, nil)
			for range 2 { // the second time there is nothing to do
				if _, err := c.Reconcile(t.Context(), allFlags); err != nil {
					t.Fatal(err)
				}
			}
			pod := &corev1.Pod{}
			if err := c.Client.Get(t.Context(), client.ObjectKeyFromObject(test.cluster.pod), pod); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, flags{pod.Labels, pod.Annotations}); diff != "" {
				t.Errorf("flags (-want +got):\n%s", diff)
			}
			if writes != test.writes {
				t.Errorf("%d writes, want %d", writes, test.writes)
			}
			var said []string
			for len(recorder.Events) > 0 {
				said = append(said, <-recorder.Events)
			}
			if diff := cmp.Diff(test.told, said); diff != "" {
				t.Errorf("told (-want +got):\n%s", diff)
			}
		})
	}
}

func TestAFlagThatCannotBeWrittenIsTriedAgain(t *testing.T) {
	t.Parallel()
	writes, refused := 0, errors.New("refused")
	c, _ := cluster{mode: "rescue", ready: corev1.ConditionUnknown, pod: waitingPod(unflagged())}.controller(t, &writes, refused)
	if _, err := c.Reconcile(t.Context(), allFlags); !errors.Is(err, refused) {
		t.Errorf("got %v, so nobody tries again", err)
	}
}

// The cache shows the pod with an older flag, which was taken away since: half a flag would stay for ever.
func TestAFlagIsWrittenWhole(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		ready        corev1.ConditionStatus
		cached, live flags
		want         flags
	}{
		"where the label is gone":              {ready: corev1.ConditionUnknown, cached: flagged(sharedByA), live: unflagged(), want: flagged(heldByA)},
		"and taken away where it came back":    {ready: corev1.ConditionTrue, cached: flags{flagged(heldByA).Labels, unflagged().Annotations}, live: flagged(heldByA), want: unflagged()},
		"and taken away where there is no map": {ready: corev1.ConditionTrue, cached: flagged(heldByA), live: flags{}, want: flags{}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			writes := 0
			c, _ := cluster{mode: "rescue", ready: test.ready, pod: waitingPod(test.cached)}.controller(t, &writes, nil)
			pod := &corev1.Pod{}
			key := client.ObjectKey{Namespace: "shop", Name: "db-0"}
			if err := c.Client.Get(t.Context(), key, pod); err != nil {
				t.Fatal(err)
			}
			held, err := c.Observer.HeldClaims(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			live := pod.DeepCopy()
			live.Labels, live.Annotations = test.live.Labels, test.live.Annotations
			if err := c.Client.Update(t.Context(), live); err != nil {
				t.Fatal(err)
			}
			if err := c.flag(t.Context(), pod, waitsFor(pod, held)); err != nil {
				t.Fatal(err)
			}
			if err := c.Client.Get(t.Context(), key, live); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, flags{live.Labels, live.Annotations}, cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}
