package doctor

import (
	corev1 "k8s.io/api/core/v1"
)

// otherActors: who else fences nodes, or has Kubernetes release what they hold without a fence before it.
func otherActors(f Outside, r *report) string {
	for _, node := range f.Nodes {
		for _, taint := range node.Spec.Taints {
			if taint.Key == corev1.TaintNodeOutOfService {
				r.warn("Make sure that the machine is off, and remove the taint once it has booted again: kubectl taint node "+node.Name+" "+corev1.TaintNodeOutOfService+"-.",
					"Node %s is tainted %s: Kubernetes releases its volumes by itself as soon as it is not Ready, and waits for no fence.", node.Name, corev1.TaintNodeOutOfService)
			}
		}
	}
	for _, actor := range f.Actors {
		r.warn(actor.Advice, "%s.", actor.What)
	}
	return "Nothing else that fences nodes or releases their volumes was found."
}
