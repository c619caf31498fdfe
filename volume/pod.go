package volume

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
)

// Claims are the PersistentVolumeClaims that a pod uses, in the order of its volumes. namespace is given, since a pod in
// admission may not have its own yet; a generic ephemeral volume's claim is named after the pod, so a pod without a name
// yet (generateName) has none.
func Claims(pod *corev1.Pod, namespace string) []types.NamespacedName {
	var claims []types.NamespacedName
	for i := range pod.Spec.Volumes {
		if name := claimName(pod, &pod.Spec.Volumes[i]); name != "" {
			claims = append(claims, types.NamespacedName{Namespace: namespace, Name: name})
		}
	}
	return claims
}

func claimName(pod *corev1.Pod, v *corev1.Volume) string {
	switch {
	case v.PersistentVolumeClaim != nil:
		return v.PersistentVolumeClaim.ClaimName
	case v.Ephemeral != nil && pod.Name != "":
		return pod.Name + "-" + v.Name
	default:
		return ""
	}
}

// Finished tells whether the pod's containers are over for good: such a pod no longer uses its volumes.
func Finished(pod *corev1.Pod) bool {
	return pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed
}

// Terminating tells whether Kubernetes, or a person, has decided that the pod must go.
func Terminating(pod *corev1.Pod) bool { return pod.DeletionTimestamp != nil }

// UnfencedStorage names the first of the pod's inline volumes that is Unfenced, or is empty.
func UnfencedStorage(pod *corev1.Pod) string {
	for i := range pod.Spec.Volumes {
		if v := &pod.Spec.Volumes[i]; Unfenced(v) {
			return v.Name
		}
	}
	return ""
}

// Unfenced tells whether an inline volume of a pod is storage on a network which rbd-rescue cannot fence (S6). Claims are judged
// by their PersistentVolume; storage that is the node's own, or is made from the API, cannot be written to by two nodes.
func Unfenced(v *corev1.Volume) bool {
	switch {
	case v.PersistentVolumeClaim != nil, v.Ephemeral != nil:
	case v.EmptyDir != nil, v.HostPath != nil, v.Image != nil:
	case v.ConfigMap != nil, v.Secret != nil, v.DownwardAPI != nil, v.Projected != nil:
	default:
		return true
	}
	return false
}
