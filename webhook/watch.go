package webhook

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/workqueue"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/source"

	"github.com/rbd-rescue/rbd-rescue/volume"
)

// The fields by which VolumeAttachments and PersistentVolumes are found.
const (
	fieldNode         = "spec.nodeName"
	fieldUniqueName   = "uniqueName"
	fieldRecordedNode = "recordedNode"
)

// watch keeps the index up to date on every replica.
func (x *index) watch(mgr ctrl.Manager, volumes *volumes) error {
	everyReplica := false
	return ctrl.NewControllerManagedBy(mgr).
		Named("held-volumes").
		WithOptions(controller.Options{NeedLeaderElection: &everyReplica}).
		For(&corev1.Node{}, builder.WithPredicates(nodesInTrouble)).
		WatchesRawSource(source.Func(func(ctx context.Context, queue workqueue.TypedRateLimitingInterface[reconcile.Request]) error {
			return volumes.reflect(ctx, mgr, func(nodes ...string) {
				for _, node := range nodes {
					if x.inTrouble(ctx, node) {
						queue.Add(reconcile.Request{NamespacedName: types.NamespacedName{Name: node}})
					}
				}
			})
		})).
		Complete(x)
}

// nodesInTrouble passes what happens to a node that is not Ready, and to one that was not until now. A new one is looked at in
// any case: it may have been missed.
var nodesInTrouble = predicate.Funcs{
	UpdateFunc: func(e event.UpdateEvent) bool { return notReady(e.ObjectOld) || notReady(e.ObjectNew) },
}

func notReady(obj client.Object) bool { return !volume.Ready(obj.(*corev1.Node)) }

// inTrouble tells whether a node whose volumes have changed is not Ready, or gone. No event is lost by asking the cache of
// Nodes: if the node's failure comes later, it brings the node here by itself, and the change is known by then.
func (x *index) inTrouble(ctx context.Context, name string) bool {
	var node corev1.Node
	err := x.reader.Get(ctx, client.ObjectKey{Name: name}, &node)
	return apierrors.IsNotFound(err) || err == nil && !volume.Ready(&node)
}
