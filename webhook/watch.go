package webhook

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"

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

	"github.com/rbd-rescue/rbd-rescue/api/v1alpha1"
	"github.com/rbd-rescue/rbd-rescue/volume"
)

// The fields by which the cache finds VolumeAttachments and PersistentVolumes.
const (
	fieldNode             = "spec.nodeName"
	fieldPersistentVolume = "spec.source.persistentVolumeName"
	fieldUniqueName       = "uniqueName"
	fieldRecordedNode     = "recordedNode"
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

// volumeFields are the indexes that the cache of PersistentVolumes needs.
var volumeFields = map[string]client.IndexerFunc{
	fieldUniqueName: func(obj client.Object) []string {
		pv := obj.(*corev1.PersistentVolume)
		if !volume.IsRBD(pv) {
			return nil
		}
		v, _ := volume.Parse(pv)
		return []string{v.UniqueName}
	},
	fieldRecordedNode: func(obj client.Object) []string {
		var record v1alpha1.ClientRecord
		if text := obj.GetAnnotations()[v1alpha1.AnnotationClients]; text == "" || json.Unmarshal([]byte(text), &record) != nil {
			return nil
		}
		return slices.Collect(maps.Keys(record))
	},
}

// watch keeps the index up to date on every replica.
func (x *index) watch(ctx context.Context, mgr ctrl.Manager) error {
	for field, values := range attachmentFields {
		if err := mgr.GetFieldIndexer().IndexField(ctx, &storagev1.VolumeAttachment{}, field, values); err != nil {
			return fmt.Errorf("indexing VolumeAttachments by %s: %w", field, err)
		}
	}
	for field, values := range volumeFields {
		if err := mgr.GetFieldIndexer().IndexField(ctx, &corev1.PersistentVolume{}, field, values); err != nil {
			return fmt.Errorf("indexing PersistentVolumes by %s: %w", field, err)
		}
	}
	everyReplica := false
	return ctrl.NewControllerManagedBy(mgr).
		Named("held-volumes").
		WithOptions(controller.Options{NeedLeaderElection: &everyReplica}).
		For(&corev1.Node{}, builder.WithPredicates(nodesInTrouble)).
		Watches(&storagev1.VolumeAttachment{}, handler.EnqueueRequestsFromMapFunc(x.nodeOfAttachment)).
		Watches(&corev1.PersistentVolume{}, handler.EnqueueRequestsFromMapFunc(x.nodesOfVolume), builder.WithPredicates(claimChanges)).
		Complete(x)
}

// nodesInTrouble passes what happens to a node that is not Ready, and to one that was not until now. A new one is looked at in
// any case: it may have been missed.
var nodesInTrouble = predicate.Funcs{
	UpdateFunc: func(e event.UpdateEvent) bool { return notReady(e.ObjectOld) || notReady(e.ObjectNew) },
}

// claimChanges passes what makes another claim of a PersistentVolume, but not the recorder's writes.
var claimChanges = predicate.Funcs{
	UpdateFunc: func(e event.UpdateEvent) bool {
		before, after := e.ObjectOld.(*corev1.PersistentVolume), e.ObjectNew.(*corev1.PersistentVolume)
		return before.Status.Phase != after.Status.Phase || !equality.Semantic.DeepEqual(before.Spec.ClaimRef, after.Spec.ClaimRef)
	},
}

func notReady(obj client.Object) bool { return !volume.Ready(obj.(*corev1.Node)) }

// nodeOfAttachment names the node of a VolumeAttachment if it is not Ready, or gone. No event is lost by asking the cache of
// Nodes: if the node's failure comes later, it brings the node here by itself, and this attachment is in its cache by then.
func (x *index) nodeOfAttachment(ctx context.Context, obj client.Object) []reconcile.Request {
	return x.ifInTrouble(ctx, obj.(*storagev1.VolumeAttachment).Spec.NodeName)
}

// nodesOfVolume names the nodes in trouble that a PersistentVolume is attached to: its event may come later than those of
// its VolumeAttachment and of the node.
func (x *index) nodesOfVolume(ctx context.Context, obj client.Object) []reconcile.Request {
	var attachments storagev1.VolumeAttachmentList
	if err := x.reader.List(ctx, &attachments, client.MatchingFields{fieldPersistentVolume: obj.GetName()}); err != nil {
		log.FromContext(ctx).Error(err, "Listing the attachments of a volume", "volume", obj.GetName())
		return nil
	}
	var requests []reconcile.Request
	for i := range attachments.Items {
		requests = append(requests, x.ifInTrouble(ctx, attachments.Items[i].Spec.NodeName)...)
	}
	return requests
}

func (x *index) ifInTrouble(ctx context.Context, name string) []reconcile.Request {
	var node corev1.Node
	if err := x.reader.Get(ctx, client.ObjectKey{Name: name}, &node); client.IgnoreNotFound(err) != nil || err == nil && volume.Ready(&node) {
		return nil
	}
	return []reconcile.Request{{NamespacedName: types.NamespacedName{Name: name}}}
}
