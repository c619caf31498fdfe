package volume

import (
	"net/netip"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// Failure says why and since when a node counts as failed.
type Failure struct {
	// Reason is a sentence fragment for people: "its kubelet has not reported since …".
	Reason string
	// Since is the transition of the Ready condition; whole seconds, by Kubernetes' clock.
	Since time.Time
}

// Failed tells whether a node counts as failed whatever its pods do: its Ready condition is Unknown, which the node
// lifecycle controller sets when neither status nor lease was renewed within the grace period (50 s by default,
// facts/kubernetes.md §1.1); or it is not Ready and somebody has tainted it as out of service (KEP-2268).
func Failed(node *corev1.Node) (Failure, bool) {
	ready := readyCondition(node)
	switch {
	case ready == nil:
		return Failure{}, false
	case ready.Status == corev1.ConditionUnknown:
		return Failure{Reason: "Ready is Unknown (" + ready.Reason + ")", Since: ready.LastTransitionTime.Time}, true
	case ready.Status == corev1.ConditionFalse && outOfService(node):
		return Failure{Reason: "it is tainted " + corev1.TaintNodeOutOfService + " and not Ready", Since: ready.LastTransitionTime.Time}, true
	default:
		return Failure{}, false
	}
}

// NotReady tells whether the node's kubelet answers and says that it is not ready, and since when.
func NotReady(node *corev1.Node) (since time.Time, notReady bool) {
	ready := readyCondition(node)
	if ready == nil || ready.Status != corev1.ConditionFalse {
		return time.Time{}, false
	}
	return ready.LastTransitionTime.Time, true
}

// ReadySince is when the node became Ready.
func ReadySince(node *corev1.Node) (since time.Time, ready bool) {
	condition := readyCondition(node)
	if condition == nil || condition.Status != corev1.ConditionTrue {
		return time.Time{}, false
	}
	return condition.LastTransitionTime.Time, true
}

// outOfService: Kubernetes tests the key alone (facts/kubernetes.md §1.3).
func outOfService(node *corev1.Node) bool {
	return slices.ContainsFunc(node.Spec.Taints, func(t corev1.Taint) bool { return t.Key == corev1.TaintNodeOutOfService })
}

// Ready tells whether the node's kubelet says that it is ready.
func Ready(node *corev1.Node) bool {
	ready := readyCondition(node)
	return ready != nil && ready.Status == corev1.ConditionTrue
}

// ReadyStatus is what the Ready condition says; empty if there is none.
func ReadyStatus(node *corev1.Node) corev1.ConditionStatus {
	if ready := readyCondition(node); ready != nil {
		return ready.Status
	}
	return ""
}

// BootID is the boot that the node last reported.
func BootID(node *corev1.Node) string { return node.Status.NodeInfo.BootID }

// Addresses are the IP addresses that the node reports as its own.
func Addresses(node *corev1.Node) []netip.Addr {
	var ips []netip.Addr
	for _, address := range node.Status.Addresses {
		if ip, err := netip.ParseAddr(address.Address); err == nil {
			ips = append(ips, ip.Unmap())
		}
	}
	return ips
}

func readyCondition(node *corev1.Node) *corev1.NodeCondition {
	for i := range node.Status.Conditions {
		if node.Status.Conditions[i].Type == corev1.NodeReady {
			return &node.Status.Conditions[i]
		}
	}
	return nil
}
