package observe

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
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
