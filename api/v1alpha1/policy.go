package v1alpha1

import (
	"fmt"
	"strings"
	"time"
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

// SnapshotPolicy says what becomes of a volume of which there is no safety snapshot: an RBD snapshot of what the fenced node has
// left, taken before anything is released.
type SnapshotPolicy string

const (
	// SnapshotBestEffort releases it without one after a few seconds. It is what holds where the annotation says nothing.
	SnapshotBestEffort SnapshotPolicy = "best-effort"
	// SnapshotRequired releases nothing without one.
	SnapshotRequired SnapshotPolicy = "required"
	// SnapshotOff takes none.
	SnapshotOff SnapshotPolicy = "off"
)

// What AnnotationAllow may list, separated by commas.
const (
	// AllowBarePods: a pod without a controller is force-deleted too, although nobody makes it again.
	AllowBarePods = "bare-pods"
	// AllowUnfencedStorage: a pod is force-deleted although it also writes to storage that cannot be fenced here (S6).
	AllowUnfencedStorage = "unfenced-storage"
)

// What AnnotationFailoverAfter may say. A kubelet that is started again needs seconds until it is Ready, and its pods should not go
// for that; later than an hour nobody waits for a failover.
const (
	MinFailoverAfter = 5 * time.Second
	MaxFailoverAfter = time.Hour
)

// Policy is what the annotations of a namespace ask for. The zero value is a namespace that did not opt in.
type Policy struct {
	Mode Mode
	// BarePods and UnfencedStorage are the overrides of AnnotationAllow.
	BarePods, UnfencedStorage bool
	// FailoverAfter takes the place of Kubernetes' 300 s after which pods leave a node that is not Ready; 0 leaves them as they
	// are. It is obeyed in mode rescue alone: see FailsOverAfter.
	FailoverAfter time.Duration
	// Snapshot is empty where nobody has chosen: then SnapshotBestEffort holds.
	Snapshot SnapshotPolicy
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
	if err := policy.readAllow(annotations); err != nil {
		return Policy{}, err
	}
	if err := policy.readFailoverAfter(annotations); err != nil {
		return Policy{}, err
	}
	if err := policy.readSnapshot(annotations); err != nil {
		return Policy{}, err
	}
	return policy, nil
}

func (p *Policy) readAllow(annotations map[string]string) error {
	list, given := annotations[AnnotationAllow]
	if !given {
		return nil
	}
	for word := range strings.SplitSeq(list, ",") {
		switch strings.TrimSpace(word) {
		case AllowBarePods:
			p.BarePods = true
		case AllowUnfencedStorage:
			p.UnfencedStorage = true
		default:
			return fmt.Errorf("annotation %s: %q is nothing that can be allowed: use %s or %s, separated by a comma, or remove the annotation",
				AnnotationAllow, word, AllowBarePods, AllowUnfencedStorage)
		}
	}
	return nil
}

func (p *Policy) readFailoverAfter(annotations map[string]string) error {
	text, given := annotations[AnnotationFailoverAfter]
	if !given {
		return nil
	}
	after, err := time.ParseDuration(text)
	if err != nil || after < MinFailoverAfter || after > MaxFailoverAfter || after%time.Second != 0 {
		return fmt.Errorf("annotation %s: %q is no time to wait for a node: use whole seconds from 5s to 1h, as in 30s or 2m, or remove the annotation",
			AnnotationFailoverAfter, text)
	}
	p.FailoverAfter = after
	return nil
}

func (p *Policy) readSnapshot(annotations map[string]string) error {
	word, given := annotations[AnnotationSnapshot]
	if !given {
		return nil
	}
	switch p.Snapshot = SnapshotPolicy(word); p.Snapshot {
	case SnapshotBestEffort, SnapshotRequired, SnapshotOff:
		return nil
	default:
		return fmt.Errorf("annotation %s: %q says nothing about snapshots: use %q, %q, %q, or remove the annotation",
			AnnotationSnapshot, word, SnapshotRequired, SnapshotBestEffort, SnapshotOff)
	}
}

// OptedIn tells whether rbd-rescue looks at the namespace's pods at all.
func (p Policy) OptedIn() bool { return p.Mode == ModeObserve || p.Mode == ModeRescue }

// FailsOverAfter is after which time the namespace's new pods leave a node that is not Ready; 0 for when Kubernetes says. In
// mode observe nobody would fence the node, and the pods would only hang in Terminating sooner.
func (p Policy) FailsOverAfter() time.Duration {
	if p.Mode != ModeRescue {
		return 0
	}
	return p.FailoverAfter
}
