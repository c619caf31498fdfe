package history

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/rbd-rescue/rbd-rescue/api/v1alpha1"
	"github.com/rbd-rescue/rbd-rescue/volume"
)

// webhook flags and gates new pods as rbd-rescue's webhook does (webhook/flag.go, webhook/index.go; its decision is not
// exported), by what its cache knows.
type webhook struct {
	world *world
	cache objects
	// down: pods are created without it. stale: its cache stands still.
	down, stale bool
}

func (h *webhook) catchUp() {
	if !h.stale {
		h.cache.catchUp(h.world.api.objects, "Node", "Namespace", "PersistentVolume", "VolumeAttachment")
	}
}

func (h *webhook) admit(pod *corev1.Pod) {
	if h.down {
		return
	}
	namespace, _ := get[*corev1.Namespace](h.cache, "", pod.Namespace)
	if namespace == nil {
		return
	}
	policy, err := v1alpha1.ParsePolicy(namespace.Annotations)
	held := h.held().Of(volume.Claims(pod, pod.Namespace))
	if err != nil || !policy.OptedIn() || len(held) == 0 {
		return
	}
	text, err := volume.FlagAnnotation(held)
	if err != nil {
		h.world.Fatal(err)
	}
	pod.Labels[v1alpha1.LabelHeld] = "true"
	pod.Annotations = map[string]string{v1alpha1.AnnotationHeldVolumes: text}
	if policy.Mode == v1alpha1.ModeRescue && slices.ContainsFunc(held, func(v v1alpha1.HeldVolume) bool { return v.Shared }) {
		pod.Spec.SchedulingGates = []corev1.PodSchedulingGate{{Name: v1alpha1.GateHeld}}
		h.world.happened["pod gated"]++
		h.world.tell("the webhook gates pod %s", pod.Name)
	}
}

// held are the claims whose volumes are attached to failed nodes.
func (h *webhook) held() volume.HeldClaims {
	held := volume.HeldClaims{}
	for _, node := range list[*corev1.Node](h.cache) {
		if _, failed := volume.Failed(node); !failed {
			continue
		}
		var attachments []storagev1.VolumeAttachment
		for _, va := range list[*storagev1.VolumeAttachment](h.cache) {
			if va.Spec.NodeName == node.Name {
				attachments = append(attachments, *va)
			}
		}
		for _, v := range volume.Held(attachments, func(name string) *corev1.PersistentVolume {
			pv, _ := get[*corev1.PersistentVolume](h.cache, "", name)
			return pv
		}) {
			claim := types.NamespacedName{Namespace: v.Claim.Namespace, Name: v.Claim.Name}
			held[claim] = append(held[claim], v1alpha1.HeldVolume{Claim: claim.String(), Volume: v.Name, Node: node.Name, Shared: v.Shared})
		}
	}
	return held
}
