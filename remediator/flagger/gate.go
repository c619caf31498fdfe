package flagger

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rbd-rescue/rbd-rescue/api/v1alpha1"
	"github.com/rbd-rescue/rbd-rescue/remediator/plan"
)

// openGate lets a pod be scheduled, unless plan.GateReason says that it must wait. What the cache says is enough to wait; to
// open the gate the nodes are asked for again, since a cache that has not heard of the failure yet would open it at once.
func (c *Controller) openGate(ctx context.Context, pod *corev1.Pod) error {
	policy, err := c.Observer.Policy(ctx, pod.Namespace)
	if err != nil {
		return err
	}
	reason := ""
	for _, nodes := range []client.Reader{c.Client, c.Live} {
		holders, err := c.Observer.Holders(ctx, nodes, pod)
		if err != nil {
			return err
		}
		var waits bool
		if reason, waits = plan.GateReason(policy, holders); waits {
			return nil
		}
	}
	patch, err := withoutGate(pod)
	if err != nil {
		return err
	}
	if err := c.Client.Patch(ctx, pod.DeepCopy(), patch); client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("opening the gate of pod %s/%s: %w", pod.Namespace, pod.Name, err)
	}
	c.Announcer.Announce(plan.Event{
		Regarding: plan.PodReference(pod), Type: corev1.EventTypeNormal, Reason: v1alpha1.ReasonGateOpened, Action: "OpenGate",
		Note: fmt.Sprintf("Opened scheduling gate %s: %s.", v1alpha1.GateHeld, reason),
	})
	return nil
}

// withoutGate removes rbd-rescue's gate of this very pod, and no other: a merge patch would write the whole list.
func withoutGate(pod *corev1.Pod) (client.Patch, error) {
	at := slices.Index(pod.Spec.SchedulingGates, corev1.PodSchedulingGate{Name: v1alpha1.GateHeld})
	path := fmt.Sprintf("/spec/schedulingGates/%d", at)
	patch, err := json.Marshal([]map[string]any{
		{"op": "test", "path": "/metadata/uid", "value": pod.UID},
		{"op": "test", "path": path + "/name", "value": v1alpha1.GateHeld},
		{"op": "remove", "path": path},
	})
	if err != nil {
		return nil, fmt.Errorf("encoding a patch: %w", err)
	}
	return client.RawPatch(types.JSONPatchType, patch), nil
}
