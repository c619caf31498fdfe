package v1alpha1

import (
	"fmt"
	"strings"
)

// Mode says what rbd-rescue may do for the pods of a namespace.
type Mode string

const (
	// ModeOff is the mode of a namespace without the annotation: its pods are never touched (S6).
	ModeOff Mode = ""
	// ModeObserve flags pods, writes events and counts, and acts on nothing.
	ModeObserve Mode = "observe"
	// ModeRescue lets rbd-rescue fence the failed node and release the namespace's volumes.
	ModeRescue Mode = "rescue"
)

// What AnnotationAllow may list, separated by commas.
const (
	// AllowBarePods: a pod without a controller is force-deleted too, although nobody makes it again.
	AllowBarePods = "bare-pods"
	// AllowUnfencedStorage: a pod is force-deleted although it also writes to storage that cannot be fenced here (S6).
	AllowUnfencedStorage = "unfenced-storage"
)

// Policy is what the annotations of a namespace ask for. The zero value is a namespace that did not opt in.
type Policy struct {
	Mode Mode
	// BarePods and UnfencedStorage are the overrides of AnnotationAllow.
	BarePods, UnfencedStorage bool
}

// ParsePolicy reads the annotations of a namespace. A value that means nothing is an error, and the policy that comes
// with it is the zero one: a typo must not let rbd-rescue act.
func ParsePolicy(annotations map[string]string) (Policy, error) {
	policy := Policy{Mode: Mode(annotations[AnnotationMode])}
	switch policy.Mode {
	case ModeOff, ModeObserve, ModeRescue:
	default:
		return Policy{}, fmt.Errorf("annotation %s: %q is not a mode: use %q, %q, or remove the annotation",
			AnnotationMode, policy.Mode, ModeRescue, ModeObserve)
	}
	list, given := annotations[AnnotationAllow]
	if !given {
		return policy, nil
	}
	for word := range strings.SplitSeq(list, ",") {
		switch strings.TrimSpace(word) {
		case AllowBarePods:
			policy.BarePods = true
		case AllowUnfencedStorage:
			policy.UnfencedStorage = true
		default:
			return Policy{}, fmt.Errorf("annotation %s: %q is nothing that can be allowed: use %s or %s, separated by a comma, or remove the annotation",
				AnnotationAllow, word, AllowBarePods, AllowUnfencedStorage)
		}
	}
	return policy, nil
}

// OptedIn tells whether rbd-rescue looks at the namespace's pods at all.
func (p Policy) OptedIn() bool { return p.Mode == ModeObserve || p.Mode == ModeRescue }
