package webhook

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	"github.com/rbd-rescue/rbd-rescue/api/v1alpha1"
)

// namespaceHandler refuses annotations of rbd-rescue that mean nothing: a typo would silently leave a namespace unprotected. It
// needs no cache and no look-up.
type namespaceHandler struct{}

// Handle refuses what checkAnnotations finds, all at once. What it cannot read it allows: a namespace never waits for rbd-rescue.
func (namespaceHandler) Handle(ctx context.Context, req admission.Request) (response admission.Response) {
	defer func() {
		if p := recover(); p != nil { // the server's own recovery would refuse the namespace
			log.FromContext(ctx).Error(fmt.Errorf("panic: %v", p), "Failed to look at a namespace", "namespace", req.Name)
			response = admission.Allowed("")
		}
	}()
	before, errBefore := annotations(req.OldObject.Raw)
	after, err := annotations(req.Object.Raw)
	if err != nil || errBefore != nil {
		return admission.Allowed("")
	}
	if wrong := checkAnnotations(before, after); len(wrong) > 0 {
		return admission.Denied(strings.Join(wrong, "; "))
	}
	return admission.Allowed("").WithWarnings(ineffective(after)...)
}

// annotations are those of an object as the API server sends it; none of no object.
func annotations(raw []byte) (map[string]string, error) {
	if len(raw) == 0 {
		return nil, nil
	}
	var object struct {
		Metadata struct {
			Annotations map[string]string `json:"annotations"`
		} `json:"metadata"`
	}
	if err := json.Unmarshal(raw, &object); err != nil {
		return nil, fmt.Errorf("decoding the namespace: %w", err)
	}
	return object.Metadata.Annotations, nil
}

// checkAnnotations says what is wrong with the annotations of rbd-rescue that are new or changed. What was there before may stay,
// and may go: a namespace with an old mistake can still be edited, and the mistake be undone piece by piece.
func checkAnnotations(before, after map[string]string) (wrong []string) {
	for _, key := range slices.Sorted(maps.Keys(after)) {
		old, had := before[key]
		if !strings.HasPrefix(key, v1alpha1.AnnotationPrefix) || had && old == after[key] {
			continue
		}
		switch {
		case key == v1alpha1.AnnotationPaused:
			wrong = append(wrong, fmt.Sprintf("annotation %s: it pauses nothing here: it belongs on rbd-rescue's own namespace, or on a Node; to take this namespace out remove %s",
				key, v1alpha1.AnnotationMode))
		case !slices.Contains(v1alpha1.NamespaceAnnotations, key):
			wrong = append(wrong, unknownAnnotation(key))
		default:
			if _, err := v1alpha1.ParsePolicy(map[string]string{key: after[key]}); err != nil {
				wrong = append(wrong, err.Error())
			}
		}
	}
	return wrong
}

func unknownAnnotation(key string) string {
	var names []string
	for _, name := range v1alpha1.NamespaceAnnotations {
		names = append(names, strings.TrimPrefix(name, v1alpha1.AnnotationPrefix))
	}
	hint := ""
	if name, near := nearest(strings.TrimPrefix(key, v1alpha1.AnnotationPrefix), names); near {
		hint = fmt.Sprintf("; did you mean %s%s?", v1alpha1.AnnotationPrefix, name)
	}
	return fmt.Sprintf("annotation %s: a namespace has no such annotation, but %s%s", key, strings.Join(v1alpha1.NamespaceAnnotations, ", "), hint)
}

// ineffective warns of what has no effect beside the other annotations.
func ineffective(annotations map[string]string) []string {
	policy, err := v1alpha1.ParsePolicy(annotations)
	if err != nil || policy.Mode == v1alpha1.ModeRescue {
		return nil
	}
	var warnings []string
	for _, key := range []string{v1alpha1.AnnotationFailoverAfter, v1alpha1.AnnotationSnapshot} {
		if annotations[key] != "" {
			warnings = append(warnings, fmt.Sprintf("annotation %s has no effect without %s: %s", key, v1alpha1.AnnotationMode, v1alpha1.ModeRescue))
		}
	}
	return warnings
}
