// Package auditor looks whether Ceph answers, and for blocklist entries that nobody answers for: those of a NodeFence whose
// finalizer somebody took away. It only reports.
package auditor

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rbd-rescue/rbd-rescue/api/v1alpha1"
	"github.com/rbd-rescue/rbd-rescue/ceph"
	"github.com/rbd-rescue/rbd-rescue/remediator/announce"
	"github.com/rbd-rescue/rbd-rescue/remediator/plan"
)

const (
	// every is how often it looks; again while a cluster does not answer.
	every, again = 10 * time.Minute, time.Minute
	// lookTimeout bounds one look at one cluster.
	lookTimeout = 30 * time.Second
)

// Auditor is run by the replica that leads.
type Auditor struct {
	// Reader reads NodeFences.
	Reader    client.Reader
	Clusters  *ceph.Clusters
	Announcer *announce.Announcer
	Clock     clock.WithTicker
	// Namespace is rbd-rescue's own, on which it reports.
	Namespace string
}

// Start looks until the context ends. It implements manager.Runnable.
func (a *Auditor) Start(ctx context.Context) error {
	for {
		wait := every
		for _, id := range a.Clusters.IDs() {
			if err := a.look(ctx, id); err != nil && ctx.Err() == nil {
				ctrl.LoggerFrom(ctx).Error(err, "Looking for blocklist entries that nobody answers for", "cluster", id)
				wait = again
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-a.Clock.After(wait):
		}
	}
}

func (a *Auditor) look(ctx context.Context, clusterID string) error {
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	var list v1alpha1.NodeFenceList
	if err := a.Reader.List(ctx, &list); err != nil {
		return fmt.Errorf("listing NodeFences: %w", err)
	}
	fences := make([]*v1alpha1.NodeFence, len(list.Items))
	for i := range list.Items {
		fences[i] = &list.Items[i]
	}
	m, err := a.readOSDMap(ctx, clusterID)
	setReachable(clusterID, err == nil)
	if err != nil {
		return err
	}
	unknown := plan.UnknownEntries(m, fences, a.Clock.Now())
	unknownEntries.WithLabelValues(clusterID).Set(float64(len(unknown)))
	if len(unknown) > 0 {
		a.Announcer.Announce(a.report(clusterID, unknown))
	}
	return nil
}

func (a *Auditor) readOSDMap(ctx context.Context, clusterID string) (ceph.OSDMap, error) {
	cluster, err := a.Clusters.Get(ctx, clusterID)
	if err != nil {
		return ceph.OSDMap{}, err
	}
	return cluster.ReadOSDMap(ctx)
}

func (a *Auditor) report(clusterID string, unknown []ceph.Address) plan.Event {
	texts := make([]string, len(unknown))
	for i, address := range unknown {
		texts[i] = address.String()
	}
	slices.Sort(texts)
	return plan.Event{
		Regarding: corev1.ObjectReference{APIVersion: "v1", Kind: "Namespace", Name: a.Namespace},
		Type:      corev1.EventTypeWarning, Reason: v1alpha1.ReasonUnknownEntries, Action: "Audit",
		Note: fmt.Sprintf("Ceph cluster %s has blocklist entries that last for months and that no NodeFence lists: %s. They are of a NodeFence that was removed by force, "+
			"or somebody else's (a person's, ceph-csi's). Once their boot is over: ceph osd blocklist rm ADDRESS.", clusterID, strings.Join(texts, ", ")),
	}
}
