package webhook

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/types"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/rbd-rescue/rbd-rescue/volume"
)

// The fields by which the cache finds VolumeAttachments.
const (
	fieldNode             = "spec.nodeName"
	fieldPersistentVolume = "spec.source.persistentVolumeName"
)

// attachmentFields are the indexes that the cache of VolumeAttachments needs.
var attachmentFields = map[string]client.IndexerFunc{
	fieldNode: func(obj client.Object) []string {
		return []string{obj.(*storagev1.VolumeAttachment).Spec.NodeName}
	},
	fieldPersistentVolume: func(obj client.Object) []string {
		if name := obj.(*storagev1.VolumeAttachment).Spec.Source.PersistentVolumeName; name != nil {
			return []string{*name}
		}
		return nil
	},
}

// watch keeps the index up to date on every replica.
func (x *index) watch(ctx context.Context, mgr ctrl.Manager) error {
	for field, values := range attachmentFields {
		if err := mgr.GetFieldIndexer().IndexField(ctx, &storagev1.VolumeAttachment{}, field, values); err != nil {
			return fmt.Errorf("indexing VolumeAttachments by %s: %w", field, err)
		}
	}
	everyReplica := false
	return ctrl.NewControllerManagedBy(mgr).
		Named("held-volumes").
		WithOptions(controller.Options{NeedLeaderElection: &everyReplica}).
		For(&corev1.Node{}, builder.WithPredicates(failedNodes)).
		Watches(&storagev1.VolumeAttachment{}, handler.EnqueueRequestsFromMapFunc(x.nodeOfAttachment)).
		Watches(&corev1.PersistentVolume{}, handler.EnqueueRequestsFromMapFunc(x.nodesOfVolume), builder.WithPredicates(claimChanges)).
		Complete(x)
}

// failedNodes passes what happens to a failed node, and to one that was failed until now.
var failedNodes = predicate.Funcs{
	CreateFunc: func(e event.CreateEvent) bool { return failed(e.Object) },
	UpdateFunc: func(e event.UpdateEvent) bool { return failed(e.ObjectOld) || failed(e.ObjectNew) },
	DeleteFunc: func(event.DeleteEvent) bool { return true }, // the last state that was seen may be an old one
}

// claimChanges passes what makes another claim of a PersistentVolume, but not the recorder's writes.
var claimChanges = predicate.Funcs{
	UpdateFunc: func(e event.UpdateEvent) bool {
		before, after := e.ObjectOld.(*corev1.PersistentVolume), e.ObjectNew.(*corev1.PersistentVolume)
		return before.Status.Phase != after.Status.Phase || !equality.Semantic.DeepEqual(before.Spec.ClaimRef, after.Spec.ClaimRef)
	},
}

func failed(obj client.Object) bool {
	_, failed := volume.Failed(obj.(*corev1.Node))
	return failed
}

// nodeOfAttachment names the node of a VolumeAttachment if it has failed. No event is lost by asking the cache of Nodes:
// if the node's failure comes later, it brings the node here by itself, and this attachment is in its cache by then.
func (x *index) nodeOfAttachment(ctx context.Context, obj client.Object) []reconcile.Request {
	return x.ifFailed(ctx, obj.(*storagev1.VolumeAttachment).Spec.NodeName)
}

// nodesOfVolume names the failed nodes that a PersistentVolume is attached to: its event may come later than those of
// its VolumeAttachment and of the node.
func (x *index) nodesOfVolume(ctx context.Context, obj client.Object) []reconcile.Request {
	var attachments storagev1.VolumeAttachmentList
	if err := x.reader.List(ctx, &attachments, client.MatchingFields{fieldPersistentVolume: obj.GetName()}); err != nil {
		log.FromContext(ctx).Error(err, "Listing the attachments of a volume", "volume", obj.GetName())
		return nil
	}
	var requests []reconcile.Request
	for i := range attachments.Items {
		requests = append(requests, x.ifFailed(ctx, attachments.Items[i].Spec.NodeName)...)
	}
	return requests
}

func (x *index) ifFailed(ctx context.Context, name string) []reconcile.Request {
	var node corev1.Node
	if err := x.reader.Get(ctx, client.ObjectKey{Name: name}, &node); err != nil || !failed(&node) {
		return nil
	}
	return []reconcile.Request{{NamespacedName: types.NamespacedName{Name: name}}}
}
