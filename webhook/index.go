package webhook

import (
	"context"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"sync"
	"sync/atomic"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/rbd-rescue/rbd-rescue/api/v1alpha1"
	"github.com/rbd-rescue/rbd-rescue/volume"
)

// index keeps the held volumes ready for admission. It works only when a node has failed: what a failed node has is looked up
// by the node's name, and the result is kept until the node is Ready again, or gone with all that it had.
type index struct {
	reader reader

	// refreshing serialises the writers. It is kept while the caches are read, so that an older view of a node never
	// takes the place of a newer one.
	refreshing sync.Mutex
	byNode     map[string]volume.HeldClaims // every node that is not well, those that hold nothing as well
	filled     bool

	// held is what admission reads; nil until the first fill is done.
	held atomic.Pointer[volume.HeldClaims]
}

// reader reads Nodes, VolumeAttachments by node, PersistentVolumes and CSIDrivers, without a call of the API.
type reader interface {
	client.Reader
	NodesWithAttachments(ctx context.Context) ([]string, error)
}

func newIndex(reader reader) *index {
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
	attached, err := x.reader.NodesWithAttachments(ctx)
	if err != nil {
		return fmt.Errorf("finding the nodes with VolumeAttachments: %w", err)
	}
	inTrouble := map[string]bool{}
	for _, name := range attached { // also those that are gone
		inTrouble[name] = true
	}
	for i := range nodes.Items {
		inTrouble[nodes.Items[i].Name] = !volume.Ready(&nodes.Items[i])
	}
	for name, is := range inTrouble {
		if !is {
			continue
		}
		if err := x.refresh(ctx, name); err != nil {
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
		log.FromContext(ctx).Info("Node is not well, new pods that want its volumes are flagged", "node", node, "claims", len(held))
		x.byNode[node] = held
	} else {
		log.FromContext(ctx).Info("Node is well again, or gone", "node", node)
		delete(x.byNode, node)
	}
	x.publish()
	return nil
}

// heldBy reads which volumes a node holds; false if it is Ready, or gone with all that it had. One that has failed, or is gone,
// holds all that it has; one whose kubelet says that it is not Ready holds those which Kubernetes would let another node have
// as well.
func (x *index) heldBy(ctx context.Context, name string) (held volume.HeldClaims, notWell bool, err error) {
	var node corev1.Node
	gone := false
	if err := x.reader.Get(ctx, client.ObjectKey{Name: name}, &node); apierrors.IsNotFound(err) {
		gone = true
	} else if err != nil {
		return nil, false, fmt.Errorf("reading node %s: %w", name, err)
	}
	if !gone && volume.Ready(&node) {
		return nil, false, nil
	}
	_, failed := volume.Failed(&node)
	names, err := x.volumesOf(ctx, name, &node)
	if err != nil {
		return nil, false, err
	}
	held = volume.HeldClaims{}
	for _, pv := range names {
		v, err := x.rbdVolume(ctx, pv)
		if err != nil {
			return nil, false, err
		}
		if v.Claim.Name != "" && !v.ClaimGone && (failed || gone || v.Shared) {
			held[v.Claim] = append(held[v.Claim], v1alpha1.HeldVolume{Claim: v.Claim.String(), Volume: v.Name, Node: name, Shared: v.Shared})
		}
	}
	return held, !gone || len(held) > 0, nil
}

// volumesOf are the names, sorted, of the PersistentVolumes that a node has: attached to it, in use as it said last, or, as
// they may need no attachment, recorded for it.
func (x *index) volumesOf(ctx context.Context, name string, node *corev1.Node) ([]string, error) {
	var names []string
	var attachments storagev1.VolumeAttachmentList
	if err := x.reader.List(ctx, &attachments, client.MatchingFields{fieldNode: name}); err != nil {
		return nil, fmt.Errorf("listing the attachments of node %s: %w", name, err)
	}
	for i := range attachments.Items {
		if pv, attached := volume.Attached(&attachments.Items[i]); attached {
			names = append(names, pv)
		}
	}
	for _, unique := range node.Status.VolumesInUse {
		var pvs corev1.PersistentVolumeList
		if err := x.reader.List(ctx, &pvs, client.MatchingFields{fieldUniqueName: string(unique)}); err != nil {
			return nil, fmt.Errorf("finding the PersistentVolume of %s: %w", unique, err)
		}
		for i := range pvs.Items {
			names = append(names, pvs.Items[i].Name)
		}
	}
	if node.Name != "" { // of a node that is gone it may be as old as the volume
		recorded, err := x.recordedOn(ctx, name)
		if err != nil {
			return nil, err
		}
		names = append(names, recorded...)
	}
	slices.Sort(names)
	return slices.Compact(names), nil
}

// recordedOn are the PersistentVolumes without attachments whose record names a node. The record may be old, and the pod
// then wait for a moment: the remediator knows better.
func (x *index) recordedOn(ctx context.Context, node string) ([]string, error) {
	var pvs corev1.PersistentVolumeList
	if err := x.reader.List(ctx, &pvs, client.MatchingFields{fieldRecordedNode: node}); err != nil {
		return nil, fmt.Errorf("listing the PersistentVolumes that are recorded for node %s: %w", node, err)
	}
	var names []string
	for i := range pvs.Items {
		required, err := x.attachmentRequired(ctx, &pvs.Items[i])
		if err != nil {
			return nil, err
		}
		if !required {
			names = append(names, pvs.Items[i].Name)
		}
	}
	return names, nil
}

// rbdVolume reads a PersistentVolume; without a claim if it is not RBD's, or not there (yet: its event then brings us back). A
// volume of an unknown form is held as well.
func (x *index) rbdVolume(ctx context.Context, name string) (volume.Volume, error) {
	var pv corev1.PersistentVolume
	if err := x.reader.Get(ctx, client.ObjectKey{Name: name}, &pv); apierrors.IsNotFound(err) {
		return volume.Volume{}, nil
	} else if err != nil {
		return volume.Volume{}, fmt.Errorf("reading PersistentVolume %s: %w", name, err)
	}
	if !volume.IsRBD(&pv) {
		return volume.Volume{}, nil
	}
	v, _ := volume.Parse(&pv)
	required, err := x.attachmentRequired(ctx, &pv)
	if !required {
		v.NeedsNoAttachment()
	}
	return v, err
}

// attachmentRequired asks the CSIDriver of a volume; where there is none, attachment is required.
func (x *index) attachmentRequired(ctx context.Context, pv *corev1.PersistentVolume) (bool, error) {
	if pv.Spec.CSI == nil {
		return true, nil
	}
	var driver storagev1.CSIDriver
	if err := x.reader.Get(ctx, client.ObjectKey{Name: pv.Spec.CSI.Driver}, &driver); client.IgnoreNotFound(err) != nil {
		return true, fmt.Errorf("reading CSIDriver %s: %w", pv.Spec.CSI.Driver, err)
	}
	return volume.AttachmentRequired(&driver), nil
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
