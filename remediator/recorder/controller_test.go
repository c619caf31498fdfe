package recorder

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	clocktesting "k8s.io/utils/clock/testing"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/rbd-rescue/rbd-rescue/api/v1alpha1"
	"github.com/rbd-rescue/rbd-rescue/ceph"
	"github.com/rbd-rescue/rbd-rescue/ceph/cephtest"
	"github.com/rbd-rescue/rbd-rescue/remediator/observe"
	"github.com/rbd-rescue/rbd-rescue/volume"
)

var image = ceph.Image{Pool: "rbd", Name: "img"}

// attachedTo is PersistentVolume pv, attached to these nodes.
func attachedTo(nodes ...*corev1.Node) []client.Object {
	objects := []client.Object{&corev1.PersistentVolume{
		ObjectMeta: metav1.ObjectMeta{Name: "pv"},
		Spec: corev1.PersistentVolumeSpec{
			AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce},
			PersistentVolumeSource: corev1.PersistentVolumeSource{CSI: &corev1.CSIPersistentVolumeSource{
				Driver: "rbd.csi.ceph.com", VolumeHandle: "h",
				VolumeAttributes: map[string]string{"clusterID": "c1", "pool": image.Pool, "imageName": image.Name},
			}},
		},
	}}
	for _, node := range nodes {
		objects = append(objects, node, &storagev1.VolumeAttachment{
			ObjectMeta: metav1.ObjectMeta{Name: "va-" + node.Name},
			Spec: storagev1.VolumeAttachmentSpec{
				Attacher: "rbd.csi.ceph.com", NodeName: node.Name, Source: storagev1.VolumeAttachmentSource{PersistentVolumeName: new("pv")},
			},
			Status: storagev1.VolumeAttachmentStatus{Attached: true},
		})
	}
	return objects
}

// podIP is a field that the API server selects pods by.
const podIP = "status.podIP"

type fakeIndexer struct{ *fake.ClientBuilder }

func (f fakeIndexer) IndexField(_ context.Context, o client.Object, field string, values client.IndexerFunc) error {
	f.WithIndex(o, field, values)
	return nil
}

// look reconciles pv once, and gives what is on record then.
func look(t *testing.T, storage *cephtest.Cluster, objects ...client.Object) (v1alpha1.ClientRecord, error) {
	t.Helper()
	api := holding(t, objects...)
	return lookBy(t, api, api, storage)
}

// holding is an API that has these objects.
func holding(t *testing.T, objects ...client.Object) client.Client {
	t.Helper()
	scheme := runtime.NewScheme()
	if err := errors.Join(clientgoscheme.AddToScheme(scheme), v1alpha1.AddToScheme(scheme)); err != nil {
		t.Fatal(err)
	}
	builder := fake.NewClientBuilder().WithScheme(scheme)
	for _, object := range objects { // it writes into them, and tests beside each other share some
		builder.WithObjects(object.DeepCopyObject().(client.Object))
	}
	if err := observe.AddIndexes(t.Context(), fakeIndexer{builder}); err != nil {
		t.Fatal(err)
	}
	return builder.WithIndex(&corev1.Pod{}, podIP, func(o client.Object) []string { return []string{o.(*corev1.Pod).Status.PodIP} }).Build()
}

// lookBy reconciles pv once, by a cache.
func lookBy(t *testing.T, cache, api client.Client, storage *cephtest.Cluster) (v1alpha1.ClientRecord, error) {
	t.Helper()
	clusters := ceph.NewClusters(map[string]ceph.Dial{"c1": func(context.Context) (ceph.Conn, error) { return storage, nil }})
	c := &Controller{Client: cache, Observer: &observe.Observer{Reader: cache, Live: api, Clusters: clusters}, Clusters: clusters, Clock: storage.Clock}
	_, failed := c.Reconcile(t.Context(), reconcile.Request{NamespacedName: client.ObjectKey{Name: "pv"}})
	pv := &corev1.PersistentVolume{}
	if err := cache.Get(t.Context(), client.ObjectKey{Name: "pv"}, pv); err != nil { // it writes by the same client
		t.Fatal(err)
	}
	return observe.Record(pv), failed
}

// S2: a manager opens images itself, to flatten one or for a scheduled snapshot; what is on record may be fenced.
func TestAWatcherOnTheHostOfACephDaemonIsNotRecorded(t *testing.T) {
	t.Parallel()
	a := node("a", "10.0.0.1", "boot-1", corev1.ConditionTrue)
	const onDaemonHost = "10.0.0.101:0/7" // where the manager lives
	for name, test := range map[string]struct {
		watchers []string
		objects  []client.Object
		failing  string
		want     v1alpha1.ClientRecord
		wantErr  bool
		asked    bool
	}{
		"beside the node's own": {
			watchers: []string{"10.0.0.1:0/42", onDaemonHost}, objects: attachedTo(a), asked: true,
			want: v1alpha1.ClientRecord{"a": clientsOf("boot-1", "10.0.0.1:0/42")},
		},
		"alone": {
			watchers: []string{onDaemonHost}, objects: attachedTo(a), asked: true,
		},
		"nor anybody while it is not known where daemons live": {
			watchers: []string{"192.168.7.1:0/42"}, objects: attachedTo(a), failing: "mgr dump", asked: true, wantErr: true,
		},
		"but one on a network of the node's that has no daemon is": {
			watchers: []string{"192.168.7.1:0/42"}, objects: attachedTo(a), asked: true,
			want: v1alpha1.ClientRecord{"a": clientsOf("boot-1", "192.168.7.1:0/42")},
		},
		"and one on the node's own address is, wherever daemons live": {
			watchers: []string{"10.0.0.101:0/42"}, objects: attachedTo(node("a", "10.0.0.101", "boot-1", corev1.ConditionTrue)),
			want: v1alpha1.ClientRecord{"a": {
				NodeUID: "a", BootID: "boot-1", MachineID: "machine-a", Addresses: []string{"10.0.0.101"}, Clients: []string{"10.0.0.101:0/42"},
			}},
		},
		"and where it could be either node's nobody asks": {
			watchers: []string{onDaemonHost}, objects: attachedTo(a, node("b", "10.0.0.2", "boot-9", corev1.ConditionTrue)),
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			storage := cephtest.New(clocktesting.NewFakePassiveClock(time.Date(2026, 11, 23, 3, 0, 0, 0, time.UTC)))
			storage.SetManager("10.0.0.101:6800/7")
			storage.Watch(image, test.watchers...)
			if test.failing != "" {
				storage.FailNext(test.failing, ceph.ErrInDoubt)
			}
			got, err := look(t, storage, test.objects...)
			if diff := cmp.Diff(test.want, got); diff != "" || (err != nil) != test.wantErr {
				t.Errorf("error %v, record (-want +got):\n%s", err, diff)
			}
			if asked := slices.Contains(storage.Calls(), "mgr dump"); asked != test.asked {
				t.Errorf("asked for the hosts of Ceph's daemons: %v", asked)
			}
		})
	}
}

// S2: the machine of a node that is gone may still run, and its watcher is not the client of the one node that is left.
func TestAWatcherThatMayBeOfANodeThatIsGoneIsNotRecorded(t *testing.T) {
	t.Parallel()
	a := node("a", "10.0.0.1", "boot-1", corev1.ConditionTrue)
	isGone := func(o client.Object) bool { return o.GetName() == "gone" }
	gone := node("gone", "10.0.0.2", "boot-7", corev1.ConditionTrue)
	waits := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "waits"},
		Spec: corev1.PodSpec{NodeName: "a", Volumes: []corev1.Volume{{Name: "data", VolumeSource: corev1.VolumeSource{
			PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: "data"},
		}}}},
	}
	for name, test := range map[string]struct {
		objects []client.Object
		watcher string
		want    v1alpha1.ClientRecord
	}{
		"on a network of its own":                      {objects: attachedTo(a, gone), watcher: "192.168.7.1:0/42"},
		"nor for one where a pod waits for the volume": {objects: append(attachedTo(gone), a, waits), watcher: "192.168.7.1:0/42"},
		"but one on the node's own address is": {
			objects: attachedTo(a, gone), watcher: "10.0.0.1:0/42", want: v1alpha1.ClientRecord{"a": clientsOf("boot-1", "10.0.0.1:0/42")},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			storage := cephtest.New(clocktesting.NewFakePassiveClock(time.Date(2026, 11, 23, 3, 0, 0, 0, time.UTC)))
			storage.Watch(image, test.watcher)
			objects := slices.DeleteFunc(test.objects, isGone)
			objects[0].(*corev1.PersistentVolume).Spec.ClaimRef = &corev1.ObjectReference{Namespace: "shop", Name: "data"}
			got, err := look(t, storage, objects...)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("record (-want +got):\n%s", diff)
			}
		})
	}
}

// podsAsked is an API that notes the addresses whose pods it is asked for.
type podsAsked struct {
	client.Client
	of []string
}

func (p *podsAsked) List(ctx context.Context, into client.ObjectList, options ...client.ListOption) error {
	asked := client.ListOptions{}
	asked.ApplyOptions(options)
	if asked.FieldSelector != nil {
		if ip, of := asked.FieldSelector.RequiresExactMatch(podIP); of {
			p.of = append(p.of, ip)
		}
	}
	return p.Client.List(ctx, into, options...)
}

// S2: where pods reach Ceph without SNAT, a CSI provisioner opens images in its own pod, for a snapshot or a resize.
func TestAWatcherThatIsAPodOfAnotherNodeIsNotRecorded(t *testing.T) {
	t.Parallel()
	a := node("a", "10.0.0.1", "boot-1", corev1.ConditionTrue)
	const own, pod = "10.0.0.1:0/42", "10.128.0.9:0/77"
	recordedFor := func(clients v1alpha1.NodeClients) []client.Object {
		objects := attachedTo(a)
		text, err := json.Marshal(v1alpha1.ClientRecord{"a": clients})
		if err != nil {
			t.Fatal(err)
		}
		objects[0].SetAnnotations(map[string]string{v1alpha1.AnnotationClients: string(text)})
		return objects
	}
	for name, test := range map[string]struct {
		watchers []string
		objects  []client.Object
		podOn    string
		want     v1alpha1.ClientRecord
		asked    []string
	}{
		"beside the node's own": {
			watchers: []string{own, pod}, podOn: "b", objects: attachedTo(a),
			want: v1alpha1.ClientRecord{"a": clientsOf("boot-1", own)}, asked: []string{"10.128.0.9"},
		},
		"alone": {watchers: []string{pod}, podOn: "b", objects: attachedTo(a), asked: []string{"10.128.0.9"}},
		"S2: nor any other client of that pod, for which nobody is asked twice": {
			watchers: []string{pod, "10.128.0.9:0/78"}, podOn: "b", objects: attachedTo(a), asked: []string{"10.128.0.9"},
		},
		"but that of a pod on the node itself is, as a CSI node plugin's": {
			watchers: []string{own, pod}, podOn: "a", objects: attachedTo(a),
			want: v1alpha1.ClientRecord{"a": clientsOf("boot-1", own, pod)}, asked: []string{"10.128.0.9"},
		},
		"and nobody asks where each lies on the node's address": {
			watchers: []string{own}, podOn: "b", objects: attachedTo(a), want: v1alpha1.ClientRecord{"a": clientsOf("boot-1", own)},
		},
		"nor where the record has them all": {
			watchers: []string{own, "192.168.7.1:0/42"}, podOn: "b", objects: recordedFor(clientsOf("boot-1", own, "192.168.7.1:0/42")),
			want: v1alpha1.ClientRecord{"a": clientsOf("boot-1", own, "192.168.7.1:0/42")},
		},
		"nor where it could be either node's": {
			watchers: []string{pod}, podOn: "b", objects: attachedTo(a, node("c", "10.0.0.3", "boot-3", corev1.ConditionTrue)),
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			storage := cephtest.New(clocktesting.NewFakePassiveClock(time.Date(2026, 11, 23, 3, 0, 0, 0, time.UTC)))
			storage.Watch(image, test.watchers...)
			cache := holding(t, test.objects...) // it has no pod without a claim
			api := &podsAsked{Client: holding(t, append(test.objects, &corev1.Pod{
				ObjectMeta: metav1.ObjectMeta{Namespace: "rook-ceph", Name: "provisioner"},
				Spec:       corev1.PodSpec{NodeName: test.podOn}, Status: corev1.PodStatus{Phase: corev1.PodRunning, PodIP: "10.128.0.9"},
			})...)}
			got, err := lookBy(t, cache, api, storage)
			if diff := cmp.Diff(test.want, got); diff != "" || err != nil {
				t.Errorf("error %v, record (-want +got):\n%s", err, diff)
			}
			if !slices.Equal(api.of, test.asked) {
				t.Errorf("asked for the pods of %v, want %v", api.of, test.asked)
			}
		})
	}
}

func TestAWatcherOfAMirrorDaemonIsNotRecorded(t *testing.T) {
	t.Parallel()
	storage := cephtest.New(clocktesting.NewFakePassiveClock(time.Date(2026, 11, 23, 3, 0, 0, 0, time.UTC)))
	storage.Mirror(image, "10.0.0.6:0/77")
	storage.Watch(image, "10.0.0.1:0/42", "10.0.0.6:0/78") // it registers with another nonce than it watches with
	got, err := look(t, storage, attachedTo(node("a", "10.0.0.1", "boot-1", corev1.ConditionTrue))...)
	want := v1alpha1.ClientRecord{"a": clientsOf("boot-1", "10.0.0.1:0/42")}
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("error %v, record (-want +got):\n%s", err, diff)
	}
}

// S2, S3: what is on record may be fenced, and tells which boot ends a fence.
func TestNothingIsRecordedByACacheThatIsOld(t *testing.T) {
	t.Parallel()
	a, b := node("a", "10.0.0.1", "boot-1", corev1.ConditionTrue), node("b", "10.0.0.2", "boot-9", corev1.ConditionTrue)
	onStorageNetwork := "192.168.7.2:0/42"
	usedOn := func(node string) client.Object {
		return &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "on-" + node},
			Spec: corev1.PodSpec{NodeName: node, Volumes: []corev1.Volume{{Name: "data", VolumeSource: corev1.VolumeSource{
				PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: "data"},
			}}}},
			Status: corev1.PodStatus{Phase: corev1.PodRunning},
		}
	}
	for name, test := range map[string]struct {
		watcher     string
		cached, now []client.Object
		recorded    bool
	}{
		"another node has the volume, too": {watcher: onStorageNetwork, cached: append(attachedTo(a), b), now: attachedTo(a, b)},
		"another node has it now":          {watcher: onStorageNetwork, cached: append(attachedTo(a), b), now: append(attachedTo(b), a)},
		"a pod of another node has it, which needs no attachment": {
			watcher: onStorageNetwork, cached: append(attachedTo(), a, b, usedOn("a")), now: append(attachedTo(), a, b, usedOn("a"), usedOn("b")),
		},
		"the node has booted again":     {watcher: "10.0.0.1:0/42", cached: attachedTo(a), now: attachedTo(node("a", "10.0.0.1", "boot-2", corev1.ConditionTrue))},
		"the node has failed":           {watcher: "10.0.0.1:0/42", cached: attachedTo(a), now: attachedTo(node("a", "10.0.0.1", "boot-1", corev1.ConditionUnknown))},
		"the node has another address":  {watcher: "10.0.0.1:0/42", cached: attachedTo(a), now: attachedTo(node("a", "10.0.0.3", "boot-1", corev1.ConditionTrue))},
		"the node is gone":              {watcher: "10.0.0.1:0/42", cached: attachedTo(a), now: attachedTo()},
		"but by one that is not old is": {watcher: onStorageNetwork, cached: append(attachedTo(a), b), now: append(attachedTo(a), b), recorded: true},
		"and one that needs no attachment": {
			watcher: onStorageNetwork, cached: append(attachedTo(), a, b, usedOn("a")), now: append(attachedTo(), a, b, usedOn("a")), recorded: true,
		},
		"and where its own address tells, whoever else has it": {watcher: "10.0.0.1:0/42", cached: append(attachedTo(a), b), now: attachedTo(a, b), recorded: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			storage := cephtest.New(clocktesting.NewFakePassiveClock(time.Date(2026, 11, 23, 3, 0, 0, 0, time.UTC)))
			storage.Watch(image, test.watcher)
			for _, objects := range [][]client.Object{test.cached, test.now} {
				objects[0].(*corev1.PersistentVolume).Spec.ClaimRef = &corev1.ObjectReference{Namespace: "shop", Name: "data"}
			}
			got, err := lookBy(t, holding(t, test.cached...), holding(t, test.now...), storage)
			if err != nil {
				t.Fatal(err)
			}
			if recorded := slices.Contains(got["a"].Clients, test.watcher); recorded != test.recorded || !recorded && len(got) > 0 {
				t.Errorf("on record: %v", got)
			}
		})
	}
}

// refusingClient is an API that takes no record: with those of very many nodes it is longer than annotations may be.
type refusingClient struct{ client.Client }

var errTooLong = errors.New("metadata.annotations: Too long")

func (refusingClient) Patch(context.Context, client.Object, client.Patch, ...client.PatchOption) error {
	return errTooLong
}

func TestARecordThatCannotBeWrittenIsNotComplete(t *testing.T) {
	t.Parallel()
	a := node("a", "10.0.0.1", "boot-1", corev1.ConditionTrue)
	objects := attachedTo(a)
	api := holding(t, objects...)
	c := &Controller{Client: refusingClient{api}, Observer: &observe.Observer{Reader: api, Live: api}}
	seen := sighting{attached: []*corev1.Node{a}, watchers: watchers("10.0.0.1:0/42")}
	complete, err := c.keep(t.Context(), volume.Volume{}, objects[0].(*corev1.PersistentVolume), seen)
	if complete || !errors.Is(err, errTooLong) {
		t.Errorf("complete %v, error %v", complete, err)
	}
}
