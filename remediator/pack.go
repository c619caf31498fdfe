package remediator

import (
	"reflect"
	"time"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rbd-rescue/rbd-rescue/remediator/packed"
)

// forms are the kinds of which a large cluster has so many objects that they are kept packed. What stripPod and the like leave of an
// object is what these go over: a field that is added there must be added here.
var forms = map[reflect.Type]packed.Form{
	reflect.TypeFor[*corev1.Pod]():                   packed.FormOf(packPod, keepsPod),
	reflect.TypeFor[*corev1.Node]():                  packed.FormOf(packNode, nil),
	reflect.TypeFor[*corev1.PersistentVolume]():      packed.FormOf(packPersistentVolume, nil),
	reflect.TypeFor[*corev1.PersistentVolumeClaim](): packed.FormOf(packPersistentVolumeClaim, nil),
	reflect.TypeFor[*storagev1.VolumeAttachment]():   packed.FormOf(packVolumeAttachment, nil),
}

func newInformer(from toolscache.ListerWatcher, object runtime.Object, resync time.Duration, indexers toolscache.Indexers) toolscache.SharedIndexInformer {
	if form, is := forms[reflect.TypeOf(object)]; is {
		return packed.NewInformer(form, from, object, resync, indexers)
	}
	return toolscache.NewSharedIndexInformer(from, object, resync, indexers)
}

// Keeps tells whether the caches have an object at all, once it is stripped.
func Keeps(object client.Object) bool {
	form, packs := forms[reflect.TypeOf(object)]
	return !packs || form.Keeps(object)
}

// keepsPod leaves out the pods that no decision is about: those without a claim, and without flag and gate.
func keepsPod(pod *corev1.Pod) bool {
	for i := range pod.Spec.Volumes {
		if v := &pod.Spec.Volumes[i]; v.PersistentVolumeClaim != nil || v.Ephemeral != nil {
			return true
		}
	}
	return len(pod.Labels)+len(pod.Annotations) > 0 || len(pod.Spec.SchedulingGates) > 0
}

// packIdentity goes over what identity keeps, beside namespace and name.
func packIdentity(c *packed.Codec, m *metav1.ObjectMeta) {
	packed.Text(c, &m.UID)
	packed.Text(c, &m.ResourceVersion)
	packed.Time(c, &m.CreationTimestamp)
	packed.Optional(c, &m.DeletionTimestamp, packed.Time)
	packed.Optional(c, &m.DeletionGracePeriodSeconds, packed.Number[int64])
}

func packPod(c *packed.Codec, pod *corev1.Pod) {
	packIdentity(c, &pod.ObjectMeta)
	packed.Map(c, &pod.Labels, packWord)
	packed.Map(c, &pod.Annotations, packText)
	packed.List(c, &pod.OwnerReferences, func(c *packed.Codec, owner *metav1.OwnerReference) {
		packed.Optional(c, &owner.Controller, packed.Bool)
	})
	packed.Word(c, &pod.Spec.NodeName)
	packed.List(c, &pod.Spec.SchedulingGates, func(c *packed.Codec, gate *corev1.PodSchedulingGate) { packed.Word(c, &gate.Name) })
	packed.List(c, &pod.Spec.Volumes, packPodVolume)
	packed.Word(c, &pod.Status.Phase)
}

// packPodVolume leaves of storage that cannot be fenced that it is some: a source of no kind counts as such, too (volume.Unfenced).
func packPodVolume(c *packed.Codec, v *corev1.Volume) {
	packed.Word(c, &v.Name)
	packed.Optional(c, &v.PersistentVolumeClaim, func(c *packed.Codec, claim *corev1.PersistentVolumeClaimVolumeSource) {
		packed.Text(c, &claim.ClaimName)
	})
	packed.Optional(c, &v.Ephemeral, func(*packed.Codec, *corev1.EphemeralVolumeSource) {})
}

func packNode(c *packed.Codec, node *corev1.Node) {
	packIdentity(c, &node.ObjectMeta)
	packed.Map(c, &node.Annotations, packWord)
	packed.List(c, &node.Spec.Taints, func(c *packed.Codec, taint *corev1.Taint) {
		packed.Word(c, &taint.Key)
		packed.Word(c, &taint.Value)
		packed.Word(c, &taint.Effect)
		packed.Optional(c, &taint.TimeAdded, packed.Time)
	})
	packed.List(c, &node.Status.Conditions, func(c *packed.Codec, condition *corev1.NodeCondition) {
		packed.Word(c, &condition.Type)
		packed.Word(c, &condition.Status)
		packed.Time(c, &condition.LastTransitionTime)
		packed.Word(c, &condition.Reason)
		packed.Word(c, &condition.Message)
	})
	info := &node.Status.NodeInfo
	packed.Text(c, &info.BootID)
	packed.Text(c, &info.MachineID)
	packed.Text(c, &info.SystemUUID)
	packed.List(c, &node.Status.Addresses, func(c *packed.Codec, address *corev1.NodeAddress) {
		packed.Word(c, &address.Type)
		packed.Text(c, &address.Address)
	})
	packed.List(c, &node.Status.VolumesInUse, packed.Text[corev1.UniqueVolumeName])
}

func packPersistentVolume(c *packed.Codec, pv *corev1.PersistentVolume) {
	packIdentity(c, &pv.ObjectMeta)
	packed.Map(c, &pv.Annotations, packText)
	packed.List(c, &pv.Spec.AccessModes, packed.Word[corev1.PersistentVolumeAccessMode])
	packed.Word(c, &pv.Status.Phase)
	packed.Word(c, &pv.Spec.PersistentVolumeReclaimPolicy)
	packed.Optional(c, &pv.Spec.ClaimRef, func(c *packed.Codec, ref *corev1.ObjectReference) {
		packed.Word(c, &ref.Namespace)
		packed.Text(c, &ref.Name)
		packed.Text(c, &ref.UID)
	})
	packed.Optional(c, &pv.Spec.CSI, func(c *packed.Codec, csi *corev1.CSIPersistentVolumeSource) {
		packed.Word(c, &csi.Driver)
		packed.Text(c, &csi.VolumeHandle)
		packed.Map(c, &csi.VolumeAttributes, packAttribute)
	})
	packed.Optional(c, &pv.Spec.RBD, func(c *packed.Codec, rbd *corev1.RBDPersistentVolumeSource) {
		packed.List(c, &rbd.CephMonitors, packed.Word[string])
		packed.Word(c, &rbd.RBDPool)
		packed.Text(c, &rbd.RBDImage)
	})
	packed.Optional(c, &pv.Spec.Local, func(*packed.Codec, *corev1.LocalVolumeSource) {})
	packed.Optional(c, &pv.Spec.HostPath, func(*packed.Codec, *corev1.HostPathVolumeSource) {})
}

func packPersistentVolumeClaim(c *packed.Codec, claim *corev1.PersistentVolumeClaim) {
	packed.Text(c, &claim.Spec.VolumeName)
}

func packVolumeAttachment(c *packed.Codec, va *storagev1.VolumeAttachment) {
	packIdentity(c, &va.ObjectMeta)
	packed.List(c, &va.Finalizers, packed.Word[string])
	packed.Word(c, &va.Spec.Attacher)
	packed.Word(c, &va.Spec.NodeName)
	packed.Optional(c, &va.Spec.Source.PersistentVolumeName, packed.Text[string])
	packed.Bool(c, &va.Status.Attached)
}

func packWord(c *packed.Codec, _ string, value *string) { packed.Word(c, value) }
func packText(c *packed.Codec, _ string, value *string) { packed.Text(c, value) }

// packAttribute: a volume shares all of its attributes with others, but the image.
func packAttribute(c *packed.Codec, key string, value *string) {
	if key == "imageName" {
		packed.Text(c, value)
	} else {
		packed.Word(c, value)
	}
}
