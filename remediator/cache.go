package remediator

import (
	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rbd-rescue/rbd-rescue/api/v1alpha1"
	"github.com/rbd-rescue/rbd-rescue/volume"
)

// CacheOptions keep of each object what is read, and pack the kinds that a large cluster has many of, so that its caches stay small.
// An object of these caches must not be written back whole: writers send patches, of what differs or of what they name.
func CacheOptions() cache.Options {
	return cache.Options{
		NewInformer:      newInformer,
		DefaultTransform: cache.TransformStripManagedFields(),
		ByObject: map[client.Object]cache.ByObject{
			&corev1.Pod{}:                   packs(stripPod),
			&corev1.Node{}:                  packs(stripNode),
			&corev1.Namespace{}:             {},
			&corev1.PersistentVolume{}:      packs(stripPersistentVolume),
			&corev1.PersistentVolumeClaim{}: packs(stripPersistentVolumeClaim),
			&storagev1.VolumeAttachment{}:   packs(stripVolumeAttachment),
			&storagev1.CSIDriver{}:          {},
			&v1alpha1.NodeFence{}:           {},
		},
		ReaderFailOnMissingInformer: true,
	}
}

// Stripped keeps of an object what these caches have of it.
func Stripped(object client.Object) client.Object {
	switch o := object.(type) {
	case *corev1.Pod:
		return stripPod(o)
	case *corev1.Node:
		return stripNode(o)
	case *corev1.PersistentVolume:
		return stripPersistentVolume(o)
	case *corev1.PersistentVolumeClaim:
		return stripPersistentVolumeClaim(o)
	case *storagev1.VolumeAttachment:
		return stripVolumeAttachment(o)
	default:
		return object
	}
}

// packs are the options of a kind that is packed: each object that is read is made anew, so that it need not be copied.
func packs[T client.Object](strip func(T) T) cache.ByObject {
	return cache.ByObject{UnsafeDisableDeepCopy: new(true), Transform: func(object any) (any, error) {
		if typed, is := object.(T); is {
			return strip(typed), nil
		}
		return object, nil
	}}
}

// identity is what is read of every object's metadata. resourceVersion is for optimistic locks.
func identity(o client.Object) metav1.ObjectMeta {
	return metav1.ObjectMeta{
		Namespace: o.GetNamespace(), Name: o.GetName(), UID: o.GetUID(), ResourceVersion: o.GetResourceVersion(),
		CreationTimestamp: o.GetCreationTimestamp(), DeletionTimestamp: o.GetDeletionTimestamp(), DeletionGracePeriodSeconds: o.GetDeletionGracePeriodSeconds(),
	}
}

// only gives the entries of a map that have these keys; nil if there is none.
func only(all map[string]string, keys ...string) map[string]string {
	var some map[string]string
	for _, key := range keys {
		if value, is := all[key]; is {
			if some == nil {
				some = map[string]string{}
			}
			some[key] = value
		}
	}
	return some
}

func stripPod(pod *corev1.Pod) *corev1.Pod {
	stripped := &corev1.Pod{ObjectMeta: identity(pod)}
	stripped.Labels = only(pod.Labels, v1alpha1.LabelHeld)
	stripped.Annotations = only(pod.Annotations, v1alpha1.AnnotationHeldVolumes)
	if controller := metav1.GetControllerOfNoCopy(pod); controller != nil {
		stripped.OwnerReferences = []metav1.OwnerReference{{Controller: controller.Controller}} // there is one, whichever it is
	}
	stripped.Spec.NodeName, stripped.Spec.SchedulingGates = pod.Spec.NodeName, pod.Spec.SchedulingGates
	for _, v := range pod.Spec.Volumes {
		if v.PersistentVolumeClaim != nil || v.Ephemeral != nil || volume.Unfenced(&v) {
			stripped.Spec.Volumes = append(stripped.Spec.Volumes, stripVolume(v))
		}
	}
	stripped.Status.Phase = pod.Status.Phase
	return stripped
}

// stripVolume keeps which claim it is. One of neither kind is storage that cannot be fenced (volume.Unfenced), whichever it is.
func stripVolume(v corev1.Volume) corev1.Volume {
	stripped := corev1.Volume{Name: v.Name}
	if claim := v.PersistentVolumeClaim; claim != nil {
		stripped.PersistentVolumeClaim = &corev1.PersistentVolumeClaimVolumeSource{ClaimName: claim.ClaimName}
	}
	if v.Ephemeral != nil {
		stripped.Ephemeral = &corev1.EphemeralVolumeSource{}
	}
	return stripped
}

func stripNode(node *corev1.Node) *corev1.Node {
	stripped := &corev1.Node{ObjectMeta: identity(node)}
	stripped.Annotations = only(node.Annotations, v1alpha1.AnnotationPaused)
	stripped.Spec.Taints = node.Spec.Taints
	for _, condition := range node.Status.Conditions {
		if condition.Type == corev1.NodeReady {
			condition.LastHeartbeatTime = metav1.Time{} // changes every few minutes and is not read
			stripped.Status.Conditions = []corev1.NodeCondition{condition}
		}
	}
	info := node.Status.NodeInfo
	stripped.Status.NodeInfo = corev1.NodeSystemInfo{BootID: info.BootID, MachineID: info.MachineID, SystemUUID: info.SystemUUID}
	stripped.Status.Addresses, stripped.Status.VolumesInUse = node.Status.Addresses, node.Status.VolumesInUse
	return stripped
}

// attributes are those that volume.Parse reads of a volume of ceph-csi.
var attributes = []string{"clusterID", "pool", "radosNamespace", "imageName", "mounter", "tryOtherMounters", "staticVolume"}

func stripPersistentVolume(pv *corev1.PersistentVolume) *corev1.PersistentVolume {
	stripped := &corev1.PersistentVolume{ObjectMeta: identity(pv)}
	stripped.Annotations = only(pv.Annotations, v1alpha1.AnnotationClients, volume.AnnotationMigrated)
	stripped.Spec.AccessModes = pv.Spec.AccessModes
	stripped.Status.Phase, stripped.Spec.PersistentVolumeReclaimPolicy = pv.Status.Phase, pv.Spec.PersistentVolumeReclaimPolicy
	if ref := pv.Spec.ClaimRef; ref != nil {
		stripped.Spec.ClaimRef = &corev1.ObjectReference{Namespace: ref.Namespace, Name: ref.Name, UID: ref.UID}
	}
	switch {
	case pv.Spec.CSI != nil:
		stripped.Spec.CSI = &corev1.CSIPersistentVolumeSource{Driver: pv.Spec.CSI.Driver, VolumeHandle: pv.Spec.CSI.VolumeHandle}
		if volume.IsRBD(pv) {
			stripped.Spec.CSI.VolumeAttributes = only(pv.Spec.CSI.VolumeAttributes, attributes...)
		}
	case pv.Spec.RBD != nil:
		stripped.Spec.RBD = &corev1.RBDPersistentVolumeSource{CephMonitors: pv.Spec.RBD.CephMonitors, RBDPool: pv.Spec.RBD.RBDPool, RBDImage: pv.Spec.RBD.RBDImage}
	case pv.Spec.Local != nil: // the node's own
		stripped.Spec.Local = &corev1.LocalVolumeSource{}
	case pv.Spec.HostPath != nil:
		stripped.Spec.HostPath = &corev1.HostPathVolumeSource{}
	}
	return stripped
}

func stripPersistentVolumeClaim(claim *corev1.PersistentVolumeClaim) *corev1.PersistentVolumeClaim {
	return &corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Namespace: claim.Namespace, Name: claim.Name}, Spec: corev1.PersistentVolumeClaimSpec{VolumeName: claim.Spec.VolumeName}}
}

func stripVolumeAttachment(va *storagev1.VolumeAttachment) *storagev1.VolumeAttachment {
	stripped := &storagev1.VolumeAttachment{ObjectMeta: identity(va)}
	stripped.Finalizers = va.Finalizers
	stripped.Spec = storagev1.VolumeAttachmentSpec{
		Attacher: va.Spec.Attacher, NodeName: va.Spec.NodeName, Source: storagev1.VolumeAttachmentSource{PersistentVolumeName: va.Spec.Source.PersistentVolumeName},
	}
	stripped.Status.Attached = va.Status.Attached
	return stripped
}
