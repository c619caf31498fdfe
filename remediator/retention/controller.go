// Package retention removes safety snapshots that nobody needs any more. It takes none, and it touches no snapshot that is not listed
// in the status of a NodeFence.
package retention

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/util/workqueue"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/rbd-rescue/rbd-rescue/api/v1alpha1"
	"github.com/rbd-rescue/rbd-rescue/ceph"
	"github.com/rbd-rescue/rbd-rescue/remediator/announce"
	"github.com/rbd-rescue/rbd-rescue/remediator/plan"
)

const (
	// reconcileTimeout bounds one look at all snapshots, removeTimeout each removal: it took 1.0 s.
	reconcileTimeout = 5 * time.Minute
	removeTimeout    = 15 * time.Second
	// every is how often it looks while there are snapshots.
	every = time.Minute
)

// allSnapshots is the one thing that is reconciled: how many there are of one image is a matter of several NodeFences.
var allSnapshots = reconcile.Request{NamespacedName: client.ObjectKey{Name: "snapshots"}}

// Controller removes snapshots.
type Controller struct {
	Client client.Client
	// Live reads the API itself: what is removed is gone.
	Live      client.Reader
	Clusters  *ceph.Clusters
	Announcer *announce.Announcer
	Clock     clock.PassiveClock
	Settings  plan.Settings

	tooOldSince map[string]time.Time
}

// AddTo wires the controller's watches.
func (c *Controller) AddTo(mgr ctrl.Manager) error {
	snapshots := handler.EnqueueRequestsFromMapFunc(func(context.Context, client.Object) []reconcile.Request {
		return []reconcile.Request{allSnapshots}
	})
	deleted := predicate.NewPredicateFuncs(func(o client.Object) bool {
		pv, is := o.(*corev1.PersistentVolume)
		return is && beingDeleted(pv)
	})
	err := ctrl.NewControllerManagedBy(mgr).Named("retention").
		Watches(&v1alpha1.NodeFence{}, snapshots).
		Watches(&corev1.PersistentVolume{}, snapshots, builder.WithPredicates(deleted)).
		WithOptions(controller.Options{
			RateLimiter: workqueue.NewTypedItemExponentialFailureRateLimiter[reconcile.Request](time.Second, every),
		}).
		Complete(c)
	if err != nil {
		return fmt.Errorf("adding the retention of snapshots: %w", err)
	}
	return nil
}

// Reconcile removes what is due. It costs a look at the cached NodeFences while there are no snapshots.
func (c *Controller) Reconcile(ctx context.Context, _ reconcile.Request) (reconcile.Result, error) {
	ctx, cancel := context.WithTimeout(ctx, reconcileTimeout)
	defer cancel()
	fences, err := listFences(ctx, c.Client)
	if err != nil || !slices.ContainsFunc(fences, plan.HasSnapshots) {
		count(fences)
		return reconcile.Result{}, err
	}
	if fences, err = listFences(ctx, c.Live); err != nil { // a cache that is old may show an incident that has gone on since
		return reconcile.Result{}, err
	}
	count(fences)
	if c.tooOldSince == nil {
		c.tooOldSince = map[string]time.Time{}
	}
	volumes, err := c.volumes(ctx, fences)
	if err != nil {
		return reconcile.Result{}, err
	}
	removals := due(view{now: c.Clock.Now(), settings: c.Settings, fences: fences, volumes: volumes, tooOldSince: c.tooOldSince})
	var failed []error
	for _, nf := range fences {
		failed = append(failed, c.remove(ctx, nf, slices.DeleteFunc(slices.Clone(removals), func(r removal) bool { return r.fence != nf })))
	}
	return reconcile.Result{RequeueAfter: min(every, patience(c.Settings))}, errors.Join(failed...)
}

func listFences(ctx context.Context, from client.Reader) ([]*v1alpha1.NodeFence, error) {
	var list v1alpha1.NodeFenceList
	if err := from.List(ctx, &list); err != nil {
		return nil, fmt.Errorf("listing NodeFences: %w", err)
	}
	fences := make([]*v1alpha1.NodeFence, len(list.Items))
	for i := range list.Items {
		fences[i] = &list.Items[i]
	}
	return fences, nil
}

// volumes are those of the snapshots that are there.
func (c *Controller) volumes(ctx context.Context, fences []*v1alpha1.NodeFence) (map[string]*corev1.PersistentVolume, error) {
	volumes := map[string]*corev1.PersistentVolume{}
	for _, t := range taken(fences) {
		name, pv := t.entry.PersistentVolume, &corev1.PersistentVolume{}
		switch err := c.Client.Get(ctx, client.ObjectKey{Name: name}, pv); {
		case err == nil:
			volumes[name] = pv
		case !apierrors.IsNotFound(err):
			return nil, fmt.Errorf("reading PersistentVolume %s: %w", name, err)
		}
	}
	return volumes, nil
}

// remove removes snapshots of one NodeFence, and notes which are gone. One that does not go holds up no other.
func (c *Controller) remove(ctx context.Context, nf *v1alpha1.NodeFence, removals []removal) error {
	changed := false
	var events []plan.Event
	for _, r := range removals {
		if err := c.removeOne(ctx, r); err != nil {
			c.Announcer.Announce(keptEvent(r, err))
			continue
		}
		if r.because == "" {
			changed = c.forget(nf, r) || changed
			continue
		}
		changed = true
		note(nf, r, c.Clock.Now())
		events = append(events, removedEvent(r))
	}
	if !changed {
		return nil
	}
	if err := c.Client.Status().Update(ctx, nf); err != nil {
		return fmt.Errorf("noting on NodeFence %s which snapshots are removed: %w", nf.Name, err)
	}
	c.Announcer.Announce(events...)
	return nil
}

func (c *Controller) removeOne(ctx context.Context, r removal) error {
	ctx, cancel := context.WithTimeout(ctx, removeTimeout)
	defer cancel()
	image, err := ceph.ParseImage(r.image)
	if err != nil {
		return err
	}
	cluster, err := c.Clusters.Get(ctx, r.clusterID)
	if err != nil {
		return err
	}
	return cluster.RemoveSnapshot(ctx, image, r.name)
}

// forget drops one that does not count from the status, once it can't come any more.
func (c *Controller) forget(nf *v1alpha1.NodeFence, r removal) bool {
	before, now, setBack := len(nf.Status.Discarded), c.Clock.Now(), false
	nf.Status.Discarded = slices.DeleteFunc(nf.Status.Discarded, func(d v1alpha1.DiscardedSnapshot) bool {
		return d.Image == r.image && d.Name == r.name && now.Sub(d.DiscardedAt.Time) > plan.DiscardedFor
	})
	for i := range nf.Status.Discarded {
		if d := &nf.Status.Discarded[i]; d.DiscardedAt.After(now) { // the clock was: it counts from now on
			d.DiscardedAt, setBack = metav1.NewMicroTime(now), true
		}
	}
	return setBack || len(nf.Status.Discarded) < before
}

func note(nf *v1alpha1.NodeFence, r removal, now time.Time) {
	for i := range nf.Status.Volumes {
		if entry := &nf.Status.Volumes[i]; entry.Snapshot != nil && entry.Image == r.image && entry.Snapshot.Name == r.name {
			at := metav1.NewMicroTime(now)
			entry.Snapshot.State, entry.Snapshot.Message, entry.Snapshot.RemovedAt = v1alpha1.SnapshotRemoved, r.because, &at
		}
	}
}

func removedEvent(r removal) plan.Event {
	return event(r, corev1.EventTypeNormal, v1alpha1.ReasonSnapshotRemoved, fmt.Sprintf("Removed safety snapshot %s@%s: %s.", r.image, r.name, r.because))
}

func keptEvent(r removal, err error) plan.Event {
	because := r.because
	if because == "" {
		because = "it does not count"
	}
	hint := "It is tried again."
	if errors.Is(err, ceph.ErrSnapshotInUse) {
		hint = fmt.Sprintf("It goes once its clones are deleted or flattened (rbd children %s@%s) and it is unprotected.", r.image, r.name)
	}
	return event(r, corev1.EventTypeWarning, v1alpha1.ReasonSnapshotKept, fmt.Sprintf(
		"Safety snapshot %s@%s is to be removed, since %s, and stays: %v. %s", r.image, r.name, because, err, hint))
}

func event(r removal, kind, reason, note string) plan.Event {
	return plan.Event{
		Regarding: corev1.ObjectReference{APIVersion: v1alpha1.GroupVersion.String(), Kind: "NodeFence", Name: r.fence.Name, UID: r.fence.UID},
		Type:      kind, Reason: reason, Action: "RemoveSnapshot", Note: note,
	}
}
