package webhook

import (
	"maps"
	"strings"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rbd-rescue/rbd-rescue/api/v1alpha1"
	"github.com/rbd-rescue/rbd-rescue/volume"
)

// CacheOptions are the informers' caches that the webhook needs: Nodes, Namespaces, VolumeAttachments, PersistentVolumes and
// CSIDrivers, each but the last, of which there are few, stripped to the few fields that are read, so that a replica's memory stays small in a large
// cluster. Any other kind has to be added before it is read. An object of such a cache must not be written back whole.
func CacheOptions() cache.Options {
	return cache.Options{
		DefaultTransform: cache.TransformStripManagedFields(),
		ByObject: map[client.Object]cache.ByObject{
			&corev1.Node{}:                {Transform: strip(stripNode)},
			&corev1.Namespace{}:           {Transform: strip(stripNamespace)},
			&storagev1.VolumeAttachment{}: {Transform: strip(stripVolumeAttachment)},
			&corev1.PersistentVolume{}:    {Transform: strip(stripPersistentVolume)},
			&storagev1.CSIDriver{}:        {},
		},
		ReaderFailOnMissingInformer: true,
	}
}

func strip[T client.Object](f func(T) T) toolscache.TransformFunc {
	return func(obj any) (any, error) {
		if typed, ok := obj.(T); ok {
			return f(typed), nil
		}
		return obj, nil
	}
}

// identity is what informers and the field indexes need of an object's metadata.
func identity(obj client.Object) metav1.ObjectMeta {
	return metav1.ObjectMeta{
		Name: obj.GetName(), UID: obj.GetUID(), ResourceVersion: obj.GetResourceVersion(),
		DeletionTimestamp: obj.GetDeletionTimestamp(),
	}
}

func stripNode(node *corev1.Node) *corev1.Node {
	stripped := &corev1.Node{ObjectMeta: identity(node), Status: corev1.NodeStatus{VolumesInUse: node.Status.VolumesInUse}}
	for _, condition := range node.Status.Conditions {
		if condition.Type == corev1.NodeReady {
			condition.Message = ""
			condition.LastHeartbeatTime = metav1.Time{} // changes every few minutes and is not read
			stripped.Status.Conditions = []corev1.NodeCondition{condition}
		}
	}
	return stripped
}

func stripNamespace(namespace *corev1.Namespace) *corev1.Namespace {
	stripped := &corev1.Namespace{ObjectMeta: identity(namespace)}
	stripped.Annotations = maps.Clone(namespace.Annotations)
	maps.DeleteFunc(stripped.Annotations, func(key, _ string) bool { return !strings.HasPrefix(key, v1alpha1.AnnotationPrefix) })
	return stripped
}

func stripVolumeAttachment(va *storagev1.VolumeAttachment) *storagev1.VolumeAttachment {
	return &storagev1.VolumeAttachment{
		ObjectMeta: identity(va),
		Spec: storagev1.VolumeAttachmentSpec{
			NodeName: va.Spec.NodeName,
			Source:   storagev1.VolumeAttachmentSource{PersistentVolumeName: va.Spec.Source.PersistentVolumeName},
		},
		Status: storagev1.VolumeAttachmentStatus{Attached: va.Status.Attached},
	}
}

// stripPersistentVolume keeps the name alone of a volume that is not RBD's.
func stripPersistentVolume(pv *corev1.PersistentVolume) *corev1.PersistentVolume {
	stripped := &corev1.PersistentVolume{ObjectMeta: identity(pv)}
	if !volume.IsRBD(pv) {
		return stripped
	}
	if pv.Spec.CSI != nil {
		stripped.Spec.CSI = &corev1.CSIPersistentVolumeSource{Driver: pv.Spec.CSI.Driver, VolumeHandle: pv.Spec.CSI.VolumeHandle}
	}
	if pv.Spec.RBD != nil {
		stripped.Spec.RBD = &corev1.RBDPersistentVolumeSource{CephMonitors: pv.Spec.RBD.CephMonitors, RBDPool: pv.Spec.RBD.RBDPool, RBDImage: pv.Spec.RBD.RBDImage}
	}
	stripped.Annotations = maps.Clone(pv.Annotations)
	maps.DeleteFunc(stripped.Annotations, func(key, _ string) bool { return key != v1alpha1.AnnotationClients && key != volume.AnnotationMigrated })
	stripped.Spec.AccessModes = pv.Spec.AccessModes
	stripped.Status.Phase = pv.Status.Phase
	if ref := pv.Spec.ClaimRef; ref != nil {
		stripped.Spec.ClaimRef = &corev1.ObjectReference{Namespace: ref.Namespace, Name: ref.Name}
	}
	return stripped
}
