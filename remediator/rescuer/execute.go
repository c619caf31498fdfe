package rescuer

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/retry"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"

	"github.com/rbd-rescue/rbd-rescue/api/v1alpha1"
	"github.com/rbd-rescue/rbd-rescue/ceph"
	"github.com/rbd-rescue/rbd-rescue/remediator/observe"
	"github.com/rbd-rescue/rbd-rescue/remediator/plan"
	"github.com/rbd-rescue/rbd-rescue/volume"
)

// writesAtOnce is how many pods are deleted at the same time: one after the other took 13.6 s for 40 (facts/kubernetes.md §5).
const writesAtOnce = 16

// snapshotsAtOnce is how many safety snapshots are taken at the same time: each waits for the monitors' next commit, which is one for all.
const snapshotsAtOnce = 64

// execute carries out the steps of one decision. Every step is idempotent and carries its own precondition; one that no
// longer holds is no error: the next look decides anew. Steps of one kind do not wait for each other.
func (c *Controller) execute(ctx context.Context, nf *v1alpha1.NodeFence, steps []plan.Step) error {
	writes, snapshots := make(chan struct{}, c.writesAtOnce()), make(chan struct{}, snapshotsAtOnce)
	began := time.Now()
	var group sync.WaitGroup
	failed := make([]error, len(steps))
	for i, step := range steps {
		slots, ctx, cancel := writes, ctx, context.CancelFunc(func() {})
		if snapshot, is := step.(plan.TakeSnapshot); is && cap(writes) > 1 {
			slots = snapshots
			ctx, cancel = context.WithDeadline(ctx, began.Add(snapshot.Within)) // also where it has to wait for others
		}
		slots <- struct{}{}
		group.Go(func() {
			defer func() { cancel(); <-slots }()
			ctrl.LoggerFrom(ctx).Info("Carrying out a step", "node", nf.Spec.NodeName, "step", step.String())
			c.cross("before " + plan.Kind(step))
			if err := c.carryOut(ctx, nf, step); err != nil {
				failed[i] = fmt.Errorf("trying to %s: %w", step, err)
			}
			c.cross("after " + plan.Kind(step))
		})
	}
	group.Wait()
	return errors.Join(failed...)
}

// writesAtOnce: whoever waits for a boundary must find that no step after it has begun.
func (c *Controller) writesAtOnce() int {
	if c.Boundary != nil {
		return 1
	}
	return cmp.Or(c.WritesAtOnce, writesAtOnce)
}

// stillRight leaves out the steps whose grounds the API itself no longer shows: the decision was taken from a cache.
func (c *Controller) stillRight(ctx context.Context, nf *v1alpha1.NodeFence, judged *corev1.Node, steps []plan.Step) ([]plan.Step, error) {
	hurts := func(step plan.Step) bool { return takesFromNode(nf, step) }
	if !slices.ContainsFunc(steps, hurts) {
		return steps, nil
	}
	node, err := observe.ReadNode(ctx, c.Live, nf.Spec.NodeName)
	if err != nil {
		return nil, fmt.Errorf("before anything is taken from it: %w", err)
	}
	stands := asJudged(node, judged)
	if first := firstEntries(nf, steps); stands && len(first) > 0 {
		if stands, err = c.mayBegin(ctx, nf, judged, first); err != nil {
			return nil, err
		}
	}
	if stands {
		return steps, nil
	}
	return withoutHurt(nf, steps), nil
}

// withoutHurt leaves of the steps what is right whatever the node does: a renewal does not wait for a first entry beside it (S4).
func withoutHurt(nf *v1alpha1.NodeFence, steps []plan.Step) []plan.Step {
	var left []plan.Step
	for _, step := range steps {
		add, adds := step.(plan.AddToBlocklist)
		if adds {
			add = plan.Renewals(nf.Status, add)
			step = add
		}
		if !takesFromNode(nf, step) && (!adds || len(add.Clients) > 0) {
			left = append(left, step)
		}
	}
	return left
}

// mayBegin asks the API itself about all nodes before entries are written for the first time. A cache that has not heard of the
// other failures yet would let each of them pass for the only one (S7), and one that has not heard that another node has got an
// address would cut that one off (S2).
func (c *Controller) mayBegin(ctx context.Context, nf *v1alpha1.NodeFence, judged *corev1.Node, first []ceph.Address) (bool, error) {
	nodes, err := observe.LiveNodes(ctx, c.Live)
	if err != nil {
		return false, fmt.Errorf("before the first entry: %w", err)
	}
	if slices.ContainsFunc(first, func(address ceph.Address) bool { return plan.OnAnotherNode(nodes, nf.Spec.NodeName, address) }) {
		return false, nil
	}
	if !nf.Spec.Automatic || plan.ReliedOn(nf.Status) {
		return true, nil
	}
	gone, err := c.Observer.GoneBeside(ctx, nodes)
	if err != nil {
		return false, err
	}
	return !plan.BreakerOpen(plan.HealthOf(nodes, len(gone), c.Observer.Clock.Now()), judged, c.Observer.Settings), nil
}

// firstEntries are the addresses that steps would write for the first time.
func firstEntries(nf *v1alpha1.NodeFence, steps []plan.Step) []ceph.Address {
	var first []ceph.Address
	for _, step := range steps {
		if add, adds := step.(plan.AddToBlocklist); adds {
			renewed := plan.Renewals(nf.Status, add).Clients
			first = append(first, slices.DeleteFunc(slices.Clone(add.Clients), func(address ceph.Address) bool { return slices.Contains(renewed, address) })...)
		}
	}
	return first
}

// takesFromNode tells whether a step takes something from the node that is right only while the node is as it was judged:
// first entries (S2; those that are kept must be renewed whatever the node does, S4), and every release.
func takesFromNode(nf *v1alpha1.NodeFence, step plan.Step) bool {
	switch step := step.(type) {
	case plan.AddToBlocklist:
		return len(firstEntries(nf, []plan.Step{step})) > 0
	case plan.TakeSnapshot, plan.ClearVolumesInUse, plan.DeletePod, plan.DeleteAttachment, plan.FreeAttachment:
		return true
	default:
		return false
	}
}

// asJudged tells whether a node is as it was when the decision was taken, before Ceph was asked and the status stored: a kubelet
// that answers again looks after its pods itself.
func asJudged(node, judged *corev1.Node) bool {
	if node == nil || judged == nil {
		return node == judged
	}
	if node.UID != judged.UID || volume.BootID(node) != volume.BootID(judged) {
		return false
	}
	_, failed := volume.Failed(node)
	_, failedBefore := volume.Failed(judged)
	return failed == failedBefore && volume.ReadyStatus(node) == volume.ReadyStatus(judged)
}

func (c *Controller) carryOut(ctx context.Context, nf *v1alpha1.NodeFence, step plan.Step) error {
	switch s := step.(type) {
	case plan.AddToBlocklist:
		cluster, err := c.Clusters.Get(ctx, s.ClusterID)
		if err != nil {
			return err
		}
		ctx, cancel := asking(ctx)
		defer cancel()
		return cluster.AddToBlocklist(ctx, s.Clients, s.TTL)
	case plan.RemoveFromBlocklist:
		cluster, err := c.Clusters.Get(ctx, s.ClusterID)
		if err != nil {
			return err
		}
		clients, err := c.notNeeded(ctx, nf, s)
		if err != nil {
			return err
		}
		ctx, cancel := asking(ctx)
		defer cancel()
		return cluster.RemoveFromBlocklist(ctx, clients)
	case plan.TaintNode:
		return c.changeTaints(ctx, s.Node, s.UID, withTaint)
	case plan.UntaintNode:
		return c.changeTaints(ctx, s.Node, s.UID, withoutTaint)
	case plan.ClearVolumesInUse:
		return c.clearVolumesInUse(ctx, s)
	case plan.DeletePod:
		return c.deletePod(ctx, s)
	case plan.DeleteAttachment:
		return c.deleteAttachment(ctx, s)
	case plan.FreeAttachment:
		return c.freeAttachment(ctx, s)
	case plan.TakeSnapshot:
		return c.takeSnapshot(ctx, nf, s)
	case plan.ReleaseFinalizer:
		return c.releaseFinalizer(ctx, nf)
	default:
		return fmt.Errorf("no way to carry out %T", step)
	}
}

// notNeeded leaves out the entries that another active NodeFence asks for, as the API itself says: the decision was taken
// from a cache (S3).
func (c *Controller) notNeeded(ctx context.Context, nf *v1alpha1.NodeFence, step plan.RemoveFromBlocklist) ([]ceph.Address, error) {
	var list v1alpha1.NodeFenceList
	if err := c.Live.List(ctx, &list); err != nil {
		return nil, fmt.Errorf("listing NodeFences: %w", err)
	}
	var others []*v1alpha1.NodeFence
	for i := range list.Items {
		if name := list.Items[i].Name; name != nf.Name && !slices.Contains(step.Over, name) {
			others = append(others, &list.Items[i])
		}
	}
	return slices.DeleteFunc(slices.Clone(step.Clients), func(address ceph.Address) bool {
		return plan.NeededBy(others, address.String()) != ""
	}), nil
}

func withTaint(taints []corev1.Taint) []corev1.Taint {
	return append(withoutTaint(taints), corev1.Taint{Key: v1alpha1.TaintFenced, Effect: corev1.TaintEffectNoSchedule})
}

func withoutTaint(taints []corev1.Taint) []corev1.Taint {
	return slices.DeleteFunc(slices.Clone(taints), func(t corev1.Taint) bool { return t.Key == v1alpha1.TaintFenced })
}

// changeTaints replaces the list under an optimistic lock: taints are an atomic list that other controllers write too. It
// tries again at once when somebody wrote the node meanwhile, be it our own step for its status.
func (c *Controller) changeTaints(ctx context.Context, name string, uid types.UID, change func([]corev1.Taint) []corev1.Taint) error {
	return retry.RetryOnConflict(retry.DefaultRetry, func() error { return c.tryChangeTaints(ctx, name, uid, change) })
}

func (c *Controller) tryChangeTaints(ctx context.Context, name string, uid types.UID, change func([]corev1.Taint) []corev1.Taint) error {
	node := &corev1.Node{}
	if err := c.Live.Get(ctx, client.ObjectKey{Name: name}, node); err != nil {
		return client.IgnoreNotFound(err)
	}
	if node.UID != uid {
		return nil
	}
	before := node.DeepCopy()
	node.Spec.Taints = change(node.Spec.Taints)
	if equality.Semantic.DeepEqual(before.Spec.Taints, node.Spec.Taints) {
		return nil
	}
	return client.IgnoreNotFound(c.Client.Patch(ctx, node, client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{})))
}

// patchOperation is one operation of a JSON patch (RFC 6902).
type patchOperation struct {
	Op    string `json:"op"`
	Path  string `json:"path"`
	Value any    `json:"value,omitempty"`
}

// clearVolumesInUse takes names out of the list by index, each guarded by a test of its value, of the node and of its boot:
// if anything has changed the API server refuses the whole patch, and the next look decides anew.
func (c *Controller) clearVolumesInUse(ctx context.Context, s plan.ClearVolumesInUse) error {
	node := &corev1.Node{}
	if err := c.Live.Get(ctx, client.ObjectKey{Name: s.Node}, node); err != nil {
		return client.IgnoreNotFound(err)
	}
	patch := clearPatch(node, s)
	if patch == nil {
		return nil
	}
	text, err := json.Marshal(patch)
	if err != nil {
		return fmt.Errorf("encoding the patch: %w", err)
	}
	return client.IgnoreNotFound(c.Client.Status().Patch(ctx, node, client.RawPatch(types.JSONPatchType, text)))
}

func clearPatch(node *corev1.Node, s plan.ClearVolumesInUse) []patchOperation {
	if node.UID != s.UID || volume.BootID(node) != s.BootID {
		return nil
	}
	var removals []patchOperation
	for i, name := range slices.Backward(node.Status.VolumesInUse) { // from the end, so that the indexes before stay right
		if slices.Contains(s.UniqueNames, string(name)) {
			path := fmt.Sprintf("/status/volumesInUse/%d", i)
			removals = append(removals, patchOperation{Op: "test", Path: path, Value: string(name)}, patchOperation{Op: "remove", Path: path})
		}
	}
	if removals == nil {
		return nil
	}
	return append([]patchOperation{
		{Op: "test", Path: "/metadata/uid", Value: string(s.UID)},
		{Op: "test", Path: "/status/nodeInfo/bootID", Value: s.BootID},
	}, removals...)
}

// deletePod deletes exactly the pod that was judged: a StatefulSet's next pod has the same name, and a pod that changed is
// judged again.
func (c *Controller) deletePod(ctx context.Context, s plan.DeletePod) error {
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: s.Namespace, Name: s.Name}}
	options := []client.DeleteOption{client.Preconditions{UID: &s.UID, ResourceVersion: new(s.ResourceVersion)}}
	if !s.Graceful {
		options = append(options, client.GracePeriodSeconds(0))
	}
	err := c.Client.Delete(ctx, pod, options...)
	switch {
	case err == nil:
		if !s.Graceful {
			podsDeleted.Inc()
		}
		c.Announcer.Announce(s.Done...)
		return nil
	case apierrors.IsNotFound(err):
		return nil
	default:
		return err
	}
}

func (c *Controller) deleteAttachment(ctx context.Context, s plan.DeleteAttachment) error {
	va := &storagev1.VolumeAttachment{ObjectMeta: metav1.ObjectMeta{Name: s.Name}}
	return client.IgnoreNotFound(c.Client.Delete(ctx, va, client.Preconditions{UID: &s.UID}))
}

// freeAttachment lets a VolumeAttachment go that is being deleted, if it is still the one that was judged.
func (c *Controller) freeAttachment(ctx context.Context, s plan.FreeAttachment) error {
	patch, err := json.Marshal([]patchOperation{
		{Op: "test", Path: "/metadata/uid", Value: string(s.UID)}, {Op: "remove", Path: "/metadata/finalizers"},
	})
	if err != nil {
		return fmt.Errorf("encoding the patch: %w", err)
	}
	va := &storagev1.VolumeAttachment{ObjectMeta: metav1.ObjectMeta{Name: s.Name}}
	return client.IgnoreNotFound(c.Client.Patch(ctx, va, client.RawPatch(types.JSONPatchType, patch)))
}

func (c *Controller) releaseFinalizer(ctx context.Context, nf *v1alpha1.NodeFence) error {
	before := nf.DeepCopy()
	if !controllerutil.RemoveFinalizer(nf, v1alpha1.FinalizerFence) {
		return nil
	}
	return client.IgnoreNotFound(c.Client.Patch(ctx, nf, client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{})))
}

func fenceReference(nf *v1alpha1.NodeFence) corev1.ObjectReference {
	return corev1.ObjectReference{APIVersion: v1alpha1.GroupVersion.String(), Kind: "NodeFence", Name: nf.Name, UID: nf.UID}
}

func equal(a, b v1alpha1.NodeFenceStatus) bool { return equality.Semantic.DeepEqual(a, b) }
