package retention

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/rbd-rescue/rbd-rescue/api/v1alpha1"
	"github.com/rbd-rescue/rbd-rescue/remediator/plan"
)

// longEnough is how long a snapshot must have been seen to be too old before it is removed. It is measured by what has passed since then,
// not by the time of day, so that a clock which jumps forward, and is set right within that time, removes none.
const longEnough = time.Hour

// removal is a snapshot that is to be removed.
type removal struct {
	fence                  *v1alpha1.NodeFence
	clusterID, image, name string
	// because is empty for one that does not count, and of which nobody was told.
	because string
}

// view is what a decision is taken from.
type view struct {
	now      time.Time
	settings plan.Settings
	fences   []*v1alpha1.NodeFence
	// volumes are the PersistentVolumes that NodeFences list, by name.
	volumes map[string]*corev1.PersistentVolume
	// tooOldSince says since when a snapshot was seen to be too old, by its image and name.
	tooOldSince map[string]time.Time
}

// due gives the snapshots that are to be removed now:
//   - those that do not count: they may show another node's writes
//   - those of a volume that is being deleted: Ceph deletes no image that has a snapshot
//   - those of a NodeFence that is over and was deleted
//   - of a NodeFence that is over: those that are too many, the oldest first, and those that are too old
//
// No other is removed while its NodeFence is active, and none that is being taken.
func due(v view) []removal {
	var removals []removal
	for _, nf := range v.fences {
		for _, d := range nf.Status.Discarded {
			removals = append(removals, removal{nf, d.ClusterID, d.Image, d.Name, ""})
		}
	}
	ofImage := map[string]int{}
	tooOldSince := map[string]time.Time{}
	for _, t := range taken(v.fences) {
		key := t.entry.Snapshot.ClusterID + " " + t.entry.Image
		ofImage[key]++
		because := ""
		switch {
		case beingDeleted(v.volumes[t.entry.PersistentVolume]):
			because = fmt.Sprintf("PersistentVolume %s is being deleted", t.entry.PersistentVolume)
		case t.fence.Active():
		case t.fence.DeletionTimestamp != nil:
			because = "its NodeFence was deleted"
		case ofImage[key] > v.settings.SnapshotsPerImage:
			because = fmt.Sprintf("there are %d newer ones of the image", v.settings.SnapshotsPerImage)
		case v.now.Sub(t.entry.Snapshot.TakenAt.Time) > v.settings.SnapshotsKeptFor:
			seen := t.entry.Image + "@" + t.entry.Snapshot.Name
			since, is := v.tooOldSince[seen]
			if !is {
				since = v.now
			}
			tooOldSince[seen] = since
			if v.now.Sub(since) >= patience(v.settings) {
				because = fmt.Sprintf("it was kept for %s", v.settings.SnapshotsKeptFor)
			}
		}
		if because != "" {
			removals = append(removals, removal{t.fence, t.entry.Snapshot.ClusterID, t.entry.Image, t.entry.Snapshot.Name, because})
		}
	}
	clear(v.tooOldSince)
	maps.Copy(v.tooOldSince, tooOldSince)
	return removals
}

func patience(settings plan.Settings) time.Duration {
	return min(longEnough, settings.SnapshotsKeptFor)
}

type takenSnapshot struct {
	fence *v1alpha1.NodeFence
	entry v1alpha1.FencedVolume
}

// taken are the snapshots that are there, the newest first.
func taken(fences []*v1alpha1.NodeFence) []takenSnapshot {
	var all []takenSnapshot
	for _, nf := range fences {
		for _, entry := range nf.Status.Volumes {
			if s := entry.Snapshot; s != nil && s.State == v1alpha1.SnapshotTaken && s.TakenAt != nil {
				all = append(all, takenSnapshot{nf, entry})
			}
		}
	}
	slices.SortStableFunc(all, func(a, b takenSnapshot) int {
		return cmp.Or(b.entry.Snapshot.TakenAt.Compare(a.entry.Snapshot.TakenAt.Time), cmp.Compare(a.entry.Snapshot.Name, b.entry.Snapshot.Name))
	})
	return all
}

// beingDeleted tells whether somebody waits for the image to be deleted. One that is gone tells nothing: its image may be meant to stay.
func beingDeleted(pv *corev1.PersistentVolume) bool {
	if pv == nil || pv.Spec.PersistentVolumeReclaimPolicy != corev1.PersistentVolumeReclaimDelete {
		return false
	}
	return pv.DeletionTimestamp != nil || pv.Status.Phase == corev1.VolumeReleased || pv.Status.Phase == corev1.VolumeFailed
}
