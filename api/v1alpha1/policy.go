package v1alpha1

import "fmt"

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

// Policy is what the annotations of a namespace ask for. The zero value is a namespace that did not opt in.
type Policy struct {
	Mode Mode
}

// ParsePolicy reads the annotations of a namespace. A value that means nothing is an error, and the policy that comes
// with it is the zero one: a typo must not let rbd-rescue act.
func ParsePolicy(annotations map[string]string) (Policy, error) {
	switch mode := Mode(annotations[AnnotationMode]); mode {
	case ModeOff, ModeObserve, ModeRescue:
		return Policy{Mode: mode}, nil
	default:
		return Policy{}, fmt.Errorf("annotation %s: %q is not a mode: use %q, %q, or remove the annotation",
			AnnotationMode, mode, ModeRescue, ModeObserve)
	}
}

// OptedIn tells whether rbd-rescue looks at the namespace's pods at all.
func (p Policy) OptedIn() bool { return p.Mode == ModeObserve || p.Mode == ModeRescue }
