package doctor

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/rbd-rescue/rbd-rescue/api/v1alpha1"
)

// namespaces: who opted in, and whether every annotation means something.
func namespaces(f Outside, r *report) string {
	modes := map[v1alpha1.Mode][]string{}
	for _, namespace := range f.Namespaces {
		for _, key := range slices.Sorted(maps.Keys(namespace.Annotations)) {
			own := strings.HasPrefix(key, v1alpha1.AnnotationPaused) && namespace.Name == f.Namespace // who paused it, and why
			if strings.HasPrefix(key, v1alpha1.AnnotationPrefix) && !own && !slices.Contains(v1alpha1.NamespaceAnnotations, key) {
				r.warn(fmt.Sprintf("kubectl annotate namespace %s %s-; what there is: %s.", namespace.Name, key, strings.Join(v1alpha1.NamespaceAnnotations, ", ")),
					"Annotation %s of namespace %s means nothing.", key, namespace.Name)
			}
		}
		policy, err := v1alpha1.ParsePolicy(namespace.Annotations)
		switch {
		case err != nil:
			r.fail(fmt.Sprintf("Write it anew, as in: kubectl annotate --overwrite namespace %s %s=%s.", namespace.Name, v1alpha1.AnnotationMode, v1alpha1.ModeRescue),
				"Namespace %s is not protected, because a value means nothing: %v.", namespace.Name, err)
			continue
		case policy.OptedIn():
			modes[policy.Mode] = append(modes[policy.Mode], namespace.Name)
		}
		if policy.FailoverAfter != policy.FailsOverAfter() {
			r.warn(fmt.Sprintf("kubectl annotate --overwrite namespace %s %s=%s, or remove it.", namespace.Name, v1alpha1.AnnotationMode, v1alpha1.ModeRescue),
				"Annotation %s of namespace %s has no effect without mode %s.", v1alpha1.AnnotationFailoverAfter, namespace.Name, v1alpha1.ModeRescue)
		}
	}
	if len(modes) == 0 && len(r.found) == 0 {
		r.warn(fmt.Sprintf("kubectl annotate namespace NAMESPACE %s=%s.", v1alpha1.AnnotationMode, v1alpha1.ModeRescue), "No namespace has opted in: nothing would be rescued.")
	}
	return fmt.Sprintf("Namespaces in mode rescue: %s; in mode observe: %s.", orNone(modes[v1alpha1.ModeRescue]), orNone(modes[v1alpha1.ModeObserve]))
}

func orNone(names []string) string {
	if len(names) == 0 {
		return "none"
	}
	return some(names)
}

// pauses: whether somebody asked that nothing new is fenced.
func pauses(f Outside, r *report) string {
	for _, namespace := range f.Namespaces {
		if namespace.Name == f.Namespace && namespace.Annotations[v1alpha1.AnnotationPaused] == "true" {
			r.warn(fmt.Sprintf("kubectl annotate namespace %s %s-.", namespace.Name, v1alpha1.AnnotationPaused), "rbd-rescue is paused (annotation on namespace %s): nothing new is fenced.", namespace.Name)
		}
	}
	for _, node := range f.Nodes {
		if node.Annotations[v1alpha1.AnnotationPaused] == "true" {
			r.warn(fmt.Sprintf("kubectl annotate node %s %s-.", node.Name, v1alpha1.AnnotationPaused), "Node %s is paused: it would not be fenced.", node.Name)
		}
	}
	return "Nothing is paused."
}
