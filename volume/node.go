package volume

import (
	"net/netip"
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

// Failed tells whether a node counts as failed: its Ready condition is Unknown, which the node lifecycle controller sets
// when neither status nor lease was renewed within the grace period (50 s by default, facts/kubernetes.md §1.1).
func Failed(node *corev1.Node) (Failure, bool) {
	ready := readyCondition(node)
	if ready == nil || ready.Status != corev1.ConditionUnknown {
		return Failure{}, false
	}
	return Failure{
		Reason: "Ready is Unknown (" + ready.Reason + ")",
		Since:  ready.LastTransitionTime.Time,
	}, true
}

// Ready tells whether the node's kubelet says that it is ready.
func Ready(node *corev1.Node) bool {
	ready := readyCondition(node)
	return ready != nil && ready.Status == corev1.ConditionTrue
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
