package history

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"pgregory.net/rapid"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rbd-rescue/rbd-rescue/ceph"
)

// provisioner is a CSI provisioner: a pod without claims that opens images itself, for a snapshot or a resize. Pods reach Ceph from their
// own addresses, whatever the nodes do.
const provisioner = "provisioner"

// podIP is the address that a pod has while it runs; none is given twice.
func podIP(pod *corev1.Pod) netip.Addr {
	var made uint16
	if _, err := fmt.Sscanf(string(pod.UID), "pod-%d", &made); err != nil {
		panic(err)
	}
	return netip.AddrFrom4([4]byte{10, 128, byte(made >> 8), byte(made)})
}

// selectablePodIP is the field of pods that the API server selects by.
func selectablePodIP(o client.Object) []string { return []string{o.(*corev1.Pod).Status.PodIP} }

// provisionerWorks: it takes a snapshot of an image, or resizes it, and is slow.
func (w *world) provisionerWorks(t *rapid.T) {
	w.provisioned = rapid.SampledFrom(slices.Sorted(maps.Keys(pools))).Draw(t, "image")
	for _, p := range w.provisioners() {
		w.tell("a provisioner on %s has %s open as %s", p.pod.Spec.NodeName, w.provisioned, p.client)
		w.happened["provisioner worked"]++
	}
	w.tellCephWhoWatches()
}

type provisionerPod struct {
	pod    *corev1.Pod
	client string
}

// provisioners are the one that runs, if it reaches Ceph. It has one client for all images.
func (w *world) provisioners() []provisionerPod {
	var running []provisionerPod
	for _, pod := range list[*corev1.Pod](w.api.objects) {
		if pod.Labels["app"] != provisioner || pod.Status.PodIP == "" {
			continue
		}
		p := provisionerPod{pod, ceph.Address{IP: podIP(pod), Nonce: 77}.String()}
		if m := w.machine(pod.Spec.NodeName); m.running && m.cephLink && !cutOff(w.ceph.Blocklist(), p.client) {
			running = append(running, p)
		}
	}
	return running
}

// checkNoProvisioner is S2 for an entry that is about to be written: a provisioner's client goes with the node that its pod is on alone.
func (w *world) checkNoProvisioner(address string, fenced func(node string) bool) {
	for _, p := range w.provisioners() {
		if (p.client == address || host(p.client) == address) && !fenced(p.pod.Spec.NodeName) {
			w.broken("S2", "%s goes on the blocklist, which is that of a provisioner on %s", address, p.pod.Spec.NodeName)
		}
	}
}
