package plan

import (
	"errors"
	"fmt"
	"time"

	"k8s.io/apimachinery/pkg/util/intstr"
)

// SharedClients says what to do where a client also serves volumes that nobody wants elsewhere (facts/krbd.md).
type SharedClients string

const (
	// SharedFence cuts them off as well, and tells which they are.
	SharedFence SharedClients = "fence"
	// SharedRefuse refuses to fence such a client.
	SharedRefuse SharedClients = "refuse"
)

// Settings are the cluster-wide choices of the administrator.
type Settings struct {
	SharedClients SharedClients
	// MaxFailedNodes is how many nodes, or which share of them, may fail at once before the breaker opens (S7); one always may.
	MaxFailedNodes intstr.IntOrString
	// StuckAfter is how long after the end of its grace period a pod counts as stuck on a node whose kubelet still answers.
	StuckAfter time.Duration
	// SnapshotsKeptFor is how long a safety snapshot is kept, and SnapshotsPerImage how many of one image at most; those of a
	// NodeFence that is active are kept besides.
	SnapshotsKeptFor  time.Duration
	SnapshotsPerImage int
}

// DefaultSettings are those of a configuration that says nothing.
func DefaultSettings() Settings {
	return Settings{SharedClients: SharedFence, MaxFailedNodes: intstr.FromString("34%"), StuckAfter: 2 * time.Minute, SnapshotsKeptFor: 72 * time.Hour, SnapshotsPerImage: 3}
}

// Validate names every setting that means nothing.
func (s Settings) Validate() error {
	var problems []error
	if s.SharedClients != SharedFence && s.SharedClients != SharedRefuse {
		problems = append(problems, fmt.Errorf("sharedClients: must be %q or %q, not %q", SharedFence, SharedRefuse, s.SharedClients))
	}
	if n, err := intstr.GetScaledValueFromIntOrPercent(&s.MaxFailedNodes, 100, false); err != nil || n < 0 || (s.MaxFailedNodes.Type == intstr.String && n > 100) {
		problems = append(problems, fmt.Errorf("maxFailedNodes: must be a number of nodes or a percentage up to 100%%, not %q", s.MaxFailedNodes.String()))
	}
	if s.StuckAfter <= 0 {
		problems = append(problems, fmt.Errorf("stuckAfter: must be more than 0, not %s", s.StuckAfter))
	}
	if s.SnapshotsKeptFor <= 0 {
		problems = append(problems, fmt.Errorf("snapshotsKeptFor: must be more than 0, not %s", s.SnapshotsKeptFor))
	}
	if s.SnapshotsPerImage < 1 {
		problems = append(problems, fmt.Errorf("snapshotsPerImage: must be 1 or more, not %d", s.SnapshotsPerImage))
	}
	return errors.Join(problems...)
}
