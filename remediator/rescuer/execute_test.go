package rescuer

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
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
	"github.com/rbd-rescue/rbd-rescue/remediator/announce"
	"github.com/rbd-rescue/rbd-rescue/remediator/observe"
	"github.com/rbd-rescue/rbd-rescue/remediator/plan"
)

func nodeInUse(names ...corev1.UniqueVolumeName) *corev1.Node {
	return &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: "node-a", UID: "a"},
		Status:     corev1.NodeStatus{NodeInfo: corev1.NodeSystemInfo{BootID: "boot-1"}, VolumesInUse: names},
	}
}

func nodeTainted(keys ...string) *corev1.Node {
	node := nodeInUse()
	for _, key := range keys {
		node.Spec.Taints = append(node.Spec.Taints, corev1.Taint{Key: key, Effect: corev1.TaintEffectNoSchedule})
	}
	return node
}

// executor is a Controller without Ceph over these objects, and the recorder that it announces to.
func executor(funcs interceptor.Funcs, objects ...client.Object) (*Controller, *events.FakeRecorder) {
	recorder := events.NewFakeRecorder(10)
	builder := fake.NewClientBuilder().WithScheme(clientgoscheme.Scheme)
	for _, object := range objects { // it writes into them, and tests beside each other share some
		builder.WithObjects(object.DeepCopyObject().(client.Object))
	}
	api := builder.
		WithStatusSubresource(&corev1.Node{}).WithInterceptorFuncs(funcs).Build()
	return &Controller{Client: api, Live: api, Announcer: announce.New(recorder, clocktesting.NewFakePassiveClock(now))}, recorder
}

// frozen is what the API said some time ago.
type frozen struct {
	client.Reader
	node *corev1.Node
}

func (f frozen) Get(_ context.Context, _ client.ObjectKey, o client.Object, _ ...client.GetOption) error {
	f.node.DeepCopyInto(o.(*corev1.Node))
	return nil
}

func told(recorder *events.FakeRecorder) []string {
	var all []string
	for len(recorder.Events) > 0 {
		all = append(all, <-recorder.Events)
	}
	return all
}

func liveNode(t *testing.T, c *Controller) *corev1.Node {
	t.Helper()
	node := &corev1.Node{}
	if err := c.Client.Get(t.Context(), client.ObjectKey{Name: "node-a"}, node); err != nil {
		t.Fatal(err)
	}
	return node
}

func TestClearPatch(t *testing.T) {
	t.Parallel()
	guards := []patchOperation{
		{Op: "test", Path: "/metadata/uid", Value: "a"},
		{Op: "test", Path: "/status/nodeInfo/bootID", Value: "boot-1"},
	}
	for name, test := range map[string]struct {
		node  *corev1.Node
		names []string
		uid   types.UID
		boot  string
		want  []patchOperation
	}{
		"takes a name out by its index, guarded by its value": {
			node: nodeInUse("other", "mine"), names: []string{"mine"}, uid: "a", boot: "boot-1",
			want: append(slices.Clone(guards),
				patchOperation{Op: "test", Path: "/status/volumesInUse/1", Value: "mine"}, patchOperation{Op: "remove", Path: "/status/volumesInUse/1"}),
		},
		"takes several out from the end, so that the indexes before stay right": {
			node: nodeInUse("one", "other", "two"), names: []string{"one", "two"}, uid: "a", boot: "boot-1",
			want: append(slices.Clone(guards),
				patchOperation{Op: "test", Path: "/status/volumesInUse/2", Value: "two"}, patchOperation{Op: "remove", Path: "/status/volumesInUse/2"},
				patchOperation{Op: "test", Path: "/status/volumesInUse/0", Value: "one"}, patchOperation{Op: "remove", Path: "/status/volumesInUse/0"}),
		},
		"does nothing when the name is not there": {
			node: nodeInUse("other"), names: []string{"mine"}, uid: "a", boot: "boot-1",
		},
		"does nothing when the node has booted again": {
			node: nodeInUse("mine"), names: []string{"mine"}, uid: "a", boot: "boot-0",
		},
		"does nothing when the node is another one of the same name": {
			node: nodeInUse("mine"), names: []string{"mine"}, uid: "old", boot: "boot-1",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			step := plan.ClearVolumesInUse{Node: "node-a", UID: test.uid, BootID: test.boot, UniqueNames: test.names}
			if diff := cmp.Diff(test.want, clearPatch(test.node, step)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestClearingVolumesInUseIsRefusedWholeIfTheListHasChanged(t *testing.T) {
	t.Parallel()
	c, _ := executor(interceptor.Funcs{}, nodeInUse("new", "one", "two"))
	c.Live = frozen{node: nodeInUse("one", "two")}
	step := plan.ClearVolumesInUse{Node: "node-a", UID: "a", BootID: "boot-1", UniqueNames: []string{"one", "two"}}
	if err := c.clearVolumesInUse(t.Context(), step); err == nil {
		t.Error("the patch went through on another list")
	}
	if got, want := liveNode(t, c).Status.VolumesInUse, []corev1.UniqueVolumeName{"new", "one", "two"}; !slices.Equal(got, want) {
		t.Errorf("volumesInUse is %v, want %v", got, want)
	}
}

func TestChangeTaints(t *testing.T) {
	t.Parallel()
	taint, untaint := plan.TaintNode{Node: "node-a", UID: "a"}, plan.UntaintNode{Node: "node-a", UID: "a"}
	for name, test := range map[string]struct {
		before []string
		step   plan.Step
		want   []string
		writes int
	}{
		"tainting keeps others' taints":        {before: []string{"b", "a"}, step: taint, want: []string{"b", "a", v1alpha1.TaintFenced}, writes: 1},
		"a tainted node is not written":        {before: []string{"b", v1alpha1.TaintFenced}, step: taint, want: []string{"b", v1alpha1.TaintFenced}},
		"untainting keeps others' taints":      {before: []string{"b", v1alpha1.TaintFenced, "a"}, step: untaint, want: []string{"b", "a"}, writes: 1},
		"an untainted node is not written":     {before: []string{"b"}, step: untaint, want: []string{"b"}},
		"a new node of that name is left be":   {before: []string{"b"}, step: plan.TaintNode{Node: "node-a", UID: "old"}, want: []string{"b"}},
		"a node that is gone needs no taint":   {before: []string{"b"}, step: plan.TaintNode{Node: "gone", UID: "a"}, want: []string{"b"}},
		"a node that is gone needs no removal": {before: []string{"b"}, step: plan.UntaintNode{Node: "gone", UID: "a"}, want: []string{"b"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			writes := 0
			c, _ := executor(interceptor.Funcs{
				Patch: func(ctx context.Context, api client.WithWatch, o client.Object, p client.Patch, opts ...client.PatchOption) error {
					writes++
					return api.Patch(ctx, o, p, opts...)
				},
			}, nodeTainted(test.before...))
			if err := c.carryOut(t.Context(), nil, test.step); err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, taint := range liveNode(t, c).Spec.Taints {
				got = append(got, taint.Key)
			}
			if !slices.Equal(got, test.want) || writes != test.writes {
				t.Errorf("taints %v after %d writes, want %v after %d", got, writes, test.want, test.writes)
			}
		})
	}
}

func TestTaintingNeverOverwritesATaintThatCameMeanwhile(t *testing.T) {
	t.Parallel()
	c, _ := executor(interceptor.Funcs{}, nodeTainted("came-meanwhile"))
	old := nodeTainted()
	old.ResourceVersion = "1" // the fake client begins with 999
	c.Live = frozen{node: old}
	if err := c.changeTaints(t.Context(), "node-a", "a", withTaint); !apierrors.IsConflict(err) {
		t.Errorf("got %v, want a conflict", err)
	}
	if taints := liveNode(t, c).Spec.Taints; len(taints) != 1 || taints[0].Key != "came-meanwhile" {
		t.Errorf("taints are %v", taints)
	}
}

func TestDeletePodDeletesExactlyTheJudgedPodAndTellsOnlySuccess(t *testing.T) {
	t.Parallel()
	pods := schema.GroupResource{Resource: "pods"}
	for name, test := range map[string]struct {
		answer  error
		wantErr bool
		told    []string
	}{
		"deleted":                {told: []string{"Normal PodForceDeleted gone"}},
		"gone already":           {answer: apierrors.NewNotFound(pods, "db-0")},
		"changed since":          {answer: apierrors.NewConflict(pods, "db-0", errors.New("the resourceVersion is another")), wantErr: true},
		"the API does not say":   {answer: context.DeadlineExceeded, wantErr: true},
		"the API does not allow": {answer: apierrors.NewForbidden(pods, "db-0", nil), wantErr: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var asked client.DeleteOptions
			c, recorder := executor(interceptor.Funcs{
				Delete: func(_ context.Context, _ client.WithWatch, o client.Object, opts ...client.DeleteOption) error {
					if o.GetNamespace() != "shop" || o.GetName() != "db-0" {
						t.Errorf("asked to delete %s/%s", o.GetNamespace(), o.GetName())
					}
					asked.ApplyOptions(opts)
					return test.answer
				},
			})
			err := c.deletePod(t.Context(), plan.DeletePod{
				Namespace: "shop", Name: "db-0", UID: "old", ResourceVersion: "7",
				Done: []plan.Event{{Type: corev1.EventTypeNormal, Reason: v1alpha1.ReasonPodForceDeleted, Note: "gone"}},
			})
			if (err != nil) != test.wantErr {
				t.Errorf("error %v", err)
			}
			if diff := cmp.Diff(test.told, told(recorder)); diff != "" {
				t.Errorf("told (-want +got):\n%s", diff)
			}
			if asked.GracePeriodSeconds == nil || *asked.GracePeriodSeconds != 0 {
				t.Errorf("grace period %v, want 0", asked.GracePeriodSeconds)
			}
			if diff := cmp.Diff(&metav1.Preconditions{UID: new(types.UID("old")), ResourceVersion: new("7")}, asked.Preconditions); diff != "" {
				t.Errorf("preconditions (-want +got):\n%s", diff)
			}
		})
	}
}

func TestDeleteAttachmentDeletesExactlyTheJudgedOne(t *testing.T) {
	t.Parallel()
	var asked client.DeleteOptions
	c, _ := executor(interceptor.Funcs{
		Delete: func(_ context.Context, _ client.WithWatch, o client.Object, opts ...client.DeleteOption) error {
			asked.ApplyOptions(opts)
			return apierrors.NewNotFound(storagev1.Resource("volumeattachments"), o.GetName()) // is success
		},
	})
	if err := c.deleteAttachment(t.Context(), plan.DeleteAttachment{Name: "va", UID: "va"}); err != nil {
		t.Error(err)
	}
	if asked.Preconditions == nil || asked.Preconditions.UID == nil || *asked.Preconditions.UID != "va" {
		t.Errorf("preconditions %v", asked.Preconditions)
	}
}

// What is left behind when a call fails, is in doubt, or somebody else was quicker: an error, the story on the NodeFence,
// nothing released before its time (checkFenced holds S1 at every write), and the next look ends where it would have.
func TestAStepThatFailsIsToldAndTriedAgain(t *testing.T) {
	t.Parallel()
	conflict := apierrors.NewConflict(schema.GroupResource{Resource: "nodes"}, "node-a", errors.New("changed"))
	unavailable := apierrors.NewServiceUnavailable("the API server is starting")
	inDoubt := fmt.Errorf("osd blocklist: %w", ceph.ErrInDoubt)
	for name, test := range map[string]struct {
		ceph, patch, patchStatus, remove error
		quiet                            bool // nobody is told
	}{
		"Ceph refuses the entry":                  {ceph: &ceph.CommandError{Command: "osd blocklist", Errno: syscall.EACCES}},
		"the entry is in doubt":                   {ceph: inDoubt},
		"the taint fails":                         {patch: unavailable},
		"somebody else taints the node":           {patch: conflict, quiet: true},
		"clearing volumesInUse fails":             {patchStatus: unavailable},
		"clearing volumesInUse is out of time":    {patchStatus: context.DeadlineExceeded},
		"deleting the pod fails":                  {remove: unavailable},
		"the pod has changed since it was judged": {remove: conflict, quiet: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			if test.ceph != nil {
				w.ceph.FailNext("osd blocklist", test.ceph)
			}
			c := w.controller()
			c.Client = interceptor.NewClient(w.client, interceptor.Funcs{
				Patch: func(ctx context.Context, api client.WithWatch, o client.Object, p client.Patch, opts ...client.PatchOption) error {
					if test.patch != nil {
						return test.patch
					}
					return api.Patch(ctx, o, p, opts...)
				},
				SubResourcePatch: func(ctx context.Context, api client.Client, sub string, o client.Object, p client.Patch, opts ...client.SubResourcePatchOption) error {
					if test.patchStatus != nil {
						return test.patchStatus
					}
					return api.SubResource(sub).Patch(ctx, o, p, opts...)
				},
				Delete: func(ctx context.Context, api client.WithWatch, o client.Object, opts ...client.DeleteOption) error {
					if test.remove != nil {
						return test.remove
					}
					return api.Delete(ctx, o, opts...)
				},
			})
			err := w.settle(c)
			for _, cause := range []error{test.ceph, test.patch, test.patchStatus, test.remove} {
				if cause != nil && !errors.Is(err, cause) {
					t.Errorf("error %v, want %v in it", err, cause)
				}
			}
			failed := slices.ContainsFunc(told(w.events), func(text string) bool { return strings.HasPrefix(text, "Warning "+v1alpha1.ReasonStepFailed+" ") })
			if failed == test.quiet {
				t.Errorf("told of the failed step: %v", failed)
			}
			if err := w.settle(w.controller()); err != nil {
				t.Fatal(err)
			}
			w.checkReleased()
		})
	}
}

func TestANodeFenceThatIsGoneNeedsNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	result, err := w.controller().Reconcile(t.Context(), reconcile.Request{NamespacedName: client.ObjectKey{Name: "gone"}})
	if err != nil || result != (reconcile.Result{}) || w.writes != 0 {
		t.Errorf("%+v, %v, %d writes", result, err, w.writes)
	}
}

func TestAStatusThatSomebodyElseWroteIsLookedAtAgainBeforeAnythingIsDone(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := w.controller()
	c.Client = interceptor.NewClient(w.client, interceptor.Funcs{
		SubResourceUpdate: func(context.Context, client.Client, string, client.Object, ...client.SubResourceUpdateOption) error {
			return apierrors.NewConflict(schema.GroupResource{Resource: "nodefences"}, "nf", errors.New("changed"))
		},
	})
	result, err := c.Reconcile(t.Context(), reconcile.Request{NamespacedName: client.ObjectKey{Name: "nf"}})
	if err != nil || result.RequeueAfter <= 0 {
		t.Errorf("%+v, %v", result, err)
	}
	if w.writes != 0 || len(told(w.events)) != 0 {
		t.Errorf("%d writes", w.writes)
	}
}

// S4: what the cache shows of the node may be old. That holds up a first entry, not the renewal of one that must stay.
func TestARenewalDoesNotWaitForAFirstEntry(t *testing.T) {
	t.Parallel()
	kept, first := ceph.MustParseAddress("10.0.0.1:0/42"), ceph.MustParseAddress("10.0.0.1:0/43")
	nf := &v1alpha1.NodeFence{
		Spec: v1alpha1.NodeFenceSpec{NodeName: "node-a"},
		Status: v1alpha1.NodeFenceStatus{Clients: []v1alpha1.FencedClient{
			{ClusterID: "c1", Address: kept.String(), Kept: true}, {ClusterID: "c1", Address: first.String()},
			{ClusterID: "c2", Address: first.String()},
		}},
	}
	steps := []plan.Step{
		plan.AddToBlocklist{ClusterID: "c1", Clients: []ceph.Address{first, kept}, TTL: time.Hour},
		plan.AddToBlocklist{ClusterID: "c2", Clients: []ceph.Address{first}, TTL: time.Hour},
		plan.DeletePod{Namespace: "shop", Name: "db-0"},
		plan.TaintNode{Node: "node-a", UID: "a"},
	}
	live := booted("a", "boot-1", corev1.ConditionTrue)
	for name, test := range map[string]struct {
		cached *corev1.Node
		want   []plan.Step
	}{
		"the cache is old": {cached: booted("a", "boot-1", corev1.ConditionUnknown), want: []plan.Step{
			plan.AddToBlocklist{ClusterID: "c1", Clients: []ceph.Address{kept}, TTL: time.Hour}, plan.TaintNode{Node: "node-a", UID: "a"},
		}},
		"the cache is not old": {cached: live, want: steps},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, _ := executor(interceptor.Funcs{}, live)
			got, err := c.stillRight(t.Context(), nf, test.cached, steps)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, got, cmp.Comparer(func(a, b ceph.Address) bool { return a == b })); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// S2: the cache may not have heard that another node has got an address.
func TestNoEntryIsWrittenForAnAddressThatAnotherNodeHasByNow(t *testing.T) {
	t.Parallel()
	host, client := ceph.MustParseAddress("10.0.0.1:0/0"), ceph.MustParseAddress("10.0.0.1:0/42")
	for name, test := range map[string]struct {
		mine, others string
		address      ceph.Address
		written      bool
	}{
		"the whole host, and both have the address":      {"10.0.0.1", "10.0.0.1", host, false},
		"the whole host, and only the other one has it":  {"10.0.0.3", "10.0.0.1", host, false},
		"the whole host, and it is the node's alone":     {"10.0.0.1", "10.0.0.2", host, true},
		"a client, and only the other one has its IP":    {"10.0.0.3", "10.0.0.1", client, false},
		"a client, and both have its IP":                 {"10.0.0.1", "10.0.0.1", client, true},
		"a client on a network that no node says it has": {"10.0.0.3", "10.0.0.2", client, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			mine, other := booted("a", "boot-1", corev1.ConditionUnknown), booted("b", "boot-9", corev1.ConditionTrue)
			other.Name = "node-b"
			mine.Status.Addresses = []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: test.mine}}
			other.Status.Addresses = []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: test.others}}
			c, _ := executor(interceptor.Funcs{}, mine, other)
			nf := &v1alpha1.NodeFence{Spec: v1alpha1.NodeFenceSpec{NodeName: mine.Name}}
			got, err := c.stillRight(t.Context(), nf, mine, []plan.Step{plan.AddToBlocklist{ClusterID: "c1", Clients: []ceph.Address{test.address}}})
			if err != nil {
				t.Fatal(err)
			}
			if written := len(got) > 0; written != test.written {
				t.Errorf("written: %v", written)
			}
		})
	}
}

// S7: a person, or a cloud, has deleted nodes in numbers, and the cache has them yet, Ready: by its word none is gone, and by the
// API's none is failed.
func TestNodesThatWereDeletedInNumbersOpenTheBreaker(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		deleted int
		written bool
	}{"one of many": {1, true}, "half of them": {4, false}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var nodes, attachments []client.Object
			for i := range 8 {
				node := booted("uid", "boot-9", corev1.ConditionTrue)
				node.Name, node.UID = fmt.Sprintf("node-%d", i), types.UID(fmt.Sprint(i))
				nodes = append(nodes, node)
				attachments = append(attachments, &storagev1.VolumeAttachment{
					ObjectMeta: metav1.ObjectMeta{Name: node.Name},
					Spec: storagev1.VolumeAttachmentSpec{
						Attacher: "rbd.csi.ceph.com", NodeName: node.Name, Source: storagev1.VolumeAttachmentSource{PersistentVolumeName: new("pv-" + node.Name)},
					},
					Status: storagev1.VolumeAttachmentStatus{Attached: true},
				})
			}
			c, _ := executor(interceptor.Funcs{}, nodes[test.deleted:]...)
			clock := clocktesting.NewFakePassiveClock(now)
			c.Observer = &observe.Observer{
				Reader: fake.NewClientBuilder().WithObjects(append(attachments, nodes...)...).Build(), Live: c.Live, Clock: clock, Settings: plan.DefaultSettings(),
			}
			nf := &v1alpha1.NodeFence{Spec: v1alpha1.NodeFenceSpec{NodeName: "node-0", Automatic: true}}
			got, err := c.stillRight(t.Context(), nf, nil, []plan.Step{plan.AddToBlocklist{ClusterID: "c1", Clients: []ceph.Address{ceph.MustParseAddress(deadClient)}}})
			if err != nil {
				t.Fatal(err)
			}
			if written := len(got) > 0; written != test.written {
				t.Errorf("written: %v", written)
			}
		})
	}
}
