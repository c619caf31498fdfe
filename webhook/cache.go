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

// CacheOptions are the informers' caches that the webhook needs: Nodes, Namespaces and CSIDrivers, each but the last, of which
// there are few, stripped to the few fields that are read, so that a replica's memory stays small in a large cluster; for
// VolumeAttachments and PersistentVolumes see volumes. Any other kind has to be added before it is read. An object of such a cache
// must not be written back whole.
func CacheOptions() cache.Options {
	return cache.Options{
		DefaultTransform: cache.TransformStripManagedFields(),
		ByObject: map[client.Object]cache.ByObject{
			&corev1.Node{}:         {Transform: strip(stripNode)},
			&corev1.Namespace{}:    {Transform: strip(stripNamespace)},
			&storagev1.CSIDriver{}: {},
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

// stripNode keeps volumesInUse of a node that is not Ready alone: of the others, of which there are many, nobody asks.
func stripNode(node *corev1.Node) *corev1.Node {
	stripped := &corev1.Node{ObjectMeta: identity(node)}
	if !volume.Ready(node) {
		stripped.Status.VolumesInUse = node.Status.VolumesInUse
	}
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
