package archivist

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/util/workqueue"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/rbd-rescue/rbd-rescue/api/v1alpha1"
)

const (
	// sweepEvery is how often volumes are looked at that did not change: somebody may have removed what their images had.
	sweepEvery = 24 * time.Hour
	// waitingAtMost bounds how many volumes of a sweep wait at a time. A queue of all volumes of a large cluster would take as
	// much memory as the cache of them (docs/benchmarks.md). What fails or is refused waits besides, at most as many as have their
	// turn within refusedAgain: then they take all turns, and the sweep waits.
	waitingAtMost = 100
)

type queue = workqueue.TypedRateLimitingInterface[reconcile.Request]

// sweep queues the volumes of all namespaces that opted in, a few at a time, at the start and then every day, until ctx ends.
func (c *Controller) sweep(ctx context.Context, q queue) {
	for ctx.Err() == nil {
		pause := sweepEvery
		if err := c.sweepOnce(ctx, q); err != nil && ctx.Err() == nil {
			ctrl.LoggerFrom(ctx).Error(err, "Looking through all volumes for manifests that are not with their images")
			pause = time.Minute
		}
		select {
		case <-ctx.Done():
		case <-time.After(pause):
		}
	}
}

func (c *Controller) sweepOnce(ctx context.Context, q queue) error {
	var namespaces corev1.NamespaceList
	if err := c.Client.List(ctx, &namespaces); err != nil {
		return fmt.Errorf("listing namespaces: %w", err)
	}
	for i := range namespaces.Items {
		requests, err := c.ofOptedIn(ctx, &namespaces.Items[i])
		if err != nil {
			return err
		}
		for _, request := range requests {
			room := func(context.Context) (bool, error) { return q.Len() < waitingAtMost, nil }
			if err := wait.PollUntilContextCancel(ctx, time.Second, true, room); err != nil {
				return fmt.Errorf("waiting for the queue: %w", err)
			}
			q.Add(request)
		}
	}
	return nil
}

// ofOptedIn are the volumes of a namespace's claims, if it has opted in.
func (c *Controller) ofOptedIn(ctx context.Context, namespace client.Object) ([]reconcile.Request, error) {
	policy, _ := v1alpha1.ParsePolicy(namespace.GetAnnotations()) // a meaningless value gives the zero policy
	if !policy.OptedIn() {
		return nil, nil
	}
	var claims corev1.PersistentVolumeClaimList
	if err := c.Client.List(ctx, &claims, client.InNamespace(namespace.GetName()), client.UnsafeDisableDeepCopy); err != nil {
		return nil, fmt.Errorf("listing the claims of namespace %s: %w", namespace.GetName(), err)
	}
	var requests []reconcile.Request
	for i := range claims.Items {
		requests = append(requests, ofClaim(ctx, &claims.Items[i])...)
	}
	return requests, nil
}
