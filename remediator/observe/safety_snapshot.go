package observe

import (
	"context"
	"fmt"
	"slices"

	storagev1 "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rbd-rescue/rbd-rescue/api/v1alpha1"
	"github.com/rbd-rescue/rbd-rescue/remediator/plan"
)

// attachedAfter asks the API itself, after Ceph has shown a safety snapshot, whether the volume has left the node by then: a cache that
// is old would let one count that shows another node's writes.
func (o *Observer) attachedAfter(ctx context.Context, s *plan.Snapshot) error {
	for i := range s.Volumes {
		v := &s.Volumes[i]
		if v.Shared || !awaited(s.Fence, *v) {
			continue
		}
		for _, va := range v.Attachments {
			if va.Spec.NodeName != s.NodeName {
				continue
			}
			uid, err := AttachmentNow(ctx, o.Live, va.Name)
			if err != nil {
				return err
			}
			v.AttachedAfter = uid
		}
	}
	return nil
}

// awaited tells whether Ceph shows a safety snapshot of a volume that is not known to count yet.
func awaited(nf *v1alpha1.NodeFence, v plan.Volume) bool {
	return slices.ContainsFunc(nf.Status.Volumes, func(e v1alpha1.FencedVolume) bool {
		return e.PersistentVolume == v.Name && e.Phase == v1alpha1.VolumeHeld && e.Snapshot != nil &&
			e.Snapshot.State != v1alpha1.SnapshotTaken && slices.Contains(v.Use.Snapshots, e.Snapshot.Name)
	})
}

// AttachmentNow is the UID of a VolumeAttachment, by the API's own word; empty if it is gone.
func AttachmentNow(ctx context.Context, live client.Reader, name string) (types.UID, error) {
	var va storagev1.VolumeAttachment
	if err := live.Get(ctx, client.ObjectKey{Name: name}, &va); err != nil {
		if apierrors.IsNotFound(err) {
			return "", nil
		}
		return "", fmt.Errorf("reading VolumeAttachment %s: %w", name, err)
	}
	return va.UID, nil
}
