package history

import (
	"time"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"pgregory.net/rapid"

	"github.com/rbd-rescue/rbd-rescue/volume"
)

// kubernetes lets each of kube-controller-manager's controllers and the scheduler act once (facts/kubernetes.md §1).
func (w *world) kubernetes() {
	w.nodeLifecycle()
	w.podGC()
	w.statefulSets()
	w.schedule()
	w.attachDetach()
}

// nodeLifecycle calls silent nodes Unknown, and asks their pods to go after the toleration.
func (w *world) nodeLifecycle() {
	for _, node := range list[*corev1.Node](w.api.objects) {
		m := w.machine(node.Name)
		if len(node.Status.Conditions) == 0 {
			continue
		}
		ready := node.Status.Conditions[0]
		if w.now().Sub(ready.LastHeartbeatTime.Time) > grace && ready.Status != corev1.ConditionUnknown {
			change(w.api, node, func(n *corev1.Node) { m.setReady(n, corev1.ConditionUnknown) })
			w.tell("%s is NotReady", node.Name)
			continue
		}
		if ready.Status == corev1.ConditionTrue || w.now().Sub(ready.LastTransitionTime.Time) < toleration {
			continue
		}
		for _, pod := range list[*corev1.Pod](w.api.objects) {
			if pod.Spec.NodeName == node.Name {
				w.askToGo(pod)
			}
		}
	}
}

func (w *world) askToGo(pod *corev1.Pod) {
	if pod.DeletionTimestamp != nil {
		return
	}
	change(w.api, pod, func(p *corev1.Pod) {
		p.DeletionTimestamp = new(metav1.NewTime(w.now().Add(podGrace)))
		p.DeletionGracePeriodSeconds = new(int64(podGrace / time.Second))
	})
	w.tell("pod %s on %s is asked to go", pod.Name, pod.Spec.NodeName)
}

// podGC deletes the pods of nodes that are gone.
func (w *world) podGC() {
	for _, pod := range list[*corev1.Pod](w.api.objects) {
		if pod.Spec.NodeName == "" {
			continue
		}
		if _, there := get[*corev1.Node](w.api.objects, "", pod.Spec.NodeName); !there {
			delete(w.api.objects, keyOf(pod))
			w.tell("the node of pod %s is gone, and so is the pod", pod.Name)
		}
	}
}

// statefulSets make the pods that are missing.
func (w *world) statefulSets() {
	for _, l := range w.workloads {
		if _, there := get[*corev1.Pod](w.api.objects, l.namespace, l.name+"-0"); !there && !l.bare {
			w.api.put(w.podOf(l))
		}
	}
}

// schedule binds pods to nodes that are Ready and not tainted.
func (w *world) schedule() {
	var fit []string
	for _, node := range list[*corev1.Node](w.api.objects) {
		if volume.Ready(node) && len(node.Spec.Taints) == 0 {
			fit = append(fit, node.Name)
		}
	}
	if len(fit) == 0 {
		return
	}
	for _, pod := range list[*corev1.Pod](w.api.objects) {
		if pod.Spec.NodeName == "" && pod.DeletionTimestamp == nil {
			on := rapid.SampledFrom(fit).Draw(w.T, "node for "+pod.Name)
			change(w.api, pod, func(p *corev1.Pod) { p.Spec.NodeName = on })
			w.tell("pod %s goes to %s", pod.Name, on)
		}
	}
}

// attachDetach attaches what pods want, to one node at a time, and detaches what no pod of a node wants and its kubelet does
// not report in use. It never forces (the six minutes are switched off, as rbd-rescue's users are told).
func (w *world) attachDetach() {
	wanted := map[string]map[string]bool{}
	for _, pod := range list[*corev1.Pod](w.api.objects) {
		for _, image := range imagesOf(pod) {
			pv := volumeOf(image)
			if wanted[pv] == nil {
				wanted[pv] = map[string]bool{}
			}
			wanted[pv][pod.Spec.NodeName] = true
		}
	}
	attached := map[string]bool{}
	for _, va := range list[*storagev1.VolumeAttachment](w.api.objects) {
		pv, _ := volume.Attached(va)
		node, there := get[*corev1.Node](w.api.objects, "", va.Spec.NodeName)
		if !wanted[pv][va.Spec.NodeName] && there && !usedBy(node, pv) {
			delete(w.api.objects, keyOf(va))
			w.tell("%s is detached from %s", pv, va.Spec.NodeName)
			continue
		}
		attached[pv] = true
	}
	for _, pod := range list[*corev1.Pod](w.api.objects) {
		for _, image := range imagesOf(pod) {
			pv := volumeOf(image)
			if pod.Spec.NodeName == "" || pod.DeletionTimestamp != nil || attached[pv] {
				continue
			}
			attached[pv] = true
			w.api.put(&storagev1.VolumeAttachment{
				ObjectMeta: metav1.ObjectMeta{Name: pv + "-" + pod.Spec.NodeName, UID: types.UID("va-" + pv + w.now().String())},
				Spec: storagev1.VolumeAttachmentSpec{
					Attacher: "rbd.csi.ceph.com", NodeName: pod.Spec.NodeName, Source: storagev1.VolumeAttachmentSource{PersistentVolumeName: &pv},
				},
				Status: storagev1.VolumeAttachmentStatus{Attached: true},
			})
			w.tell("%s is attached to %s", pv, pod.Spec.NodeName)
		}
	}
}

func usedBy(node *corev1.Node, pv string) bool {
	for _, name := range node.Status.VolumesInUse {
		if "pv-"+string(name)[len(uniqueName("")):] == pv {
			return true
		}
	}
	return false
}

func (w *world) attachmentOf(pv, node string) *storagev1.VolumeAttachment {
	for _, va := range list[*storagev1.VolumeAttachment](w.api.objects) {
		if name, _ := volume.Attached(va); name == pv && va.Spec.NodeName == node {
			return va
		}
	}
	return nil
}
