package history

import (
	"fmt"
	"slices"
	"strings"
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
	w.makePods()
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
		if ready.Status == corev1.ConditionTrue {
			continue
		}
		for _, pod := range list[*corev1.Pod](w.api.objects) {
			if pod.Spec.NodeName == node.Name && w.now().Sub(ready.LastTransitionTime.Time) >= workloadOf(pod).toleration() {
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
			w.api.objects.remove(keyOf(pod))
			w.tell("the node of pod %s is gone, and so is the pod", pod.Name)
		}
	}
}

// makePods makes the pods that are missing: a StatefulSet's when the old one is gone, a replica's as soon as it is Terminating.
func (w *world) makePods() {
	w.webhook.catchUp()
	for _, l := range w.workloads {
		pods := w.podsOf(l)
		if l.shared {
			pods = slices.DeleteFunc(pods, volume.Terminating)
		}
		if l.bare {
			continue
		}
		for range l.pods() - len(pods) {
			w.createPod(l)
		}
	}
}

func (w *world) createPod(l workload) {
	pod := w.podOf(l)
	w.webhook.admit(pod)
	w.api.put(pod)
}

// schedule binds pods to nodes that are Ready and not tainted. One that tolerates the taint of a fence goes where there is one.
func (w *world) schedule() {
	var fit, fenced []string
	for _, node := range list[*corev1.Node](w.api.objects) {
		switch {
		case !volume.Ready(node):
		case len(node.Spec.Taints) == 0:
			fit = append(fit, node.Name)
		default:
			fenced = append(fenced, node.Name)
		}
	}
	for _, pod := range list[*corev1.Pod](w.api.objects) {
		if pod.Spec.NodeName != "" || pod.DeletionTimestamp != nil || len(pod.Spec.SchedulingGates) > 0 {
			continue
		}
		nodes := fit
		if workloadOf(pod).comesBack && len(fenced) > 0 {
			nodes = fenced
		}
		if len(nodes) == 0 {
			continue
		}
		on := rapid.SampledFrom(nodes).Draw(w.T, "node for "+pod.Name)
		change(w.api, pod, func(p *corev1.Pod) { p.Spec.NodeName = on })
		w.tell("pod %s goes to %s", pod.Name, on)
	}
}

// attachDetach attaches what pods want, to one node at a time unless it is ReadWriteMany, and detaches what no pod of a node wants and its kubelet does
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
			w.api.objects.remove(keyOf(va))
			w.tell("%s is detached from %s", pv, va.Spec.NodeName)
			continue
		}
		attached[place(pv, va.Spec.NodeName)] = true
	}
	for _, pod := range list[*corev1.Pod](w.api.objects) {
		for _, image := range imagesOf(pod) {
			pv := volumeOf(image)
			at := place(pv, pod.Spec.NodeName)
			if pod.Spec.NodeName == "" || pod.DeletionTimestamp != nil || attached[at] {
				continue
			}
			attached[at] = true
			va := &storagev1.VolumeAttachment{
				ObjectMeta: metav1.ObjectMeta{Name: pv + "-" + pod.Spec.NodeName, UID: types.UID(fmt.Sprintf("va-%d", w.api.version))},
				Spec: storagev1.VolumeAttachmentSpec{
					Attacher: "rbd.csi.ceph.com", NodeName: pod.Spec.NodeName, Source: storagev1.VolumeAttachmentSource{PersistentVolumeName: &pv},
				},
				Status: storagev1.VolumeAttachmentStatus{Attached: true},
			}
			w.api.put(va)
			w.snapshots.attached[va.UID] = w.now()
			w.tell("%s is attached to %s", pv, pod.Spec.NodeName)
		}
	}
}

// place is where a volume is attached: anywhere, or, if it may be on several nodes, on this one.
func place(pv, node string) string {
	if isShared(strings.TrimPrefix(pv, "pv-")) {
		return pv + " on " + node
	}
	return pv
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
