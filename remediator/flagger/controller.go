// Package flagger flags the pods that the webhook missed, announces which pods wait for a volume that a failed node
// holds, and takes the flag away when none of their volumes is held any more. It opens the gate of a pod as soon as the gate
// has no reason (S9), and never before the fence is proven (S1). It never fences.
package flagger

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/workqueue"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/rbd-rescue/rbd-rescue/api/v1alpha1"
	"github.com/rbd-rescue/rbd-rescue/remediator/announce"
	"github.com/rbd-rescue/rbd-rescue/remediator/observe"
	"github.com/rbd-rescue/rbd-rescue/remediator/plan"
	"github.com/rbd-rescue/rbd-rescue/volume"
)

const (
	// reconcileTimeout bounds one look at all waiting pods.
	reconcileTimeout = 30 * time.Second
	// gateRecheck is when a gate that stays is looked at again: Ceph sends no watch event (S9).
	gateRecheck = 5 * time.Second
)

// allFlags is the one thing that is reconciled: the set of flags. It is empty as long as no node has failed.
var allFlags = reconcile.Request{NamespacedName: client.ObjectKey{Name: "flags"}}

// Controller keeps the flags.
type Controller struct {
	Client client.Client
	// Live reads the API itself: what gates are decided on, before one is opened.
	Live      client.Reader
	Observer  *observe.Observer
	Announcer *announce.Announcer
}

// AddTo wires the controller's watches.
func (c *Controller) AddTo(mgr ctrl.Manager) error {
	flags := handler.EnqueueRequestsFromMapFunc(func(context.Context, client.Object) []reconcile.Request {
		return []reconcile.Request{allFlags}
	})
	err := ctrl.NewControllerManagedBy(mgr).Named("flagger").
		Watches(&corev1.Node{}, flags).
		Watches(&corev1.Pod{}, flags).
		Watches(&storagev1.VolumeAttachment{}, flags).
		Watches(&corev1.Namespace{}, flags).
		Watches(&v1alpha1.NodeFence{}, flags).
		WithOptions(controller.Options{
			RateLimiter: workqueue.NewTypedItemExponentialFailureRateLimiter[reconcile.Request](20*time.Millisecond, 30*time.Second),
		}).
		Complete(c)
	if err != nil {
		return fmt.Errorf("adding the flagger: %w", err)
	}
	return nil
}

// Reconcile brings all flags up to date. It costs two index look-ups while no node has failed and no pod is flagged.
func (c *Controller) Reconcile(ctx context.Context, _ reconcile.Request) (reconcile.Result, error) {
	ctx, cancel := context.WithTimeout(ctx, reconcileTimeout)
	defer cancel()
	held, err := c.Observer.HeldClaims(ctx)
	if err != nil {
		return reconcile.Result{}, err
	}
	waiting, err := c.Observer.Flagged(ctx)
	if err != nil {
		return reconcile.Result{}, err
	}
	for claim := range held {
		users, err := c.Observer.Users(ctx, claim)
		if err != nil {
			return reconcile.Result{}, err
		}
		for _, pod := range users {
			waiting[client.ObjectKeyFromObject(pod)] = pod
		}
	}
	var failed []error // one pod that cannot be flagged must not hold up the others
	shared, err := c.sharedVolumes(ctx, waiting)
	failed = append(failed, err)
	result, views := reconcile.Result{}, c.views(ctx, shared)
	waits, gated := 0, 0
	for key, pod := range waiting {
		volumes := waitsFor(pod, held)
		if len(volumes) > 0 {
			waits++
		}
		failed = append(failed, c.flag(ctx, pod, volumes))
		if !plan.Gated(pod) {
			continue
		}
		opened := false
		if volumes, known := shared[key]; known {
			opened, err = c.openGate(ctx, pod, volumes, views)
			failed = append(failed, err)
		}
		if !opened {
			gated++
			result.RequeueAfter = gateRecheck
		}
	}
	waitingPods.Set(float64(waits))
	gatedPods.Set(float64(gated))
	return result, errors.Join(failed...)
}

// sharedVolumes are those of the gated pods, by pod; one whose volumes cannot be read is left out, and keeps its gate.
func (c *Controller) sharedVolumes(ctx context.Context, pods map[client.ObjectKey]*corev1.Pod) (map[client.ObjectKey][]plan.SharedVolume, error) {
	shared := map[client.ObjectKey][]plan.SharedVolume{}
	var failed []error
	for key, pod := range pods {
		if plan.Gated(pod) {
			volumes, err := c.Observer.SharedVolumes(ctx, pod)
			if err != nil {
				failed = append(failed, err)
				continue
			}
			shared[key] = volumes
		}
	}
	return shared, errors.Join(failed...)
}

// waitsFor are the held volumes that keep a pod from running: those of other nodes than its own.
func waitsFor(pod *corev1.Pod, held volume.HeldClaims) []v1alpha1.HeldVolume {
	if volume.Finished(pod) || volume.Terminating(pod) {
		return nil
	}
	var volumes []v1alpha1.HeldVolume
	for _, v := range held.Of(volume.Claims(pod, pod.Namespace)) {
		if v.Node != pod.Spec.NodeName && (!v.Shared || pod.Status.Phase == corev1.PodPending) { // one that runs does so by right
			volumes = append(volumes, v)
		}
	}
	return volumes
}

// flag makes a pod's flag say what it waits for, or takes it away, and announces a new one.
func (c *Controller) flag(ctx context.Context, pod *corev1.Pod, held []v1alpha1.HeldVolume) error {
	want := ""
	if len(held) > 0 {
		var err error
		if want, err = volume.FlagAnnotation(held); err != nil {
			return err
		}
	}
	if want != "" {
		c.announce(pod, held)
	}
	_, labelled := pod.Labels[v1alpha1.LabelHeld]
	if pod.Annotations[v1alpha1.AnnotationHeldVolumes] == want && labelled == (want != "") {
		return nil
	}
	patch, err := flagPatch(want)
	if err != nil {
		return err
	}
	target := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: pod.Namespace, Name: pod.Name}}
	if err := c.Client.Patch(ctx, target, patch); client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("flagging pod %s/%s: %w", pod.Namespace, pod.Name, err)
	}
	return nil
}

// flagPatch sets label and annotation, or takes both away, whatever the pod has: it may not be as an old cache shows it, and an
// annotation alone would be found by nobody any more.
func flagPatch(want string) (client.Patch, error) {
	var label, annotation any // nil takes it away
	if want != "" {
		label, annotation = "true", want
	}
	text, err := json.Marshal(map[string]any{"metadata": map[string]any{
		"labels":      map[string]any{v1alpha1.LabelHeld: label},
		"annotations": map[string]any{v1alpha1.AnnotationHeldVolumes: annotation},
	}})
	if err != nil {
		return nil, fmt.Errorf("encoding the flag: %w", err)
	}
	return client.RawPatch(types.MergePatchType, text), nil
}

func (c *Controller) announce(pod *corev1.Pod, held []v1alpha1.HeldVolume) {
	var parts []string
	for _, v := range held {
		parts = append(parts, fmt.Sprintf("claim %s (volume %s) is still held by node %s, which is NotReady", v.Claim, v.Volume, v.Node))
	}
	if plan.Gated(pod) {
		parts = append(parts, fmt.Sprintf("scheduling gate %s keeps it from running beside that node", v1alpha1.GateHeld))
	}
	c.Announcer.Announce(plan.Event{
		Regarding: plan.PodReference(pod),
		Type:      corev1.EventTypeWarning, Reason: v1alpha1.ReasonVolumeHeld, Action: "Flag",
		Note: "Waiting: " + strings.Join(parts, "; ") + ". See: kubectl get nodefences.",
	})
}
