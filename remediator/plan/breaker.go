package plan

import (
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/rbd-rescue/rbd-rescue/api/v1alpha1"
	"github.com/rbd-rescue/rbd-rescue/volume"
)

// breakerSettle is how long a node that came back still counts as failed: where nodes come and go together, the fault is
// not over with the first that answers. It is what keeps the breaker from closing and opening by turns, and needs no memory
// (S8).
const breakerSettle = time.Minute

// joining is how long a new node takes to become Ready; one that took longer is counted as one that came back, which only
// delays a fence.
const joining = 30 * time.Second

// Health is how many nodes there are and how many failed.
type Health struct {
	Nodes int
	// Failed nodes, and those whose object is gone while volumes are attached to them.
	Failed int
	// Returned nodes have been Ready again for less than breakerSettle.
	Returned int
	// NotReady nodes have a kubelet that answers and is not ready: one that is booting or joining, or one whose network or
	// container runtime is broken, which counts as failed as soon as a pod on it is stuck.
	NotReady int
}

// HealthOf counts the nodes; gone are those that only VolumeAttachments still name.
func HealthOf(nodes []*corev1.Node, gone int, now time.Time) Health {
	h := Health{Nodes: len(nodes) + gone, Failed: gone}
	for _, node := range nodes {
		if _, failed := volume.Failed(node); failed {
			h.Failed++
			continue
		}
		if _, notReady := volume.NotReady(node); notReady {
			h.NotReady++
			continue
		}
		since, ready := volume.ReadySince(node)
		joined := since.Sub(node.CreationTimestamp.Time) < joining
		if age := now.Sub(since); ready && !joined && age >= 0 && age < breakerSettle {
			h.Returned++
		}
	}
	return h
}

// BreakerOpen tells whether so many nodes failed at once that it looks like a fault of the network or of the control
// plane, not like that many dead machines (S7). Nothing new is fenced then; what was begun is finished. node is the one that
// would be fenced; nil for none.
//
// Nodes that are not Ready count as well: a fault that makes all of them so makes each of them a failed one, minutes later.
// But for one: a node that boots beside one that has failed must not keep that one from being rescued.
func BreakerOpen(h Health, node *corev1.Node, s Settings) bool {
	bad := h.Failed + h.Returned + h.NotReady
	if h.Failed > 0 && h.NotReady > 0 && !notReady(node) {
		bad--
	}
	limit, err := intstr.GetScaledValueFromIntOrPercent(&s.MaxFailedNodes, h.Nodes, false)
	if err != nil {
		limit = 0 // a setting that means nothing does not switch the breaker off
	}
	return bad > max(1, limit)
}

func notReady(node *corev1.Node) bool {
	if node == nil {
		return false
	}
	_, is := volume.NotReady(node)
	return is
}

// notNow says why nothing new is fenced at the moment, whatever the node: the breaker is open, or somebody paused it. What
// a person asks for is done all the same.
func notNow(s Snapshot) *refusal {
	switch {
	case s.Paused != "":
		return &refusal{v1alpha1.ReasonPaused, fmt.Sprintf("Not fencing node %s: %s. Remove the annotation to go on.", s.NodeName, s.Paused)}
	case BreakerOpen(s.Health, s.Node, s.Settings):
		return &refusal{v1alpha1.ReasonBreakerOpen, fmt.Sprintf("Not fencing node %s: %d of %d nodes failed at once%s, which looks like a fault of the network or the control plane. "+
			"Nothing new is fenced until fewer nodes are failed.", s.NodeName, s.Health.Failed, s.Health.Nodes, besides(s.Health))}
	}
	return nil
}

// besides are the nodes that count besides those that have failed.
func besides(h Health) string {
	var more []string
	if h.NotReady > 0 {
		more = append(more, fmt.Sprintf("%d more are not Ready", h.NotReady))
	}
	if h.Returned > 0 {
		more = append(more, fmt.Sprintf("%d came back within the last minute", h.Returned))
	}
	if len(more) == 0 {
		return ""
	}
	return " (and " + strings.Join(more, ", ") + ")"
}
