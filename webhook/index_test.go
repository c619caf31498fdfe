package webhook

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/rbd-rescue/rbd-rescue/api/v1alpha1"
	"github.com/rbd-rescue/rbd-rescue/volume"
)

// cluster is an in-memory cluster that is asked as the index asks; Nodes are as the cache's transform leaves them.
func cluster(objects ...client.Object) client.WithWatch {
	builder := fake.NewClientBuilder().
		WithIndex(&storagev1.VolumeAttachment{}, fieldNode, func(obj client.Object) []string {
			return []string{obj.(*storagev1.VolumeAttachment).Spec.NodeName}
		}).
		WithIndex(&corev1.PersistentVolume{}, fieldUniqueName, func(obj client.Object) []string {
			v, _ := volume.Parse(obj.(*corev1.PersistentVolume))
			return []string{v.UniqueName}
		}).
		WithIndex(&corev1.PersistentVolume{}, fieldRecordedNode, func(obj client.Object) []string {
			var record v1alpha1.ClientRecord
			_ = json.Unmarshal([]byte(obj.GetAnnotations()[v1alpha1.AnnotationClients]), &record)
			return slices.Collect(maps.Keys(record))
		})
	for _, obj := range objects {
		if node, is := obj.(*corev1.Node); is {
			obj = stripNode(node)
		}
		builder = builder.WithObjects(obj)
	}
	return builder.Build()
}

// whole answers from whole objects.
type whole struct{ client.Reader }

func (w whole) NodesWithAttachments(ctx context.Context) ([]string, error) {
	var list storagev1.VolumeAttachmentList
	err := w.List(ctx, &list)
	var nodes []string
	for _, va := range list.Items {
		nodes = append(nodes, va.Spec.NodeName)
	}
	return nodes, err
}

// kept answers from what is kept of the volumes, as a replica does.
type kept struct {
	*volumes

	changed []string // nodes, since the last look
}

// keep reads what a cluster has, as a reflector does at its start.
func keep(t *testing.T, c client.Client) *kept {
	t.Helper()
	k := &kept{volumes: newVolumes(c)}
	attachments, pvs := listed(t, c)
	vs, as := k.stores()
	if err := errors.Join(as.Replace(attachments, ""), vs.Replace(pvs, "")); err != nil {
		t.Fatal(err)
	}
	if !k.waitForSync(t.Context()) {
		t.Fatal("not synced")
	}
	k.changed = nil
	return k
}

func (k *kept) stores() (*volumeStore, *attachmentStore) {
	changed := func(nodes ...string) { k.changed = append(k.changed, nodes...) }
	return &volumeStore{k.volumes, changed}, &attachmentStore{k.volumes, changed}
}

func listed(t *testing.T, c client.Client) (attachments, pvs []any) {
	t.Helper()
	var attachmentList storagev1.VolumeAttachmentList
	var volumeList corev1.PersistentVolumeList
	if err := errors.Join(c.List(t.Context(), &attachmentList), c.List(t.Context(), &volumeList)); err != nil {
		t.Fatal(err)
	}
	for i := range attachmentList.Items {
		attachments = append(attachments, &attachmentList.Items[i])
	}
	for i := range volumeList.Items {
		pvs = append(pvs, &volumeList.Items[i])
	}
	return attachments, pvs
}

// follow hears, one after the other, of all that a cluster has lost and of all that it has.
func (k *kept) follow(t *testing.T, c client.Client, attachmentsBefore, pvsBefore []any) {
	t.Helper()
	attachments, pvs := listed(t, c)
	vs, as := k.stores()
	for store, lists := range map[toolscache.ReflectorStore][2][]any{as: {attachmentsBefore, attachments}, vs: {pvsBefore, pvs}} {
		for _, o := range lists[0] {
			if err := store.Delete(o); err != nil {
				t.Fatal(err)
			}
		}
		for _, o := range lists[1] {
			if err := errors.Join(store.Add(o), store.Update(o)); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func filledIndex(t *testing.T, reader reader) *index {
	t.Helper()
	x := newIndex(reader)
	if err := x.fill(t.Context()); err != nil {
		t.Fatal(err)
	}
	return x
}

func lookAgain(t *testing.T, x *index, node string) {
	t.Helper()
	if _, err := x.Reconcile(t.Context(), reconcile.Request{NamespacedName: types.NamespacedName{Name: node}}); err != nil {
		t.Fatal(err)
	}
}

func wantHeld(t *testing.T, x *index, want volume.HeldClaims) {
	t.Helper()
	got, known := x.Held()
	if !known {
		t.Fatal("the held volumes are not known")
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("held: -want +got:\n%s", diff)
	}
}

func TestFillFindsWhatFailedNodesHold(t *testing.T) {
	t.Parallel()
	detached := attachment("pv-0", "node-a")
	detached.Status.Attached = false
	released := persistentVolume("pv-0", rbdDriver, "shop", "data-0")
	released.Status.Phase = corev1.VolumeReleased
	unbound := persistentVolume("pv-0", rbdDriver, "", "")
	unbound.Spec.ClaimRef = nil
	inline := attachment("pv-0", "node-a")
	inline.Spec.Source = storagev1.VolumeAttachmentSource{InlineVolumeSpec: &corev1.PersistentVolumeSpec{}}

	for name, test := range map[string]struct {
		cluster []client.Object
		want    volume.HeldClaims
	}{
		"an RBD volume that is attached to a failed node": {
			cluster: []client.Object{failedNode("node-a"), attachment("pv-0", "node-a"), persistentVolume("pv-0", rbdDriver, "shop", "data-0")},
			want:    volume.HeldClaims{claim("shop", "data-0"): {heldVolume("shop/data-0", "pv-0", "node-a")}},
		},
		"nothing in an empty cluster": {want: volume.HeldClaims{}},
		"nothing while the node is Ready": {
			cluster: []client.Object{readyNode("node-a"), attachment("pv-0", "node-a"), persistentVolume("pv-0", rbdDriver, "shop", "data-0")},
			want:    volume.HeldClaims{},
		},
		"what a node that is gone had": {
			cluster: []client.Object{attachment("pv-0", "node-a"), persistentVolume("pv-0", rbdDriver, "shop", "data-0")},
			want:    volume.HeldClaims{claim("shop", "data-0"): {heldVolume("shop/data-0", "pv-0", "node-a")}},
		},
		"what a failed node has in use, though its attachment was deleted": {
			cluster: []client.Object{using(failedNode("node-a"), "pv-0"), persistentVolume("pv-0", rbdDriver, "shop", "data-0")},
			want:    volume.HeldClaims{claim("shop", "data-0"): {heldVolume("shop/data-0", "pv-0", "node-a")}},
		},
		"S1: a ReadWriteMany volume of a node whose kubelet says that it is not Ready, and no other": {
			cluster: []client.Object{
				node("node-a", corev1.ConditionFalse), attachment("pv-0", "node-a"), attachment("pv-1", "node-a"),
				readWriteMany(persistentVolume("pv-0", rbdDriver, "shop", "disk")), persistentVolume("pv-1", rbdDriver, "shop", "data-0"),
			},
			want: volume.HeldClaims{claim("shop", "disk"): {sharedVolume("shop/disk", "pv-0", "node-a")}},
		},
		"S1: a volume that needs no attachment, if it is recorded for the node": {
			cluster: []client.Object{
				failedNode("node-a"), driver(false), recordedOn(persistentVolume("pv-0", rbdDriver, "shop", "data-0"), "node-a"),
				recordedOn(persistentVolume("pv-1", rbdDriver, "shop", "data-1"), "node-b"),
			},
			want: volume.HeldClaims{claim("shop", "data-0"): {sharedVolume("shop/data-0", "pv-0", "node-a")}},
		},
		"not a volume that needs an attachment and has none, whatever its record says": {
			cluster: []client.Object{failedNode("node-a"), driver(true), recordedOn(persistentVolume("pv-0", rbdDriver, "shop", "data-0"), "node-a")},
			want:    volume.HeldClaims{},
		},
		"not what is recorded for a node that is gone": {
			cluster: []client.Object{driver(false), recordedOn(persistentVolume("pv-0", rbdDriver, "shop", "data-0"), "node-a")},
			want:    volume.HeldClaims{},
		},
		"not what is not attached": {
			cluster: []client.Object{failedNode("node-a"), detached, persistentVolume("pv-0", rbdDriver, "shop", "data-0")},
			want:    volume.HeldClaims{},
		},
		"not a volume of another driver": {
			cluster: []client.Object{failedNode("node-a"), attachment("pv-0", "node-a"), persistentVolume("pv-0", "cephfs.csi.ceph.com", "shop", "data-0")},
			want:    volume.HeldClaims{},
		},
		"not a volume whose claim is gone, since a new claim of that name is another volume": {
			cluster: []client.Object{failedNode("node-a"), attachment("pv-0", "node-a"), released},
			want:    volume.HeldClaims{},
		},
		"not a volume without a claim": {
			cluster: []client.Object{failedNode("node-a"), attachment("pv-0", "node-a"), unbound},
			want:    volume.HeldClaims{},
		},
		"not a volume that is written in the attachment": {
			cluster: []client.Object{failedNode("node-a"), inline},
			want:    volume.HeldClaims{},
		},
		"a shared volume with both of the failed nodes that hold it": {
			cluster: []client.Object{
				failedNode("node-b"), failedNode("node-a"), readyNode("node-c"),
				attachment("pv-0", "node-b"), attachment("pv-0", "node-a"), attachment("pv-0", "node-c"), attachment("pv-1", "node-b"),
				persistentVolume("pv-0", rbdDriver, "shop", "data-0"), persistentVolume("pv-1", rbdDriver, "shop", "data-1"),
			},
			want: volume.HeldClaims{
				claim("shop", "data-0"): {heldVolume("shop/data-0", "pv-0", "node-a"), heldVolume("shop/data-0", "pv-0", "node-b")},
				claim("shop", "data-1"): {heldVolume("shop/data-1", "pv-1", "node-b")},
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := cluster(test.cluster...)
			wantHeld(t, filledIndex(t, whole{c}), test.want)
			wantHeld(t, filledIndex(t, keep(t, c)), test.want)
		})
	}
}

func TestNothingIsKnownBeforeTheFirstFill(t *testing.T) {
	t.Parallel()
	x := newIndex(whole{cluster(failedNode("node-a"), attachment("pv-0", "node-a"), persistentVolume("pv-0", rbdDriver, "shop", "data-0"))})
	lookAgain(t, x, "node-a") // an early event: other failed nodes are not known yet
	if _, known := x.Held(); known {
		t.Error("the index claims to know all held volumes before it was filled")
	}
	if err := x.ready(nil); err == nil {
		t.Error("ready before the first fill")
	}
	if err := x.fill(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := x.ready(nil); err != nil {
		t.Errorf("not ready after the first fill: %v", err)
	}
	wantHeld(t, x, volume.HeldClaims{claim("shop", "data-0"): {heldVolume("shop/data-0", "pv-0", "node-a")}})
}

func TestIndexFollowsTheCluster(t *testing.T) {
	t.Parallel()
	held := volume.HeldClaims{claim("shop", "data-0"): {heldVolume("shop/data-0", "pv-0", "node-a")}}
	for name, test := range map[string]struct {
		cluster []client.Object
		change  func(ctx context.Context, c client.Client) error
		before  volume.HeldClaims
		after   volume.HeldClaims
	}{
		"a node that fails enters": {
			cluster: []client.Object{readyNode("node-a"), attachment("pv-0", "node-a"), persistentVolume("pv-0", rbdDriver, "shop", "data-0")},
			change:  func(ctx context.Context, c client.Client) error { return c.Status().Update(ctx, failedNode("node-a")) },
			before:  volume.HeldClaims{},
			after:   held,
		},
		"a node that is Ready again leaves": {
			cluster: []client.Object{failedNode("node-a"), attachment("pv-0", "node-a"), persistentVolume("pv-0", rbdDriver, "shop", "data-0")},
			change:  func(ctx context.Context, c client.Client) error { return c.Status().Update(ctx, readyNode("node-a")) },
			before:  held,
			after:   volume.HeldClaims{},
		},
		"S1: a node that is gone stays while something is attached to it": {
			cluster: []client.Object{failedNode("node-a"), attachment("pv-0", "node-a"), persistentVolume("pv-0", rbdDriver, "shop", "data-0")},
			change:  func(ctx context.Context, c client.Client) error { return c.Delete(ctx, failedNode("node-a")) },
			before:  held,
			after:   held,
		},
		"a node that is gone leaves with its last attachment": {
			cluster: []client.Object{attachment("pv-0", "node-a"), persistentVolume("pv-0", rbdDriver, "shop", "data-0")},
			change:  func(ctx context.Context, c client.Client) error { return c.Delete(ctx, attachment("pv-0", "node-a")) },
			before:  held,
			after:   volume.HeldClaims{},
		},
		"a node whose object comes after its attachment's leaves": {
			cluster: []client.Object{attachment("pv-0", "node-a"), persistentVolume("pv-0", rbdDriver, "shop", "data-0")},
			change:  func(ctx context.Context, c client.Client) error { return c.Create(ctx, readyNode("node-a")) },
			before:  held,
			after:   volume.HeldClaims{},
		},
		"an attachment that is cleared leaves": {
			cluster: []client.Object{failedNode("node-a"), attachment("pv-0", "node-a"), persistentVolume("pv-0", rbdDriver, "shop", "data-0")},
			change:  func(ctx context.Context, c client.Client) error { return c.Delete(ctx, attachment("pv-0", "node-a")) },
			before:  held,
			after:   volume.HeldClaims{},
		},
		"an attachment whose event comes after the node's failure enters": {
			cluster: []client.Object{failedNode("node-a"), persistentVolume("pv-0", rbdDriver, "shop", "data-0")},
			change:  func(ctx context.Context, c client.Client) error { return c.Create(ctx, attachment("pv-0", "node-a")) },
			before:  volume.HeldClaims{},
			after:   held,
		},
		"a volume whose event comes after its attachment's enters": {
			cluster: []client.Object{failedNode("node-a"), attachment("pv-0", "node-a")},
			change: func(ctx context.Context, c client.Client) error {
				return c.Create(ctx, persistentVolume("pv-0", rbdDriver, "shop", "data-0"))
			},
			before: volume.HeldClaims{},
			after:  held,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := cluster(test.cluster...)
			k := keep(t, c)
			ofWhole, ofKept := filledIndex(t, whole{c}), filledIndex(t, k)
			wantHeld(t, ofWhole, test.before)
			wantHeld(t, ofKept, test.before)
			attachments, pvs := listed(t, c)
			if err := test.change(t.Context(), c); err != nil {
				t.Fatal(err)
			}
			k.follow(t, c, attachments, pvs)
			lookAgain(t, ofWhole, "node-a")
			lookAgain(t, ofKept, "node-a")
			wantHeld(t, ofWhole, test.after)
			wantHeld(t, ofKept, test.after)
		})
	}
}

func TestWhichNodesAreLookedAtWhenTheirVolumesChange(t *testing.T) {
	t.Parallel()
	x := newIndex(whole{cluster(failedNode("node-a"), node("node-b", corev1.ConditionFalse), readyNode("node-c"))})
	for name, want := range map[string]bool{"node-a": true, "node-b": true, "node-c": false, "one that is gone": true} {
		if got := x.inTrouble(t.Context(), name); got != want {
			t.Errorf("%s: %v, want %v", name, got, want)
		}
	}
}

func TestWhichNodeChangesAreLookedAt(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		got, want bool
	}{
		"a node that is there and has failed":        {nodesInTrouble.Create(event.CreateEvent{Object: failedNode("a")}), true},
		"a new node, which may have been missed":     {nodesInTrouble.Create(event.CreateEvent{Object: readyNode("a")}), true},
		"a node that fails":                          {nodesInTrouble.Update(event.UpdateEvent{ObjectOld: readyNode("a"), ObjectNew: failedNode("a")}), true},
		"a node that is Ready again":                 {nodesInTrouble.Update(event.UpdateEvent{ObjectOld: failedNode("a"), ObjectNew: readyNode("a")}), true},
		"what happens to a failed node":              {nodesInTrouble.Update(event.UpdateEvent{ObjectOld: failedNode("a"), ObjectNew: failedNode("a")}), true},
		"not what happens to a Ready node":           {nodesInTrouble.Update(event.UpdateEvent{ObjectOld: readyNode("a"), ObjectNew: readyNode("a")}), false},
		"a node whose kubelet is not Ready any more": {nodesInTrouble.Update(event.UpdateEvent{ObjectOld: readyNode("a"), ObjectNew: node("a", corev1.ConditionFalse)}), true},
		"a node that is deleted":                     {nodesInTrouble.Delete(event.DeleteEvent{Object: readyNode("a")}), true},
	} {
		if test.got != test.want {
			t.Errorf("%s: %v, want %v", name, test.got, test.want)
		}
	}
}

func TestNoAttachmentOrVolumeIsLookedUpWhileNoNodeHasFailed(t *testing.T) {
	t.Parallel()
	nodesOnly := interceptor.NewClient(cluster(readyNode("node-a"), attachment("pv-0", "node-a")), interceptor.Funcs{
		List: func(ctx context.Context, c client.WithWatch, list client.ObjectList, opts ...client.ListOption) error {
			if _, ok := list.(*corev1.NodeList); !ok {
				t.Errorf("listed %T", list)
			}
			return c.List(ctx, list, opts...)
		},
		Get: func(ctx context.Context, c client.WithWatch, key client.ObjectKey, obj client.Object, opts ...client.GetOption) error {
			if _, ok := obj.(*corev1.Node); !ok {
				t.Errorf("looked up %T %s", obj, key)
			}
			return c.Get(ctx, key, obj, opts...)
		},
	})
	x := filledIndex(t, withoutAttachments{nodesOnly})
	lookAgain(t, x, "node-a")
	wantHeld(t, x, volume.HeldClaims{})
}

// withoutAttachments names the nodes that have some without a look at these.
type withoutAttachments struct{ client.Reader }

func (withoutAttachments) NodesWithAttachments(context.Context) ([]string, error) {
	return []string{"node-a"}, nil
}

func TestAFailedReadChangesNothing(t *testing.T) {
	t.Parallel()
	refused := errors.New("refused")
	var broken func(obj any) bool
	fail := func(obj any) error {
		if broken != nil && broken(obj) {
			return refused
		}
		return nil
	}
	c := interceptor.NewClient(
		cluster(failedNode("node-a"), driver(true), attachment("pv-0", "node-a"), persistentVolume("pv-0", rbdDriver, "shop", "data-0")),
		interceptor.Funcs{
			List: func(ctx context.Context, c client.WithWatch, list client.ObjectList, opts ...client.ListOption) error {
				return errors.Join(fail(list), c.List(ctx, list, opts...))
			},
			Get: func(ctx context.Context, c client.WithWatch, key client.ObjectKey, obj client.Object, opts ...client.GetOption) error {
				return errors.Join(fail(obj), c.Get(ctx, key, obj, opts...))
			},
		})
	x := filledIndex(t, whole{c})
	for name, kind := range map[string]func(any) bool{
		"node":        func(obj any) bool { _, ok := obj.(*corev1.Node); return ok },
		"attachments": func(obj any) bool { _, ok := obj.(*storagev1.VolumeAttachmentList); return ok },
		"volume":      func(obj any) bool { _, ok := obj.(*corev1.PersistentVolume); return ok },
		"volumes":     func(obj any) bool { _, ok := obj.(*corev1.PersistentVolumeList); return ok },
		"driver":      func(obj any) bool { _, ok := obj.(*storagev1.CSIDriver); return ok },
	} {
		broken = kind
		_, err := x.Reconcile(t.Context(), reconcile.Request{NamespacedName: types.NamespacedName{Name: "node-a"}})
		if !errors.Is(err, refused) {
			t.Errorf("%s: error %v, want the cause, so that it is tried again", name, err)
		}
		wantHeld(t, x, volume.HeldClaims{claim("shop", "data-0"): {heldVolume("shop/data-0", "pv-0", "node-a")}})
	}
}

func TestWhatIsPublishedIsNeverChanged(t *testing.T) {
	t.Parallel()
	c := cluster(failedNode("node-a"), failedNode("node-b"),
		attachment("pv-0", "node-a"), attachment("pv-0", "node-b"), persistentVolume("pv-0", rbdDriver, "shop", "data-0"))
	x := filledIndex(t, whole{c})
	before, _ := x.Held()
	done := make(chan struct{})
	go func() { // an admission that reads while the index changes; the race detector watches
		defer close(done)
		for range 100 {
			held, _ := x.Held()
			_ = len(held[claim("shop", "data-0")])
		}
	}()
	for i := range 20 {
		next := readyNode("node-b")
		if i%2 == 1 {
			next = failedNode("node-b")
		}
		if err := c.Status().Update(t.Context(), next); err != nil {
			t.Fatal(err)
		}
		lookAgain(t, x, "node-b")
	}
	<-done
	want := volume.HeldClaims{claim("shop", "data-0"): {heldVolume("shop/data-0", "pv-0", "node-a"), heldVolume("shop/data-0", "pv-0", "node-b")}}
	if diff := cmp.Diff(want, before); diff != "" {
		t.Errorf("an older view changed: -want +got:\n%s", diff)
	}
}

func TestTransformsKeepOnlyWhatIsRead(t *testing.T) {
	t.Parallel()
	full := metav1.ObjectMeta{
		Name: "x", UID: "u", ResourceVersion: "7", Labels: map[string]string{"a": "b"},
		Annotations: map[string]string{"rbd-rescue.io/mode": "rescue", "rbd-rescue.io/clients": "{}", "other": "text"}, Finalizers: []string{"f"},
	}
	lean := metav1.ObjectMeta{Name: "x", UID: "u", ResourceVersion: "7"}
	leanNamespace := lean
	leanNamespace.Annotations = map[string]string{"rbd-rescue.io/mode": "rescue", "rbd-rescue.io/clients": "{}"}
	ready := corev1.NodeCondition{Type: corev1.NodeReady, Status: corev1.ConditionUnknown, Reason: "NodeStatusUnknown"}

	for name, test := range map[string]struct {
		got, want client.Object
	}{
		"Node": {
			got: stripNode(&corev1.Node{ObjectMeta: full, Spec: corev1.NodeSpec{ProviderID: "p"}, Status: corev1.NodeStatus{
				VolumesInUse: []corev1.UniqueVolumeName{"v"},
				Images:       []corev1.ContainerImage{{SizeBytes: 1}},
				Conditions:   []corev1.NodeCondition{{Type: corev1.NodeDiskPressure}, {Type: ready.Type, Status: ready.Status, Reason: ready.Reason, Message: "m", LastHeartbeatTime: metav1.Now()}},
			}}),
			want: &corev1.Node{ObjectMeta: lean, Status: corev1.NodeStatus{
				Conditions: []corev1.NodeCondition{ready}, VolumesInUse: []corev1.UniqueVolumeName{"v"},
			}},
		},
		"Node that is Ready": {
			got: stripNode(&corev1.Node{ObjectMeta: full, Status: corev1.NodeStatus{
				VolumesInUse: []corev1.UniqueVolumeName{"v"}, Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}},
			}}),
			want: &corev1.Node{ObjectMeta: lean, Status: corev1.NodeStatus{Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}}}},
		},
		"Namespace": {
			got:  stripNamespace(&corev1.Namespace{ObjectMeta: full, Spec: corev1.NamespaceSpec{Finalizers: []corev1.FinalizerName{"f"}}}),
			want: &corev1.Namespace{ObjectMeta: leanNamespace},
		},
	} {
		if diff := cmp.Diff(test.want, test.got); diff != "" {
			t.Errorf("%s: -want +got:\n%s", name, diff)
		}
	}
}
