package plan

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/rbd-rescue/rbd-rescue/api/v1alpha1"
	"github.com/rbd-rescue/rbd-rescue/volume"
)

// breakerRecheck is how soon a failed node is looked at again while the breaker is open.
const breakerRecheck = 10 * time.Second

// Verdict is what Detect decides.
type Verdict struct {
	// Create is the NodeFence to make; nil for none.
	Create *v1alpha1.NodeFence
	// Why there is none, for the log.
	Why    string
	Events []Event
	// Wait until the next look; 0: only when something changes.
	Wait time.Duration
}

// Detect decides whether a node's failure becomes an incident:
//   - the node is gone, or has not failed: no
//   - it has an active NodeFence: no, that one goes on
//   - no volume that it holds is wanted elsewhere by a namespace in mode rescue: no
//   - the breaker is open (S7): no, and it says so
//   - the node never reported a bootID, so that the end of this boot could not be told (S3): no, and it says so
//   - else: yes
func Detect(s Snapshot) Verdict {
	if s.Node == nil {
		return Verdict{Why: "the node is gone"}
	}
	failure, failed := volume.Failed(s.Node)
	if !failed {
		return Verdict{Why: "the node has not failed"}
	}
	if s.Fence != nil && s.Fence.Active() {
		return Verdict{Why: "NodeFence " + s.Fence.Name + " is active"}
	}
	wanted := wantedVolumes(s)
	if len(wanted) == 0 {
		return Verdict{Why: "no held volume is wanted elsewhere by a namespace in mode rescue"}
	}
	if BreakerOpen(s.Health) {
		return Verdict{Why: "the breaker is open", Wait: breakerRecheck, Events: []Event{breakerEvent(s)}}
	}
	bootID := volume.BootID(s.Node)
	if bootID == "" {
		return Verdict{Why: "the node has no bootID", Events: []Event{{
			Regarding: nodeReference(s.Node), Type: corev1.EventTypeWarning, Reason: v1alpha1.ReasonFenceRefused, Action: "Fence",
			Note: fmt.Sprintf("Refused to fence node %s: it never reported a bootID, so the end of its boot could not be told. Follow the manual runbook.", s.Node.Name),
		}}}
	}
	return Verdict{Create: &v1alpha1.NodeFence{
		ObjectMeta: metav1.ObjectMeta{
			Name:       incidentName(s.Node.Name, bootID, failure.Since),
			Finalizers: []string{v1alpha1.FinalizerFence},
		},
		Spec: v1alpha1.NodeFenceSpec{
			NodeName: s.Node.Name, BootID: bootID, Reason: failure.Reason,
			MachineID: s.Node.Status.NodeInfo.MachineID, SystemUUID: s.Node.Status.NodeInfo.SystemUUID,
		},
	}}
}

func wantedVolumes(s Snapshot) []Volume {
	var wanted []Volume
	for _, v := range s.Volumes {
		if heldBy(s, v) && wantedElsewhere(s, v) {
			wanted = append(wanted, v)
		}
	}
	return wanted
}

// incidentName is the same for everyone who sees the same failure, so that two leaders, or a stale cache, cannot make
// two incidents of one (S8).
func incidentName(node, bootID string, since time.Time) string {
	sum := sha256.Sum256([]byte(bootID + "\n" + since.UTC().Format(time.RFC3339)))
	const maxNode = 253 - 1 - 10
	return node[:min(len(node), maxNode)] + "-" + hex.EncodeToString(sum[:5])
}

func breakerEvent(s Snapshot) Event {
	return Event{
		Regarding: nodeReference(s.Node), Type: corev1.EventTypeWarning, Reason: v1alpha1.ReasonBreakerOpen, Action: "Fence",
		Note: fmt.Sprintf("Not fencing node %s: %d of %d nodes failed at once, which looks like a fault of the network or the control plane. "+
			"Nothing new is fenced until fewer nodes are failed.", s.Node.Name, s.Health.Failed, s.Health.Nodes),
	}
}
