package webhook

import (
	"fmt"
	"time"

	"gomodules.xyz/jsonpatch/v2"
	corev1 "k8s.io/api/core/v1"
)

// defaultTolerationSeconds is what Kubernetes gives every pod that says nothing itself (admission plugin
// DefaultTolerationSeconds, which runs before any webhook).
const defaultTolerationSeconds = 300

// failoverPatches make a pod leave a node that is not Ready after the namespace's own time, where Kubernetes' default stands. A
// pod whose owner chose another time keeps it; one whose owner chose 300 s cannot be told from the default.
func failoverPatches(pod *corev1.Pod, after time.Duration) []jsonpatch.Operation {
	if after == 0 || after == defaultTolerationSeconds*time.Second {
		return nil
	}
	var patches []jsonpatch.Operation
	for i := range pod.Spec.Tolerations {
		if isDefault(&pod.Spec.Tolerations[i]) {
			patches = append(patches, jsonpatch.NewOperation("replace", fmt.Sprintf("/spec/tolerations/%d/tolerationSeconds", i), int64(after/time.Second)))
		}
	}
	return patches
}

// isDefault tells whether a toleration is one of the two that Kubernetes adds.
func isDefault(t *corev1.Toleration) bool {
	return (t.Key == corev1.TaintNodeNotReady || t.Key == corev1.TaintNodeUnreachable) &&
		t.Operator == corev1.TolerationOpExists && t.Effect == corev1.TaintEffectNoExecute &&
		t.TolerationSeconds != nil && *t.TolerationSeconds == defaultTolerationSeconds
}
