//go:build librados

package main

import (
	"context"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rbd-rescue/rbd-rescue/api/v1alpha1"
	"github.com/rbd-rescue/rbd-rescue/e2e/lab"
	"github.com/rbd-rescue/rbd-rescue/volume"
)

// lookEvery is the grain of the measurement.
const lookEvery = 20 * time.Millisecond

type bench struct {
	lab   *lab.Lab
	count int
}

// phases of rbd-rescue's way, in order.
var phases = []string{"deletion seen to fence begun", "fence begun to fence proven", "fence proven to detached", "detached to attached elsewhere"}

// once fails the node under its workloads, measures, and brings the lab back to health.
func (b *bench) once(ctx context.Context, way way, volumes int) (result, error) {
	namespace := fmt.Sprintf("bench-%d", b.count)
	workloads, err := b.deploy(ctx, namespace, way.mode, volumes)
	if err != nil {
		return result{}, err
	}
	if err := b.lab.Nodes[victim].Kill(); err != nil {
		return result{}, err
	}
	r := result{attached: make([]time.Duration, volumes)}
	deleted := make([]time.Time, volumes)
	group, groupCtx := errgroup.WithContext(ctx)
	for i, w := range workloads {
		group.Go(func() error {
			if err := b.until(groupCtx, w, "its pod is Terminating", terminating); err != nil {
				return err
			}
			deleted[i] = time.Now()
			if way.act != nil {
				if err := way.act(groupCtx, b, w); err != nil {
					return err
				}
			}
			if err := b.until(groupCtx, w, "it is attached elsewhere", b.attachedElsewhere); err != nil {
				return err
			}
			r.attached[i] = time.Since(deleted[i])
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return r, err
	}
	if way.act == nil {
		if r.phases, err = b.phases(ctx, deleted[0]); err != nil {
			return r, err
		}
	}
	return r, b.heal(ctx, namespace)
}

func (b *bench) deploy(ctx context.Context, namespace string, mode v1alpha1.Mode, volumes int) ([]*lab.Workload, error) {
	if err := b.lab.MakeNamespace(ctx, namespace, mode); err != nil {
		return nil, err
	}
	workloads := make([]*lab.Workload, volumes)
	group, groupCtx := errgroup.WithContext(ctx)
	group.SetLimit(8)
	for i := range workloads {
		group.Go(func() (err error) {
			workloads[i], err = b.lab.MakeWorkload(groupCtx, lab.WorkloadOptions{
				Namespace: namespace, Name: fmt.Sprintf("app-%d", i), On: victim, Patience: patience,
			})
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	for _, w := range workloads {
		if err := b.until(ctx, w, "it runs on "+victim+" with its client on record", func(ctx context.Context, w *lab.Workload) (bool, error) {
			node, err := w.RunsOn(ctx)
			if err != nil || node != victim {
				return false, err
			}
			clients, err := w.Recorded(ctx, victim)
			return len(clients) > 0, err
		}); err != nil {
			return nil, err
		}
	}
	return workloads, nil
}

func (b *bench) until(ctx context.Context, w *lab.Workload, what string, holds func(context.Context, *lab.Workload) (bool, error)) error {
	if err := wait.PollUntilContextTimeout(ctx, lookEvery, giveUp, true, func(ctx context.Context) (bool, error) { return holds(ctx, w) }); err != nil {
		return fmt.Errorf("waiting until %s (%s/%s): %w", what, w.Namespace, w.Name, err)
	}
	return nil
}

func terminating(ctx context.Context, w *lab.Workload) (bool, error) {
	pods, err := w.Pods(ctx)
	for i := range pods {
		if volume.Terminating(&pods[i]) {
			return true, nil
		}
	}
	return false, err
}

func (b *bench) attachedElsewhere(ctx context.Context, w *lab.Workload) (bool, error) {
	attachments, err := b.attachments(ctx, w)
	for _, va := range attachments {
		if va.Spec.NodeName != victim && va.Status.Attached {
			return true, nil
		}
	}
	return false, err
}

func (b *bench) attachments(ctx context.Context, w *lab.Workload) ([]storagev1.VolumeAttachment, error) {
	var list storagev1.VolumeAttachmentList
	if err := b.lab.Client.List(ctx, &list); err != nil {
		return nil, fmt.Errorf("listing VolumeAttachments: %w", err)
	}
	var own []storagev1.VolumeAttachment
	for _, va := range list.Items {
		if name, _ := volume.Attached(&va); name == w.Volume {
			own = append(own, va)
		}
	}
	return own, nil
}

// byHand is the old runbook at its quickest: without a fence, and without the minutes that a person needs.
func byHand(ctx context.Context, b *bench, w *lab.Workload) error {
	pods, err := w.Pods(ctx)
	if err != nil {
		return err
	}
	for i := range pods {
		if volume.Terminating(&pods[i]) {
			if err := b.lab.Client.Delete(ctx, &pods[i], client.GracePeriodSeconds(0)); client.IgnoreNotFound(err) != nil {
				return fmt.Errorf("force-deleting a pod: %w", err)
			}
		}
	}
	attachments, err := b.attachments(ctx, w)
	if err != nil {
		return err
	}
	for i := range attachments {
		if attachments[i].Spec.NodeName == victim {
			if err := b.lab.Client.Delete(ctx, &attachments[i]); client.IgnoreNotFound(err) != nil {
				return fmt.Errorf("deleting a VolumeAttachment: %w", err)
			}
		}
	}
	return nil
}

var taintLock sync.Mutex

// byTaint sets the out-of-service taint as soon as the first pod is Terminating.
func byTaint(ctx context.Context, b *bench, _ *lab.Workload) error {
	taintLock.Lock()
	defer taintLock.Unlock()
	node, err := b.lab.Node(ctx, victim)
	if err != nil {
		return err
	}
	before := node.DeepCopy()
	for _, taint := range node.Spec.Taints {
		if taint.Key == corev1.TaintNodeOutOfService {
			return nil
		}
	}
	node.Spec.Taints = append(node.Spec.Taints, corev1.Taint{Key: corev1.TaintNodeOutOfService, Value: "nodeshutdown", Effect: corev1.TaintEffectNoExecute})
	if err := b.lab.Client.Patch(ctx, node, client.MergeFrom(before)); err != nil {
		return fmt.Errorf("tainting node %s: %w", victim, err)
	}
	return nil
}

// phases reads rbd-rescue's own times of the incident; of several volumes the last counts.
func (b *bench) phases(ctx context.Context, deleted time.Time) (map[string]time.Duration, error) {
	var nf *v1alpha1.NodeFence
	err := wait.PollUntilContextTimeout(ctx, 100*time.Millisecond, time.Minute, true, func(ctx context.Context) (bool, error) {
		var fences v1alpha1.NodeFenceList
		if err := b.lab.Client.List(ctx, &fences); err != nil {
			return false, err
		}
		for i := range fences.Items {
			if fences.Items[i].Active() {
				nf = &fences.Items[i]
			}
		}
		return nf != nil && nf.Status.Phase == v1alpha1.PhaseRecovered, nil
	})
	if err != nil {
		return nil, fmt.Errorf("waiting for the NodeFence: %w", err)
	}
	var detached, attached *metav1.MicroTime
	for _, v := range nf.Status.Volumes {
		if detached == nil || detached.Before(v.ReleasedAt) {
			detached = v.ReleasedAt
		}
		if attached == nil || attached.Before(v.AttachedAt) {
			attached = v.AttachedAt
		}
	}
	t := nf.Status.Times
	if detached == nil || attached == nil || t.FencedAt == nil || t.FencingAt == nil {
		return nil, fmt.Errorf("NodeFence %s lacks times", nf.Name)
	}
	return map[string]time.Duration{
		phases[0]: t.FencingAt.Sub(deleted), phases[1]: t.FencedAt.Sub(t.FencingAt.Time),
		phases[2]: detached.Sub(t.FencedAt.Time), phases[3]: attached.Sub(detached.Time),
	}, nil
}

// heal ends the workloads and reboots the node.
func (b *bench) heal(ctx context.Context, namespace string) error {
	if err := b.lab.Client.Delete(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace}}); err != nil {
		return fmt.Errorf("deleting namespace %s: %w", namespace, err)
	}
	node, err := b.lab.Node(ctx, victim)
	if err != nil {
		return err
	}
	before := node.DeepCopy()
	var taints []corev1.Taint
	for _, taint := range node.Spec.Taints {
		if taint.Key != corev1.TaintNodeOutOfService {
			taints = append(taints, taint)
		}
	}
	node.Spec.Taints = taints
	if err := b.lab.Client.Patch(ctx, node, client.MergeFrom(before)); err != nil {
		return fmt.Errorf("removing the taint of node %s: %w", victim, err)
	}
	if err := b.lab.Nodes[victim].Reboot(ctx); err != nil {
		return err
	}
	return wait.PollUntilContextTimeout(ctx, 200*time.Millisecond, 3*time.Minute, true, func(ctx context.Context) (bool, error) {
		var pods corev1.PodList
		if err := b.lab.Client.List(ctx, &pods, client.InNamespace(namespace)); err != nil || len(pods.Items) > 0 {
			return false, err
		}
		node, err := b.lab.Node(ctx, victim)
		return err == nil && volume.Ready(node) && len(node.Spec.Taints) == 0, err
	})
}
