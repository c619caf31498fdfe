// Package detector turns a node's failure into an incident: when a failed node holds RBD volumes that Kubernetes wants
// elsewhere, it makes one NodeFence. It never fences and never releases.
package detector

import (
	"context"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/workqueue"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/rbd-rescue/rbd-rescue/api/v1alpha1"
	"github.com/rbd-rescue/rbd-rescue/remediator/announce"
	"github.com/rbd-rescue/rbd-rescue/remediator/observe"
	"github.com/rbd-rescue/rbd-rescue/remediator/plan"
)

// reconcileTimeout bounds one look at a node.
const reconcileTimeout = 30 * time.Second

// Controller looks at failed nodes.
type Controller struct {
	Client    client.Client
	Observer  *observe.Observer
	Announcer *announce.Announcer

	unfenced unfenced
}

// AddTo wires the controller's watches: a change of a node, or of anything that may make its volumes wanted.
func (c *Controller) AddTo(mgr ctrl.Manager) error {
	failed := handler.EnqueueRequestsFromMapFunc(c.nodesInTrouble)
	err := ctrl.NewControllerManagedBy(mgr).Named("detector").
		For(&corev1.Node{}).
		Watches(&corev1.Pod{}, failed).
		Watches(&storagev1.VolumeAttachment{}, failed).
		Watches(&corev1.Namespace{}, failed).
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

// Reconcile looks at one node.
func (c *Controller) Reconcile(ctx context.Context, request reconcile.Request) (reconcile.Result, error) {
	ctx, cancel := context.WithTimeout(ctx, reconcileTimeout)
	defer cancel()
	troubled, err := c.Observer.NodesInTrouble(ctx)
	if err != nil {
		return reconcile.Result{}, err
	}
	if err := c.measure(ctx, troubled); err != nil {
		return reconcile.Result{}, err
	}
	if !slices.Contains(troubled, request.Name) {
		return reconcile.Result{}, nil
	}
	snapshot, err := c.Observer.Node(ctx, request.Name)
	if err != nil {
		return reconcile.Result{}, fmt.Errorf("observing node %s: %w", request.Name, err)
	}
	verdict := plan.Detect(snapshot)
	c.unfenced.note(request.Name, verdict)
	c.Announcer.Announce(verdict.Events...)
	log := ctrl.LoggerFrom(ctx)
	if verdict.Create == nil {
		log.V(1).Info("Making no NodeFence", "node", request.Name, "reason", verdict.Why)
		return reconcile.Result{RequeueAfter: verdict.Wait}, nil
	}
	log.Info("Making a NodeFence", "node", request.Name, "nodefence", verdict.Create.Name, "reason", verdict.Create.Spec.Reason)
	if err := c.Client.Create(ctx, verdict.Create); client.IgnoreAlreadyExists(err) != nil {
		return reconcile.Result{}, fmt.Errorf("making NodeFence %s: %w", verdict.Create.Name, err)
	}
	return reconcile.Result{}, nil
}

// nodesInTrouble: a pod, an attachment or a namespace matters only while a node has failed, and then to few.
func (c *Controller) nodesInTrouble(ctx context.Context, _ client.Object) []reconcile.Request {
	names, err := c.Observer.NodesInTrouble(ctx)
	if err != nil {
		ctrl.LoggerFrom(ctx).Error(err, "Finding failed nodes")
		return nil
	}
	requests := make([]reconcile.Request, len(names))
	for i, name := range names {
		requests[i].Name = name
	}
	return requests
}
