package v1alpha1

import (
	"encoding/json"
	"fmt"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Cleared is AnnotationCleared: what the agent of a node saw on its machine, after it had read which clients are cut off.
type Cleared struct {
	// BootID of the kernel that was asked.
	BootID string `json:"bootID"`
	// At is when it was asked first with this result; for people.
	At metav1.Time `json:"at"`
	// Clients are the addresses in status.clients that the agent had read before it looked.
	Clients []string `json:"clients"`
	// Left are the mappings that these clients have, or may have, left; empty for none.
	Left []LeftMapping `json:"left"`
}

// LeftMapping is one that is left.
type LeftMapping struct {
	// Device as in /dev/rbd0, or a process that maps images.
	Device string `json:"device"`
	// Image is pool/image or pool/namespace/image.
	Image  string `json:"image,omitempty"`
	Client string `json:"client,omitempty"`
	// Pods that use it, as in "pod web/files-0".
	Pods []string `json:"pods,omitempty"`
}

// ParseCleared reads AnnotationCleared. What says nothing of mappings that are left is an error: it is not that there are none.
func ParseCleared(text string) (Cleared, error) {
	var c Cleared
	if err := json.Unmarshal([]byte(text), &c); err != nil {
		return Cleared{}, fmt.Errorf("decoding annotation %s: %w", AnnotationCleared, err)
	}
	if c.BootID == "" || c.Left == nil {
		return Cleared{}, fmt.Errorf("annotation %s has no bootID, or does not say what is left", AnnotationCleared)
	}
	return c, nil
}
