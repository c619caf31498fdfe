// Package remediator reacts to failed nodes: it records clients while nodes are healthy, turns a failure into a NodeFence,
// fences, releases, follows the recovery and lifts. This file is the one list of what runs; the decisions are in plan.
package remediator

import (
	"context"
	"errors"
	"fmt"
	"time"

	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/manager"

	"github.com/rbd-rescue/rbd-rescue/api/v1alpha1"
	"github.com/rbd-rescue/rbd-rescue/ceph"
	"github.com/rbd-rescue/rbd-rescue/remediator/announce"
	"github.com/rbd-rescue/rbd-rescue/remediator/archivist"
	"github.com/rbd-rescue/rbd-rescue/remediator/auditor"
	"github.com/rbd-rescue/rbd-rescue/remediator/detector"
	"github.com/rbd-rescue/rbd-rescue/remediator/flagger"
	"github.com/rbd-rescue/rbd-rescue/remediator/observe"
	"github.com/rbd-rescue/rbd-rescue/remediator/plan"
	"github.com/rbd-rescue/rbd-rescue/remediator/recorder"
	"github.com/rbd-rescue/rbd-rescue/remediator/rescuer"
	"github.com/rbd-rescue/rbd-rescue/remediator/retention"
)

// Options of the remediator.
type Options struct {
	// Clusters are the configured Ceph clusters.
	Clusters *ceph.Clusters
	// Clock is the real one but in tests.
	Clock clock.WithTicker
	// Namespace is rbd-rescue's own: an annotation there pauses it.
	Namespace string
	Settings  plan.Settings
	// Boundary is that of the rescuer; nil but in tests.
	Boundary func(name string)
}

// Validate names what is missing.
func (o Options) Validate() error {
	if o.Clusters == nil || len(o.Clusters.IDs()) == 0 {
		return errors.New("no Ceph cluster is configured: list at least one under cephClusters")
	}
	if o.Clock == nil {
		return errors.New("no clock is given")
	}
	return o.Settings.Validate()
}

// Add wires everything that the remediator runs into a manager.
func Add(ctx context.Context, mgr ctrl.Manager, options Options) error {
	if err := options.Validate(); err != nil {
		return err
	}
	for object := range CacheOptions().ByObject { // before the start, so that no look-up meets a kind that is not cached
		informer, err := mgr.GetCache().GetInformer(ctx, object, cache.BlockUntilSynced(false))
		if err != nil {
			return fmt.Errorf("making the cache of %T: %w", object, err)
		}
		if err := heard.of(object, informer); err != nil {
			return err
		}
	}
	if err := observe.AddIndexes(ctx, mgr.GetFieldIndexer()); err != nil {
		return err
	}
	stores, err := observe.NewStores(ctx, mgr.GetCache())
	if err != nil {
		return err
	}
	observer := &observe.Observer{
		Reader: mgr.GetClient(), Live: mgr.GetAPIReader(), Stores: stores, Clusters: options.Clusters, Clock: options.Clock, Namespace: options.Namespace,
		Settings: options.Settings,
	}
	announcer := announce.New(mgr.GetEventRecorder(v1alpha1.FieldManager), options.Clock)
	for _, controller := range []interface{ AddTo(ctrl.Manager) error }{
		&recorder.Controller{Client: mgr.GetClient(), Observer: observer, Clusters: options.Clusters, Clock: options.Clock},
		&archivist.Controller{
			Client: mgr.GetClient(), Live: mgr.GetAPIReader(), Clusters: options.Clusters, Announcer: announcer, Clock: options.Clock,
			Namespace: options.Namespace,
		},
		&flagger.Controller{Client: mgr.GetClient(), Live: mgr.GetAPIReader(), Observer: observer, Announcer: announcer},
		&detector.Controller{Client: mgr.GetClient(), Observer: observer, Announcer: announcer},
		&rescuer.Controller{
			Client: mgr.GetClient(), Live: mgr.GetAPIReader(), Observer: observer, Clusters: options.Clusters, Announcer: announcer,
			Boundary: options.Boundary,
		},
		&retention.Controller{
			Client: mgr.GetClient(), Live: mgr.GetAPIReader(), Clusters: options.Clusters, Announcer: announcer, Clock: options.Clock, Settings: options.Settings,
		},
	} {
		if err := controller.AddTo(mgr); err != nil {
			return err
		}
	}
	audit := &auditor.Auditor{
		Reader: mgr.GetClient(), Clusters: options.Clusters, Announcer: announcer, Clock: options.Clock, Namespace: options.Namespace,
	}
	if err := mgr.Add(audit); err != nil {
		return fmt.Errorf("adding the auditor: %w", err)
	}
	if err := mgr.Add(connectEarly(options.Clusters)); err != nil {
		return fmt.Errorf("adding the early connection to Ceph: %w", err)
	}
	return nil
}

// connectEarly connects to every cluster at the start, so that a wrong key or address is told in the log before the first
// failure, and the first fence does not wait for a connection. What fails is tried again when it is needed.
func connectEarly(clusters *ceph.Clusters) manager.RunnableFunc {
	return func(ctx context.Context) error {
		for _, id := range clusters.IDs() {
			ctx, cancel := context.WithTimeout(ctx, 15*time.Second)
			if _, err := clusters.Get(ctx, id); err != nil {
				ctrl.LoggerFrom(ctx).Error(err, "Connecting to Ceph", "cluster", id)
			}
			cancel()
		}
		return nil
	}
}
