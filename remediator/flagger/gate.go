package flagger

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"sync"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rbd-rescue/rbd-rescue/api/v1alpha1"
	"github.com/rbd-rescue/rbd-rescue/remediator/observe"
	"github.com/rbd-rescue/rbd-rescue/remediator/plan"
)

// views are what gates are decided on: the cache's and the API's own. Each is read at most once in a look, and only if there
// is a gate.
type views []func() (plan.GateView, error)

// views have the attachments of the volumes that pods wait for.
func (c *Controller) views(ctx context.Context, volumes map[client.ObjectKey][]plan.SharedVolume) views {
	names := map[string]bool{}
	for _, of := range volumes {
		for _, v := range of {
			names[v.Name] = true
		}
	}
	return views{
		sync.OnceValues(func() (plan.GateView, error) { return c.Observer.CachedGateView(ctx, names) }),
		sync.OnceValues(func() (plan.GateView, error) { return observe.LiveGateView(ctx, c.Live, names) }),
	}
}

// openGate lets a pod be scheduled, unless plan says that it must wait; then it tells why. What the cache says is enough to
// wait. To open the gate the API itself is asked, since a cache that has not heard of the failure yet would open it at once,
// and Ceph, since what a NodeFence says may be over (S1).
func (c *Controller) openGate(ctx context.Context, pod *corev1.Pod, volumes []plan.SharedVolume, views views) (opened bool, err error) {
	reason := ""
	var view plan.GateView
	var holders []plan.Holder
	for i, from := range []client.Reader{c.Client, c.Live} {
		policy, err := observe.Policy(ctx, from, pod.Namespace)
		if err != nil {
			return false, err
		}
		if view, err = views[i](); err != nil {
			return false, err
		}
		holders = nil
		for _, v := range volumes {
			holders = append(holders, plan.Holders(view, v)...)
		}
		waits := false
		if reason, waits = plan.GateReason(policy, holders); waits {
			c.tellGate(pod, reason)
			return false, nil
		}
		if policy.Mode != v1alpha1.ModeRescue {
			holders = nil // nobody would fence them
		}
	}
	for _, h := range holders {
		if h.Over {
			continue
		}
		cluster, pools := c.Observer.Proof(ctx, h.Volume)
		if missing := plan.Unproven(c.Observer.Clock.Now(), h, view.Fences, cluster, pools); missing != "" {
			c.tellGate(pod, fmt.Sprintf("the fence of node %s, which holds claim %s, cannot be proven now: %s", h.NodeName, h.Volume.Claim, missing))
			return false, nil
		}
	}
	patch, err := withoutGate(pod)
	if err != nil {
		return false, err
	}
	switch err := c.Client.Patch(ctx, pod.DeepCopy(), patch); {
	case apierrors.IsInvalid(err) || apierrors.IsNotFound(err):
		return false, nil // it is another pod by now, or its gates are others: the cache will tell
	case err != nil:
		return false, fmt.Errorf("opening the gate of pod %s/%s: %w", pod.Namespace, pod.Name, err)
	}
	c.Announcer.Announce(plan.Event{
		Regarding: plan.PodReference(pod), Type: corev1.EventTypeNormal, Reason: v1alpha1.ReasonGateOpened, Action: "OpenGate",
		Note: fmt.Sprintf("Opened scheduling gate %s: %s.", v1alpha1.GateHeld, reason),
	})
	return true, nil
}

// tellGate says on the pod why its gate stays, and how a person may open it.
func (c *Controller) tellGate(pod *corev1.Pod, reason string) {
	c.Announcer.Announce(plan.Event{
		Regarding: plan.PodReference(pod), Type: corev1.EventTypeWarning, Reason: v1alpha1.ReasonGateClosed, Action: "OpenGate",
		Note: fmt.Sprintf("Not scheduled: %s. The gate opens by itself once it is, or the node is Ready again. See: kubectl get nodefences. "+
			"If you have made sure that nothing writes to it, take %s out of spec.schedulingGates: kubectl edit pod -n %s %s", reason, v1alpha1.GateHeld, pod.Namespace, pod.Name),
	})
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
