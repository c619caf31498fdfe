// Package detector turns a node's failure into an incident: when a failed node holds RBD volumes that Kubernetes wants
// elsewhere, it makes one NodeFence. It never fences and never releases.
package detector

import (
	"context"
	"errors"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/workqueue"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/rbd-rescue/rbd-rescue/api/v1alpha1"
	"github.com/rbd-rescue/rbd-rescue/remediator/announce"
	"github.com/rbd-rescue/rbd-rescue/remediator/observe"
	"github.com/rbd-rescue/rbd-rescue/remediator/plan"
	"github.com/rbd-rescue/rbd-rescue/volume"
)

// reconcileTimeout bounds one look at a node.
const reconcileTimeout = 30 * time.Second

// nodesInTrouble is what is reconciled after an event of a pod, an attachment, a namespace, or a node that is well: it matters only
// while a node has failed. Which have is not asked for each event: at the start there are hundreds of thousands, which here become one.
var nodesInTrouble = reconcile.Request{}

// Controller looks at failed nodes.
type Controller struct {
	Client    client.Client
	Observer  *observe.Observer
	Announcer *announce.Announcer

	unfenced unfenced
}

// AddTo wires the controller's watches: a change of a node, or of anything that may make its volumes wanted.
func (c *Controller) AddTo(mgr ctrl.Manager) error {
	inTrouble := handler.EnqueueRequestsFromMapFunc(func(context.Context, client.Object) []reconcile.Request {
		return []reconcile.Request{nodesInTrouble}
	})
	news := builder.WithPredicates(news)
	err := ctrl.NewControllerManagedBy(mgr).Named("detector").
		Watches(&corev1.Node{}, handler.EnqueueRequestsFromMapFunc(ofNode), news, builder.WithPredicates(notOfWellNodes)).
		Watches(&corev1.Pod{}, inTrouble, news).
		Watches(&storagev1.VolumeAttachment{}, inTrouble, news).
		Watches(&corev1.Namespace{}, inTrouble, news).
		Watches(&v1alpha1.NodeFence{}, handler.EnqueueRequestsFromMapFunc(func(_ context.Context, o client.Object) []reconcile.Request {
			return []reconcile.Request{{NamespacedName: types.NamespacedName{Name: o.(*v1alpha1.NodeFence).Spec.NodeName}}}
		})).
		WithOptions(controller.Options{
			RateLimiter: workqueue.NewTypedItemExponentialFailureRateLimiter[reconcile.Request](20*time.Millisecond, 30*time.Second),
		}).
		Complete(c)
	if err != nil {
		return fmt.Errorf("adding the detector: %w", err)
	}
	return nil
}

// news are updates that say something new: most of those that reach a stripped object changed what is not kept of it. A resync
// passes, in case that something was missed.
var news = predicate.Funcs{UpdateFunc: func(e event.UpdateEvent) bool {
	if e.ObjectOld.GetResourceVersion() == e.ObjectNew.GetResourceVersion() {
		return true
	}
	before := e.ObjectOld.DeepCopyObject().(client.Object)
	before.SetResourceVersion(e.ObjectNew.GetResourceVersion())
	return !equality.Semantic.DeepEqual(before, e.ObjectNew)
}}

// notOfWellNodes leaves out updates of a node that is well before and after: of 5,000 nodes each says every few minutes which volumes
// it uses. It may be new, or go, all the same.
var notOfWellNodes = predicate.Funcs{UpdateFunc: func(e event.UpdateEvent) bool {
	return !well(e.ObjectOld.(*corev1.Node)) || !well(e.ObjectNew.(*corev1.Node))
}}

// well tells whether neither a failure nor a pause may come from a node.
func well(node *corev1.Node) bool {
	return volume.Ready(node) && node.Annotations[v1alpha1.AnnotationPaused] == ""
}

// ofNode: of a node that is well only what is measured of all is to be looked at.
func ofNode(_ context.Context, o client.Object) []reconcile.Request {
	if well(o.(*corev1.Node)) {
		return []reconcile.Request{nodesInTrouble}
	}
	return []reconcile.Request{{NamespacedName: types.NamespacedName{Name: o.GetName()}}}
}

// Reconcile looks at one node, or at all that are in trouble.
func (c *Controller) Reconcile(ctx context.Context, request reconcile.Request) (reconcile.Result, error) {
	troubled, err := c.Observer.NodesInTrouble(ctx)
	if err != nil {
		return reconcile.Result{}, err
	}
	if err := c.measure(ctx, troubled); err != nil {
		return reconcile.Result{}, err
	}
	var result reconcile.Result
	var failed []error // one node that cannot be looked at must not hold up the others
	for _, name := range troubled {
		if request != nodesInTrouble && request.Name != name {
			continue
		}
		wait, err := c.look(ctx, name)
		failed = append(failed, err)
		if wait > 0 && (result.RequeueAfter == 0 || wait < result.RequeueAfter) {
			result.RequeueAfter = wait
		}
	}
	return result, errors.Join(failed...)
}

// look makes a NodeFence for a node in trouble if there has to be one, or says when to look again.
func (c *Controller) look(ctx context.Context, name string) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, reconcileTimeout)
	defer cancel()
	snapshot, err := c.Observer.Node(ctx, name)
	if err != nil {
		return 0, fmt.Errorf("observing node %s: %w", name, err)
	}
	verdict := plan.Detect(snapshot)
	c.unfenced.note(name, verdict)
	c.Announcer.Announce(verdict.Events...)
	log := ctrl.LoggerFrom(ctx)
	if verdict.Create == nil {
		log.V(1).Info("Making no NodeFence", "node", name, "reason", verdict.Why)
		return verdict.Wait, nil
	}
	log.Info("Making a NodeFence", "node", name, "nodefence", verdict.Create.Name, "reason", verdict.Create.Spec.Reason)
	if err := c.Client.Create(ctx, verdict.Create); client.IgnoreAlreadyExists(err) != nil {
		return 0, fmt.Errorf("making NodeFence %s: %w", verdict.Create.Name, err)
	}
	return 0, nil
}
