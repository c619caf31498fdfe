package rescuer

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rbd-rescue/rbd-rescue/api/v1alpha1"
)

// storageNetwork: node-a reports another address than that of its client.
func (w *world) storageNetwork() {
	w.Helper()
	node := &corev1.Node{}
	if err := w.client.Get(w.Context(), client.ObjectKey{Name: "node-a"}, node); err != nil {
		w.Fatal(err)
	}
	node.Status.Addresses[0].Address = "172.16.0.1"
	if err := w.client.Status().Update(w.Context(), node); err != nil {
		w.Fatal(err)
	}
}

func TestRescueOfARecordedClientOnAStorageNetwork(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.ceph.Watch(image) // nobody any more
	w.storageNetwork()
	if err := w.settle(w.controller()); err != nil {
		t.Fatal(err)
	}
	w.checkReleased()
}

// podOnAnotherNode is a CSI provisioner that reaches Ceph from an address of its own.
func podOnAnotherNode(ip string) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "rook-ceph", Name: "provisioner"},
		Spec:       corev1.PodSpec{NodeName: "node-b"}, Status: corev1.PodStatus{Phase: corev1.PodRunning, PodIP: ip},
	}
}

func TestRescueWaitsUntilAPodOfAnotherNodeHasClosedTheImage(t *testing.T) {
	t.Parallel()
	w := newWorld(t, podOnAnotherNode("10.128.0.9"))
	w.ceph.Watch(image, deadClient, "10.128.0.9:0/77")
	c := w.controller()
	if err := w.settle(c); err != nil {
		t.Fatal(err)
	}
	if got := w.volume("pv"); len(w.ceph.Blocklist()) > 0 || got.Reason != v1alpha1.ReasonForeignClient {
		t.Errorf("S2: %v are cut off, and pv is %s %s: %s", w.ceph.Blocklist(), got.Phase, got.Reason, got.Message)
	}
	w.ceph.Watch(image)
	if err := w.settle(c); err != nil {
		t.Fatal(err)
	}
	w.checkReleased()
}

// S2: an earlier version has recorded it for the node.
func TestRescueFencesNoRecordedClientOfAPodOnAnotherNode(t *testing.T) {
	t.Parallel()
	w := newWorld(t, podOnAnotherNode("10.0.0.1"))
	w.ceph.Watch(image)
	w.storageNetwork()
	if err := w.settle(w.controller()); err != nil {
		t.Fatal(err)
	}
	if listed := w.ceph.Blocklist(); len(listed) > 0 {
		t.Errorf("S2: %v are cut off", listed)
	}
	if got := w.volume("pv"); got.Phase != v1alpha1.VolumeRefused || got.Reason != v1alpha1.ReasonHealthyClient {
		t.Errorf("pv is %s %s: %s", got.Phase, got.Reason, got.Message)
	}
}

// S2: it may be the daemon's, recorded before anybody knew.
func TestRescueFencesNoRecordedClientOnTheHostOfAManager(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.ceph.Watch(image)
	w.ceph.SetManager("10.0.0.1:6800/7")
	w.storageNetwork()
	if err := w.settle(w.controller()); err != nil {
		t.Fatal(err)
	}
	if listed := w.ceph.Blocklist(); len(listed) > 0 {
		t.Errorf("S2: %v are cut off", listed)
	}
	if got := w.volume("pv"); got.Phase != v1alpha1.VolumeRefused || got.Reason != v1alpha1.ReasonCephDaemonHost {
		t.Errorf("pv is %s %s: %s", got.Phase, got.Reason, got.Message)
	}
}
