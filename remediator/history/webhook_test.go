package history

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"

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

// held are the claims whose volumes nodes hold that have failed, or are gone; of a node that is not Ready those which several
// nodes may have.
func (h *webhook) held() volume.HeldClaims {
	held := volume.HeldClaims{}
	for _, name := range h.nodes() {
		node, there := get[*corev1.Node](h.cache, "", name)
		if there && volume.Ready(node) {
			continue
		}
		failed := !there
		if there {
			_, failed = volume.Failed(node)
		}
		for _, pv := range list[*corev1.PersistentVolume](h.cache) {
			v, _ := volume.Parse(pv)
			if !v.ClaimGone && h.has(name, node, v) && (failed || v.Shared) {
				held[v.Claim] = append(held[v.Claim], v1alpha1.HeldVolume{Claim: v.Claim.String(), Volume: v.Name, Node: name, Shared: v.Shared})
			}
		}
	}
	return held
}

// nodes are those that there are, and those that attachments name.
func (h *webhook) nodes() []string {
	var names []string
	for _, node := range list[*corev1.Node](h.cache) {
		names = append(names, node.Name)
	}
	for _, va := range list[*storagev1.VolumeAttachment](h.cache) {
		names = append(names, va.Spec.NodeName)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

func (h *webhook) has(name string, node *corev1.Node, v volume.Volume) bool {
	if node != nil && slices.Contains(node.Status.VolumesInUse, corev1.UniqueVolumeName(v.UniqueName)) {
		return true
	}
	return slices.ContainsFunc(list[*storagev1.VolumeAttachment](h.cache), func(va *storagev1.VolumeAttachment) bool {
		pv, attached := volume.Attached(va)
		return attached && pv == v.Name && va.Spec.NodeName == name
	})
}
