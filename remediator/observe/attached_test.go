package observe

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	"github.com/rbd-rescue/rbd-rescue/api/v1alpha1"
	"github.com/rbd-rescue/rbd-rescue/ceph"
	"github.com/rbd-rescue/rbd-rescue/remediator/plan"
)

func userOn(node, name string, phase corev1.PodPhase) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: name},
		Spec: corev1.PodSpec{NodeName: node, Volumes: []corev1.Volume{{Name: "data", VolumeSource: corev1.VolumeSource{
			PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: "data"},
		}}}},
		Status: corev1.PodStatus{Phase: phase},
	}
}

func podAt(ip, node, name string, phase corev1.PodPhase) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "rook-ceph", Name: name},
		Spec:       corev1.PodSpec{NodeName: node}, Status: corev1.PodStatus{Phase: phase, PodIP: ip},
	}
}

// apiWith is an API that has these objects, and selects pods by their address as the API server does.
func apiWith(objects ...client.Object) client.Client {
	return fake.NewClientBuilder().WithObjects(objects...).
		WithIndex(&corev1.Pod{}, "status.podIP", func(o client.Object) []string { return []string{o.(*corev1.Pod).Status.PodIP} }).Build()
}

// S2: the API alone has all pods.
func TestTheNodeOfAPodIsThatOfOneOnAnotherNodeThatIsNotFinished(t *testing.T) {
	t.Parallel()
	o := &Observer{Reader: fake.NewClientBuilder().Build(), Live: apiWith(
		podAt("10.128.0.9", "node-b", "provisioner", corev1.PodRunning),
		podAt("10.128.0.7", "node-b", "done", corev1.PodSucceeded), podAt("10.128.0.7", "node-c", "failed", corev1.PodFailed),
		podAt("10.128.0.5", "node-a", "plugin", corev1.PodRunning),
		podAt("10.128.0.3", "node-a", "left", corev1.PodRunning), podAt("10.128.0.3", "node-c", "new", corev1.PodRunning),
		podAt("fd00::9", "node-c", "six", corev1.PodRunning),
	)}
	for ip, want := range map[string]string{
		"10.128.0.9": "node-b",
		"10.128.0.7": "", // finished: the address is free
		"10.128.0.5": "", // the node's own
		"10.128.0.3": "node-c",
		"10.128.0.1": "",
		"fd00::9":    "node-c",
	} {
		got, err := o.NodeOfPod(t.Context(), netip.MustParseAddr(ip), "node-a")
		if got != want || err != nil {
			t.Errorf("%s is a pod's on %q (%v), want %q", ip, got, err, want)
		}
	}
}

// S2: one list for each address that is no node's, whoever uses it.
func TestOtherPodsAreAskedForOnlyAtAddressesThatAreNoNodes(t *testing.T) {
	t.Parallel()
	o := &Observer{Live: apiWith(
		podAt("10.128.0.9", "node-b", "provisioner", corev1.PodRunning), podAt("10.128.0.5", "node-a", "plugin", corev1.PodRunning),
		podAt("10.0.0.2", "node-c", "on-the-host", corev1.PodRunning), podAt("10.0.0.1", "node-c", "on-the-host-too", corev1.PodRunning),
	)}
	s := plan.Snapshot{
		NodeName: "node-a", Fence: &v1alpha1.NodeFence{},
		Node:       &corev1.Node{Status: corev1.NodeStatus{Addresses: []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: "10.0.0.1"}}}},
		OtherNodes: map[netip.Addr]string{netip.MustParseAddr("10.0.0.2"): "node-b"},
		Volumes: []plan.Volume{{
			Record: &v1alpha1.NodeClients{Clients: []string{"10.0.0.1:0/42", "10.128.0.9:0/77"}, Before: []string{"10.128.0.5:0/1"}},
			Use: ceph.ImageUse{ImageState: ceph.ImageState{
				Watchers: []ceph.Watcher{{Address: ceph.MustParseAddress("10.0.0.2:0/7")}, {Address: ceph.MustParseAddress("10.128.0.9:0/78")}},
			}},
		}},
	}
	if err := o.otherPods(t.Context(), &s); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[netip.Addr]string{netip.MustParseAddr("10.128.0.9"): "node-b"}, s.OtherPods, cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" {
		t.Error(diff)
	}
}

// S2: a node whose pod is still starting may have the image mapped already, and one that is gone may have it still; their
// watchers must not be taken for another's.
func TestUsingNodesAreThoseOfAllUnfinishedPods(t *testing.T) {
	t.Parallel()
	builder := fake.NewClientBuilder().WithObjects(
		userOn("node-a", "runs", corev1.PodRunning), userOn("node-a", "runs-too", corev1.PodRunning),
		userOn("node-b", "starts", corev1.PodPending), userOn("node-c", "done", corev1.PodSucceeded),
		userOn("", "waits", corev1.PodPending), userOn("node-gone", "left", corev1.PodRunning),
	)
	for _, name := range []string{"node-a", "node-b", "node-c"} {
		builder.WithObjects(&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}})
	}
	o := &Observer{Reader: builder.WithIndex(&corev1.Pod{}, indexPodClaim, podClaims).Build()}
	nodes, err := o.UsingNodes(t.Context(), types.NamespacedName{Namespace: "shop", Name: "data"})
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, node := range nodes {
		names = append(names, node.Name)
	}
	if diff := cmp.Diff([]string{"node-gone", "node-a", "node-b"}, names); diff != "" {
		t.Error(diff)
	}
}
