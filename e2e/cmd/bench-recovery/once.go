//go:build librados

package main

import (
	"cmp"
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/apimachinery/pkg/watch"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rbd-rescue/rbd-rescue/api/v1alpha1"
	"github.com/rbd-rescue/rbd-rescue/e2e/lab"
	"github.com/rbd-rescue/rbd-rescue/volume"
)

// lookEvery is how often the lab is asked whether it is ready for a run; what is measured is watched.
const lookEvery = 200 * time.Millisecond

// controllersPeriod is the longest period in which one looks: the attach/detach controller resyncs once a minute.
const controllersPeriod = time.Minute

type bench struct {
	lab   *lab.Lab
	count int
}

// phases of rbd-rescue's way, in order, from one end to the other; of several volumes the last counts.
var phases = []string{
	"first deletion to fence begun", "fence begun to fence proven", "fence proven to release begun (the safety snapshot)", "release begun to detached",
	"detached to attached elsewhere",
}

// once fails the node under its workloads, measures, and brings the lab back to health.
func (b *bench) once(ctx context.Context, way way, volumes int) (result, error) {
	namespace := fmt.Sprintf("bench-%d", b.count)
	workloads, err := b.deploy(ctx, namespace, way, volumes)
	if err != nil {
		return result{}, err
	}
	at, err := b.measure(ctx, way, namespace, workloads)
	if err != nil {
		return result{}, err
	}
	r := result{took: at.attached.Sub(at.deleted)}
	if way.act == nil {
		if r.phases, err = b.phases(ctx, at); err != nil {
			return r, err
		}
	}
	return r, b.heal(ctx, namespace)
}

// seen is when a watch of the API showed the first pod Terminating, the last volume detached from the failed node, and the last one
// attached to another.
type seen struct{ deleted, detached, attached time.Time }

// measure kills the node, and watches until all volumes are attached elsewhere.
func (b *bench) measure(ctx context.Context, way way, namespace string, workloads []*lab.Workload) (at seen, err error) {
	ctx, cancel := context.WithTimeout(ctx, controllersPeriod+giveUp)
	defer cancel()
	byName, byVolume := map[string]*lab.Workload{}, map[string]*lab.Workload{}
	for _, w := range workloads {
		byName[w.Name], byVolume[w.Volume] = w, w
	}
	pods, err := b.lab.Client.Watch(ctx, &corev1.PodList{}, client.InNamespace(namespace))
	if err != nil {
		return at, fmt.Errorf("watching pods: %w", err)
	}
	defer pods.Stop()
	attachments, err := b.lab.Client.Watch(ctx, &storagev1.VolumeAttachmentList{})
	if err != nil {
		return at, fmt.Errorf("watching VolumeAttachments: %w", err)
	}
	defer attachments.Stop()
	if err := b.fail(ctx, way); err != nil {
		return at, err
	}
	group, groupCtx := errgroup.WithContext(ctx)
	deleted, attached := map[*lab.Workload]bool{}, map[*lab.Workload]bool{}
	for len(attached) < len(workloads) {
		select {
		case <-groupCtx.Done():
			return at, fmt.Errorf("of %d volumes %d were attached elsewhere: %w", len(workloads), len(attached), cmp.Or(group.Wait(), groupCtx.Err()))
		case event := <-pods.ResultChan():
			pod, is := event.Object.(*corev1.Pod)
			if !is {
				return at, fmt.Errorf("the watch of pods ended: %+v", event)
			}
			w := byName[pod.Labels["app"]]
			if w == nil || deleted[w] || !volume.Terminating(pod) {
				continue
			}
			if len(deleted) == 0 {
				at.deleted = time.Now()
			}
			deleted[w] = true
			if way.act != nil {
				group.Go(func() error { return way.act(groupCtx, b, w) })
			}
		case event := <-attachments.ResultChan():
			va, is := event.Object.(*storagev1.VolumeAttachment)
			if !is {
				return at, fmt.Errorf("the watch of VolumeAttachments ended: %+v", event)
			}
			name, _ := volume.Attached(va)
			switch w := byVolume[name]; {
			case w == nil:
			case va.Spec.NodeName == victim && event.Type == watch.Deleted:
				at.detached = time.Now()
			case va.Spec.NodeName != victim && va.Status.Attached:
				at.attached, attached[w] = time.Now(), true
			}
		}
	}
	return at, group.Wait()
}

// fail kills the node. Kubernetes' controllers look at some things once in a while only: without a wait that is another one each time
// these runs and the controllers would keep step, and ten runs be one.
func (b *bench) fail(ctx context.Context, way way) error {
	if way.act != nil {
		select {
		case <-time.After(rand.N(controllersPeriod)): //nolint:gosec // it is no secret
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return b.lab.Nodes[victim].Kill()
}

func (b *bench) deploy(ctx context.Context, namespace string, way way, volumes int) ([]*lab.Workload, error) {
	if err := b.lab.MakeNamespace(ctx, namespace, way.mode); err != nil {
		return nil, err
	}
	if err := b.lab.SetSnapshots(ctx, namespace, way.snapshot); err != nil {
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

// phases are between what was seen, and rbd-rescue's own times of what only it knows.
func (b *bench) phases(ctx context.Context, at seen) (map[string]time.Duration, error) {
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
	var releasing *metav1.MicroTime
	for _, v := range nf.Status.Volumes {
		releasing = later(releasing, v.ReleasingAt)
	}
	t := nf.Status.Times
	if releasing == nil || t.FencedAt == nil || t.FencingAt == nil {
		return nil, fmt.Errorf("NodeFence %s lacks times", nf.Name)
	}
	return map[string]time.Duration{
		phases[0]: t.FencingAt.Sub(at.deleted), phases[1]: t.FencedAt.Sub(t.FencingAt.Time), phases[2]: releasing.Sub(t.FencedAt.Time),
		phases[3]: at.detached.Sub(releasing.Time), phases[4]: at.attached.Sub(at.detached),
	}, nil
}

func later(a, b *metav1.MicroTime) *metav1.MicroTime {
	if a == nil || a.Before(b) {
		return b
	}
	return a
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
