package history

import (
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"

	"github.com/rbd-rescue/rbd-rescue/api/v1alpha1"
	"github.com/rbd-rescue/rbd-rescue/remediator/plan"
	"github.com/rbd-rescue/rbd-rescue/volume"
)

// checkPodPatched looks at what rbd-rescue changed of a pod: flags, and its gate.
func (w *world) checkPodPatched(before *corev1.Pod) {
	after, _ := get[*corev1.Pod](w.api.objects, before.Namespace, before.Name)
	switch {
	case plan.Gated(before) && !plan.Gated(after):
		w.happened["gate opened"]++
		w.tell("rbd-rescue opens the gate of %s", before.Name)
		w.checkGateOpened(before)
	case !plan.Gated(before) && plan.Gated(after):
		w.broken("rights", "gated pod %s", before.Name)
	}
}

// checkGateOpened is S1 for a gate: no node that is not Ready, or gone, can write any more to the ReadWriteMany volumes of the
// pod. Where the namespace is not in mode rescue nobody would be fenced, and a person may say that a boot is over.
func (w *world) checkGateOpened(pod *corev1.Pod) {
	if !w.inModeRescue(pod.Namespace) {
		return
	}
	for _, image := range imagesOf(pod) {
		for _, m := range w.machines {
			node, there := get[*corev1.Node](w.api.objects, "", m.name)
			mp := m.mapped[image]
			if !isShared(image) || mp == nil || mp.excused != "" || there && volume.Ready(node) || w.liftedByAPerson(m.bootID()) {
				continue
			}
			w.checkFenced(m.name, image, fmt.Sprintf("opened the gate of pod %s", pod.Name))
		}
	}
}

// inModeRescue tells whether the API and rbd-rescue's cache agree on it.
func (w *world) inModeRescue(namespace string) bool {
	for _, state := range []objects{w.api.objects, w.process.cache} {
		ns, there := get[*corev1.Namespace](state, "", namespace)
		if !there {
			return false
		}
		if policy, _ := v1alpha1.ParsePolicy(ns.Annotations); policy.Mode != v1alpha1.ModeRescue {
			return false
		}
	}
	return true
}

func (w *world) liftedByAPerson(boot string) bool {
	return slices.ContainsFunc(w.fences(), func(nf *v1alpha1.NodeFence) bool { return nf.Annotations[v1alpha1.AnnotationLift] == boot })
}

// checkGatesLeft is S9: rbd-rescue has just looked, with caches that were up to date, so that each gate that is left has a
// reason: a node that is not Ready, or gone, has the volume, or an incident of such a node lists it.
func (w *world) checkGatesLeft() {
	for _, pod := range list[*corev1.Pod](w.api.objects) {
		if plan.Gated(pod) && !slices.ContainsFunc(imagesOf(pod), w.mayBeHeld) {
			w.broken("S9", "pod %s is gated, and every node that has its volume is Ready", pod.Name)
		}
		if plan.Gated(pod) && !w.inModeRescue(pod.Namespace) {
			w.broken("S9", "pod %s is gated, and its namespace is not in mode rescue", pod.Name)
		}
	}
}

// mayBeHeld tells whether the API names a node that has an image and is not Ready, or gone.
func (w *world) mayBeHeld(image string) bool {
	amiss := func(name string) bool {
		node, there := get[*corev1.Node](w.api.objects, "", name)
		return name != "" && (!there || !volume.Ready(node))
	}
	return slices.ContainsFunc(list[*storagev1.VolumeAttachment](w.api.objects), func(va *storagev1.VolumeAttachment) bool {
		pv, _ := volume.Attached(va)
		return pv == volumeOf(image) && amiss(va.Spec.NodeName)
	}) || slices.ContainsFunc(list[*corev1.Node](w.api.objects), func(node *corev1.Node) bool {
		return usedBy(node, volumeOf(image)) && amiss(node.Name)
	}) || slices.ContainsFunc(list[*corev1.Pod](w.api.objects), func(pod *corev1.Pod) bool {
		return slices.Contains(imagesOf(pod), image) && amiss(pod.Spec.NodeName)
	}) || slices.ContainsFunc(activeFences(w.fences()), func(nf *v1alpha1.NodeFence) bool {
		return amiss(nf.Spec.NodeName) && slices.ContainsFunc(nf.Status.Volumes, func(v v1alpha1.FencedVolume) bool { return v.PersistentVolume == volumeOf(image) })
	})
}

// flagsLeft is a pod that is gated or flagged although nothing has failed; empty for none.
func (w *world) flagsLeft() string {
	for _, pod := range list[*corev1.Pod](w.api.objects) {
		if plan.Gated(pod) {
			return fmt.Sprintf("pod %s is gated", pod.Name)
		}
		if pod.Labels[v1alpha1.LabelHeld] != "" || pod.Annotations[v1alpha1.AnnotationHeldVolumes] != "" {
			return fmt.Sprintf("pod %s is flagged", pod.Name)
		}
	}
	return ""
}
