package webhook

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/rbd-rescue/rbd-rescue/api/v1alpha1"
)

const rbdDriver = "rook-ceph.rbd.csi.ceph.com"

func claim(namespace, name string) types.NamespacedName {
	return types.NamespacedName{Namespace: namespace, Name: name}
}

func heldVolume(claim, volume, node string) v1alpha1.HeldVolume {
	return v1alpha1.HeldVolume{Claim: claim, Volume: volume, Node: node}
}

func node(name string, ready corev1.ConditionStatus) *corev1.Node {
	return &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Status: corev1.NodeStatus{Conditions: []corev1.NodeCondition{
			{Type: corev1.NodeMemoryPressure, Status: corev1.ConditionUnknown},
			{Type: corev1.NodeReady, Status: ready, Reason: "NodeStatusUnknown"},
		}},
	}
}

func failedNode(name string) *corev1.Node { return node(name, corev1.ConditionUnknown) }
func readyNode(name string) *corev1.Node  { return node(name, corev1.ConditionTrue) }

func attachment(pv, node string) *storagev1.VolumeAttachment {
	return &storagev1.VolumeAttachment{
		ObjectMeta: metav1.ObjectMeta{Name: "csi-" + pv + "-" + node},
		Spec: storagev1.VolumeAttachmentSpec{
			Attacher: rbdDriver, NodeName: node, Source: storagev1.VolumeAttachmentSource{PersistentVolumeName: &pv},
		},
		Status: storagev1.VolumeAttachmentStatus{Attached: true},
	}
}

func persistentVolume(name, driver, claimNamespace, claimName string) *corev1.PersistentVolume {
	return &corev1.PersistentVolume{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: corev1.PersistentVolumeSpec{
			ClaimRef: &corev1.ObjectReference{Namespace: claimNamespace, Name: claimName},
			PersistentVolumeSource: corev1.PersistentVolumeSource{
				CSI: &corev1.CSIPersistentVolumeSource{Driver: driver, VolumeHandle: "handle-" + name},
			},
		},
		Status: corev1.PersistentVolumeStatus{Phase: corev1.VolumeBound},
	}
}

func namespace(name, mode string) *corev1.Namespace {
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}
	if mode != "" {
		ns.Annotations = map[string]string{v1alpha1.AnnotationMode: mode}
	}
	return ns
}

func sharedVolume(claim, volume, node string) v1alpha1.HeldVolume {
	return v1alpha1.HeldVolume{Claim: claim, Volume: volume, Node: node, Shared: true}
}

func readWriteMany(pv *corev1.PersistentVolume) *corev1.PersistentVolume {
	pv.Spec.AccessModes = []corev1.PersistentVolumeAccessMode{corev1.ReadWriteMany}
	return pv
}

func recordedOn(pv *corev1.PersistentVolume, node string) *corev1.PersistentVolume {
	pv.Annotations = map[string]string{v1alpha1.AnnotationClients: `{"` + node + `":{}}`}
	return pv
}

func using(node *corev1.Node, pv string) *corev1.Node {
	node.Status.VolumesInUse = []corev1.UniqueVolumeName{corev1.UniqueVolumeName("kubernetes.io/csi/" + rbdDriver + "^handle-" + pv)}
	return node
}

func driver(attachRequired bool) *storagev1.CSIDriver {
	return &storagev1.CSIDriver{ObjectMeta: metav1.ObjectMeta{Name: rbdDriver}, Spec: storagev1.CSIDriverSpec{AttachRequired: &attachRequired}}
}

func failingOver(ns *corev1.Namespace, after string) *corev1.Namespace {
	ns.Annotations[v1alpha1.AnnotationFailoverAfter] = after
	return ns
}

// byDefault is a toleration as Kubernetes' admission plugin DefaultTolerationSeconds writes it.
func byDefault(taint string, seconds int) string {
	return fmt.Sprintf(`{"key":"node.kubernetes.io/%s","operator":"Exists","effect":"NoExecute","tolerationSeconds":%d}`, taint, seconds)
}
