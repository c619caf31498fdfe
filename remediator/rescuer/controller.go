package rescuer

import (
	"cmp"
	"context"
	"fmt"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/workqueue"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/rbd-rescue/rbd-rescue/api/v1alpha1"
	"github.com/rbd-rescue/rbd-rescue/ceph"
	"github.com/rbd-rescue/rbd-rescue/remediator/announce"
	"github.com/rbd-rescue/rbd-rescue/remediator/observe"
	"github.com/rbd-rescue/rbd-rescue/remediator/plan"
	"github.com/rbd-rescue/rbd-rescue/volume"
)

const (
	// reconcileTimeout bounds one look at an incident, all calls to the API and to Ceph included.
	reconcileTimeout = time.Minute
	// askWithin is how late in a look Ceph may be asked to change the blocklist, and be waited for. librados gives up 15 s later at
	// most: all is over before the doubt ends (plan.inDoubtFor).
	askWithin = 30 * time.Second
	// incidentsAtOnce: a Ceph cluster that hangs must not hold up the incidents of another.
	incidentsAtOnce = 4
)

// Controller reconciles NodeFences.
type Controller struct {
	// Client writes; its reads are cached.
	Client client.Client
	// Live reads the API itself: the NodeFence whose status is about to be replaced, the node before a release.
	Live      client.Reader
	Observer  *observe.Observer
	Clusters  *ceph.Clusters
	Announcer *announce.Announcer
	// WritesAtOnce is how many steps of one decision are carried out at the same time; 0 for the default.
	WritesAtOnce int
	// Boundary is told, before and after each write, which one it is; nil for nobody. Tests end the process there (S8), so that
	// steps are then carried out one after the other.
	Boundary func(name string)

	incidents nodeLocks
	attempts  attempts
}

// nodeLocks keep two incidents of one node apart: one must not remove an entry while the other proves it.
type nodeLocks struct{ byNode sync.Map }

func (l *nodeLocks) lock(node string) (unlock func()) {
	lock, _ := l.byNode.LoadOrStore(node, &sync.Mutex{})
	lock.(*sync.Mutex).Lock()
	return lock.(*sync.Mutex).Unlock
}

// AddTo wires the controller's watches.
func (c *Controller) AddTo(mgr ctrl.Manager) error {
	err := ctrl.NewControllerManagedBy(mgr).Named("rescuer").
		For(&v1alpha1.NodeFence{}).
		Watches(&corev1.Node{}, handler.EnqueueRequestsFromMapFunc(c.fencesOfNode)).
		Watches(&corev1.Pod{}, handler.EnqueueRequestsFromMapFunc(c.fencesOfPod)).
		Watches(&storagev1.VolumeAttachment{}, handler.EnqueueRequestsFromMapFunc(c.fencesOfAttachment)).
		WithOptions(controller.Options{
			MaxConcurrentReconciles: incidentsAtOnce,
			RateLimiter:             workqueue.NewTypedItemExponentialFailureRateLimiter[reconcile.Request](20*time.Millisecond, 30*time.Second),
		}).
		Complete(c)
	if err != nil {
		return fmt.Errorf("adding the rescuer: %w", err)
	}
	return nil
}

// Reconcile gets one incident one step further.
func (c *Controller) Reconcile(ctx context.Context, request reconcile.Request) (reconcile.Result, error) {
	ctx, cancel := context.WithTimeout(ctx, reconcileTimeout)
	defer cancel()
	nf := &v1alpha1.NodeFence{}
	if err := c.Live.Get(ctx, request.NamespacedName, nf); err != nil {
		if apierrors.IsNotFound(err) {
			forget(request.Name)
			return reconcile.Result{}, nil
		}
		return reconcile.Result{}, fmt.Errorf("reading NodeFence %s: %w", request.Name, err)
	}
	unlock := c.incidents.lock(nf.Spec.NodeName)
	defer unlock()
	if err := c.adopt(ctx, nf); err != nil {
		return reconcile.Result{}, err
	}
	snapshot, err := c.Observer.Incident(ctx, nf)
	if err != nil {
		return reconcile.Result{}, fmt.Errorf("observing node %s: %w", nf.Spec.NodeName, err)
	}
	c.attempts.tell(nf, &snapshot)
	next := plan.Next(snapshot)
	if err := c.report(ctx, nf, next); err != nil { // status first: a crash in execute leaves a trace of what was meant (S8)
		if apierrors.IsConflict(err) {
			return reconcile.Result{RequeueAfter: time.Millisecond}, nil // somebody else wrote it: look again
		}
		return reconcile.Result{}, fmt.Errorf("recording the plan for node %s: %w", nf.Spec.NodeName, err)
	}
	steps, err := c.stillRight(ctx, nf, snapshot.Node, next.Steps)
	if err == nil {
		err = c.execute(ctx, nf, steps)
	}
	if err != nil {
		c.tellFailure(nf, err)
		return reconcile.Result{}, fmt.Errorf("carrying out the plan for node %s: %w", nf.Spec.NodeName, err)
	}
	if len(steps) < len(next.Steps) { // the cache is old: it is given time
		return reconcile.Result{RequeueAfter: max(next.Wait, time.Second)}, nil
	}
	return reconcile.Result{RequeueAfter: next.Wait}, nil
}

// asking is the part of a look in which Ceph may be asked to change the blocklist.
func asking(ctx context.Context) (context.Context, context.CancelFunc) {
	end, bounded := ctx.Deadline()
	if !bounded {
		return context.WithTimeout(ctx, askWithin)
	}
	return context.WithDeadline(ctx, end.Add(askWithin-reconcileTimeout))
}

// adopt completes a NodeFence that a person made: with the finalizer, with the boot that is meant if none is named, and with
// the machine that runs that boot. Where clients are named a boot must be, since it may be over by now.
func (c *Controller) adopt(ctx context.Context, nf *v1alpha1.NodeFence) error {
	if nf.DeletionTimestamp != nil {
		return nil
	}
	changed := controllerutil.AddFinalizer(nf, v1alpha1.FinalizerFence)
	if spec := &nf.Spec; cmp.Or(spec.MachineID, spec.SystemUUID) == "" {
		identity, err := c.Observer.Identity(ctx, spec.NodeName)
		if err != nil {
			return fmt.Errorf("observing node %s: %w", spec.NodeName, err)
		}
		meant := spec.BootID == identity.BootID || spec.BootID == "" && len(spec.Clients) == 0
		if meant && identity != (plan.Identity{BootID: spec.BootID}) {
			spec.BootID, spec.MachineID, spec.SystemUUID = identity.BootID, identity.MachineID, identity.SystemUUID
			changed = true
		}
	}
	if !changed {
		return nil
	}
	if err := c.Client.Update(ctx, nf); err != nil {
		return fmt.Errorf("completing NodeFence %s: %w", nf.Name, err)
	}
	return nil
}

// report stores the status if it changed, and then announces what it says.
func (c *Controller) report(ctx context.Context, nf *v1alpha1.NodeFence, next plan.Decision) error {
	before := nf.DeepCopy()
	nf.Status = next.Status
	if !equal(before.Status, nf.Status) {
		// The resourceVersion makes it a replacement of exactly the status that was judged.
		c.cross("before status")
		if err := c.Client.Status().Update(ctx, nf); err != nil {
			return err
		}
		c.cross("after status")
	}
	measure(before, nf)
	c.Announcer.Announce(next.Events...)
	return nil
}

func (c *Controller) cross(boundary string) {
	if c.Boundary != nil {
		c.Boundary(boundary)
	}
}

// tellFailure says on the NodeFence which step did not go through, unless somebody else was just quicker: that is common,
// and the next look decides anew.
func (c *Controller) tellFailure(nf *v1alpha1.NodeFence, err error) {
	if apierrors.IsConflict(err) {
		return
	}
	c.Announcer.Announce(plan.Event{
		Regarding: fenceReference(nf), Type: corev1.EventTypeWarning, Reason: v1alpha1.ReasonStepFailed, Action: "Fence",
		Note: fmt.Sprintf("A step for node %s failed and is tried again: %v", nf.Spec.NodeName, err),
	})
}

func (c *Controller) fencesOfNode(ctx context.Context, node client.Object) []reconcile.Request {
	return c.active(ctx, func(nf *v1alpha1.NodeFence) bool { return nf.Spec.NodeName == node.GetName() })
}

func (c *Controller) fencesOfPod(ctx context.Context, object client.Object) []reconcile.Request {
	pod := object.(*corev1.Pod)
	return c.active(ctx, func(nf *v1alpha1.NodeFence) bool {
		if nf.Spec.NodeName == pod.Spec.NodeName {
			return true
		}
		for _, claim := range volume.Claims(pod, pod.Namespace) {
			for _, entry := range nf.Status.Volumes {
				if entry.Claim == claim.String() {
					return true
				}
			}
		}
		return false
	})
}

func (c *Controller) fencesOfAttachment(ctx context.Context, object client.Object) []reconcile.Request {
	va := object.(*storagev1.VolumeAttachment)
	name, _ := volume.Attached(va)
	return c.active(ctx, func(nf *v1alpha1.NodeFence) bool {
		if nf.Spec.NodeName == va.Spec.NodeName {
			return true
		}
		for _, entry := range nf.Status.Volumes {
			if entry.PersistentVolume == name {
				return true
			}
		}
		return false
	})
}

// active gives the incidents that are not over and for which matches holds. There are few, so none is looked up by index.
func (c *Controller) active(ctx context.Context, matches func(*v1alpha1.NodeFence) bool) []reconcile.Request {
	var fences v1alpha1.NodeFenceList
	if err := c.Client.List(ctx, &fences, client.UnsafeDisableDeepCopy); err != nil {
		ctrl.LoggerFrom(ctx).Error(err, "Listing NodeFences")
		return nil
	}
	var requests []reconcile.Request
	for i := range fences.Items {
		if nf := &fences.Items[i]; nf.Active() && matches(nf) {
			requests = append(requests, reconcile.Request{NamespacedName: types.NamespacedName{Name: nf.Name}})
		}
	}
	return requests
}
