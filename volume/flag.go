package volume

import (
	"encoding/json"
	"fmt"

	"k8s.io/apimachinery/pkg/types"

	"github.com/rbd-rescue/rbd-rescue/api/v1alpha1"
)

// HeldClaims says which volumes failed nodes hold, by claim: as a rule one, but a volume of mode ReadWriteMany may be
// held by several failed nodes.
type HeldClaims map[types.NamespacedName][]v1alpha1.HeldVolume

// Of gives the held volumes of a pod's claims, in their order.
func (h HeldClaims) Of(claims []types.NamespacedName) []v1alpha1.HeldVolume {
	var volumes []v1alpha1.HeldVolume
	seen := make(map[types.NamespacedName]bool, len(claims)) // a pod may name a claim in two of its volumes
	for _, claim := range claims {
		if !seen[claim] {
			seen[claim] = true
			volumes = append(volumes, h[claim]...)
		}
	}
	return volumes
}

// FlagAnnotation is the value of the annotation that says which volumes a pod waits for.
func FlagAnnotation(held []v1alpha1.HeldVolume) (string, error) {
	text, err := json.Marshal(held)
	if err != nil {
		return "", fmt.Errorf("encoding annotation %s: %w", v1alpha1.AnnotationHeldVolumes, err)
	}
	return string(text), nil
}
