package volume

import (
	"encoding/json"
	"fmt"

	"github.com/rbd-rescue/rbd-rescue/api/v1alpha1"
)

// FlagAnnotation is the value of the annotation that says which volumes a pod waits for.
func FlagAnnotation(held []v1alpha1.HeldVolume) (string, error) {
	text, err := json.Marshal(held)
	if err != nil {
		return "", fmt.Errorf("encoding annotation %s: %w", v1alpha1.AnnotationHeldVolumes, err)
	}
	return string(text), nil
}
