package webhook

import (
	"context"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/rbd-rescue/rbd-rescue/api/v1alpha1"
	"github.com/rbd-rescue/rbd-rescue/volume"
)

// index keeps the held volumes ready for admission. It works only when a node has failed: a failed node's attachments
// are looked up by the node's name, and the result is kept until the node is Ready again or gone.
type index struct {
	// reader reads Nodes, VolumeAttachments by node, and PersistentVolumes from the informers' caches.
	reader client.Reader

	// refreshing serialises the writers. It is kept while the caches are read, so that an older view of a node never
	// takes the place of a newer one.
	refreshing sync.Mutex
	byNode     map[string]volume.HeldClaims // every failed node, those that hold nothing as well
	filled     bool

	// held is what admission reads; nil until the first fill is done.
	held atomic.Pointer[volume.HeldClaims]
}

func newIndex(reader client.Reader) *index {
	return &index{reader: reader, byNode: map[string]volume.HeldClaims{}}
}

// Held are the volumes that failed nodes hold, for one atomic load; false until fill is done. The result is shared: it
// is read, never changed.
func (x *index) Held() (volume.HeldClaims, bool) {
	held := x.held.Load()
	if held == nil {
		return nil, false
	}
	return *held, true
}

// Reconcile looks again at the node that the request names.
func (x *index) Reconcile(ctx context.Context, req reconcile.Request) (reconcile.Result, error) {
	x.refreshing.Lock()
	defer x.refreshing.Unlock()
	return reconcile.Result{}, x.refresh(ctx, req.Name)
}

// fill looks at every failed node once and then lets admission see the index. The caches have to be synced before.
func (x *index) fill(ctx context.Context) error {
	x.refreshing.Lock()
	defer x.refreshing.Unlock()
	var nodes corev1.NodeList
	if err := x.reader.List(ctx, &nodes); err != nil {
		return fmt.Errorf("listing nodes: %w", err)
	}
	for i := range nodes.Items {
		if _, failed := volume.Failed(&nodes.Items[i]); !failed {
			continue
		}
		if err := x.refresh(ctx, nodes.Items[i].Name); err != nil {
			return err
		}
	}
	x.filled = true
	x.publish()
	return nil
}

// refresh brings byNode up to date for one node, and publishes what changed. refreshing is locked.
func (x *index) refresh(ctx context.Context, node string) error {
	held, failed, err := x.heldBy(ctx, node)
	if err != nil {
		return err
	}
	before, known := x.byNode[node]
	if failed == known && reflect.DeepEqual(before, held) {
		return nil
	}
	if failed {
		log.FromContext(ctx).Info("Node has failed, new pods that want its volumes are flagged", "node", node, "claims", len(held))
		x.byNode[node] = held
	} else {
		log.FromContext(ctx).Info("Node is no longer failed, or gone", "node", node)
		delete(x.byNode, node)
	}
	x.publish()
	return nil
}

// heldBy reads which volumes a node holds; false if it has not failed, or is gone.
func (x *index) heldBy(ctx context.Context, name string) (volume.HeldClaims, bool, error) {
	var node corev1.Node
	if err := x.reader.Get(ctx, client.ObjectKey{Name: name}, &node); apierrors.IsNotFound(err) {
		return nil, false, nil
	} else if err != nil {
		return nil, false, fmt.Errorf("reading node %s: %w", name, err)
	}
	if _, failed := volume.Failed(&node); !failed {
		return nil, false, nil
	}
	var attachments storagev1.VolumeAttachmentList
	if err := x.reader.List(ctx, &attachments, client.MatchingFields{fieldNode: name}); err != nil {
		return nil, false, fmt.Errorf("listing the attachments of node %s: %w", name, err)
	}
	var failure error
	held := volume.HeldClaims{}
	for _, v := range volume.Held(attachments.Items, func(pv string) *corev1.PersistentVolume {
		read, err := x.persistentVolume(ctx, pv)
		if err != nil {
			failure = err
		}
		return read
	}) {
		if v.Claim != (types.NamespacedName{}) {
			held[v.Claim] = append(held[v.Claim], v1alpha1.HeldVolume{Claim: v.Claim.String(), Volume: v.Name, Node: name, Shared: v.Shared})
		}
	}
	if failure != nil {
		return nil, false, failure
	}
	for _, volumes := range held { // the order of the cache's lists is random
		slices.SortFunc(volumes, func(a, b v1alpha1.HeldVolume) int { return strings.Compare(a.Volume, b.Volume) })
	}
	return held, true, nil
}

// persistentVolume reads a PersistentVolume; nil if it is not there (yet: its event then brings us back).
func (x *index) persistentVolume(ctx context.Context, name string) (*corev1.PersistentVolume, error) {
	var pv corev1.PersistentVolume
	if err := x.reader.Get(ctx, client.ObjectKey{Name: name}, &pv); apierrors.IsNotFound(err) {
		return nil, nil
	} else if err != nil {
		return nil, fmt.Errorf("reading PersistentVolume %s: %w", name, err)
	}
	return &pv, nil
}

// publish swaps in what admission reads. Its cost is that of the held volumes, not of the cluster.
func (x *index) publish() {
	if !x.filled {
		return
	}
	merged := volume.HeldClaims{}
	for _, node := range slices.Sorted(maps.Keys(x.byNode)) {
		for claim, volumes := range x.byNode[node] {
			merged[claim] = append(slices.Clip(merged[claim]), volumes...)
		}
	}
	x.held.Store(&merged)
	heldClaims.Set(float64(len(merged)))
}
