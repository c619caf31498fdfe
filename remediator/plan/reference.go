package plan

import (
	corev1 "k8s.io/api/core/v1"

	"github.com/rbd-rescue/rbd-rescue/api/v1alpha1"
	"github.com/rbd-rescue/rbd-rescue/volume"
)

// nodeReference names the node, be there such an object or not.
func (s Snapshot) nodeReference() corev1.ObjectReference {
	return corev1.ObjectReference{APIVersion: "v1", Kind: "Node", Name: s.NodeName, UID: s.nodeOrEmpty().UID}
}

// PodReference names a pod for an event.
func PodReference(pod *corev1.Pod) corev1.ObjectReference {
	return corev1.ObjectReference{APIVersion: "v1", Kind: "Pod", Namespace: pod.Namespace, Name: pod.Name, UID: pod.UID}
}

func claimReference(v volume.Volume) corev1.ObjectReference {
	return corev1.ObjectReference{
		APIVersion: "v1", Kind: "PersistentVolumeClaim", Namespace: v.Claim.Namespace, Name: v.Claim.Name, UID: v.ClaimUID,
	}
}

func fenceReference(nf *v1alpha1.NodeFence) corev1.ObjectReference {
	return corev1.ObjectReference{
		APIVersion: v1alpha1.GroupVersion.String(), Kind: "NodeFence", Name: nf.Name, UID: nf.UID,
	}
}
