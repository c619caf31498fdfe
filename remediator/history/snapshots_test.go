package history

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"syscall"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"pgregory.net/rapid"

	"github.com/rbd-rescue/rbd-rescue/api/v1alpha1"
	"github.com/rbd-rescue/rbd-rescue/ceph"
)

// snapshots are what is true of safety snapshots.
type snapshots struct {
	// refused: rbd-rescue's user has no right to take any.
	refused bool
	// late are under way though nobody waits for them.
	late []lateSnapshot
	// attached is since when an attachment is there.
	attached map[types.UID]time.Time
	// wrote is when a machine last wrote to an image, by "image machine".
	wrote map[string]time.Time
	// spoiled says why a snapshot does not show what the fenced node has left, by name.
	spoiled map[string]string
	// counted are those that were seen to count, and releasing the volumes that were seen on their way.
	counted, releasing map[string]bool
}

type lateSnapshot struct {
	at    time.Time
	image ceph.Image
	name  string
}

func (w *world) snapshotPolicy(t *rapid.T) {
	w.annotate("shop", v1alpha1.AnnotationSnapshot, rapid.SampledFrom([]string{"required", "required", "best-effort", "off", ""}).Draw(t, "snapshot"))
}

// CreateSnapshot implements ceph.Conn.
func (c conn) CreateSnapshot(ctx context.Context, image ceph.Image, name string, cutOff []ceph.Address) error {
	w := c.world
	if err := w.process.write(fmt.Sprintf("take snapshot %s of %s", name, image)); err != nil {
		return err
	}
	w.process.lock.Lock()
	defer w.process.lock.Unlock()
	switch {
	case w.monsDown:
	case w.snapshots.refused:
		w.happened["snapshot refused"]++
		return &ceph.CommandError{Command: "create snapshot", Errno: syscall.EPERM}
	case w.doubt != "":
		if w.doubt == "late" {
			w.snapshots.late = append(w.snapshots.late, lateSnapshot{w.now().Add(w.lateBy), image, name})
		}
		return errHangs
	default:
		w.snapshotMade(image, name)
	}
	return c.Cluster.CreateSnapshot(ctx, image, name, cutOff)
}

// RemoveSnapshot implements ceph.Conn.
func (c conn) RemoveSnapshot(ctx context.Context, image ceph.Image, name string) error {
	w := c.world
	if err := w.process.write(fmt.Sprintf("remove snapshot %s of %s", name, image)); err != nil {
		return err
	}
	for _, nf := range activeFences(w.fences()) {
		for _, entry := range nf.Status.Volumes {
			if s := entry.Snapshot; s != nil && s.Name == name && s.State == v1alpha1.SnapshotTaken {
				w.broken("snapshot", "%s is removed while NodeFence %s is active", name, nf.Name)
			}
		}
	}
	if slices.Contains(w.ceph.Snapshots(image), name) {
		w.happened["snapshot removed"]++
	}
	return c.Cluster.RemoveSnapshot(ctx, image, name)
}

// arriveSnapshots lets those come that are due.
func (w *world) arriveSnapshots() {
	for _, s := range w.snapshots.late {
		if !s.at.After(w.now()) && !slices.Contains(w.ceph.Snapshots(s.image), s.name) {
			w.tell("snapshot %s of %s comes late", s.name, s.image)
			w.happened["snapshot came late"]++
			w.snapshotMade(s.image, s.name)
			w.ceph.AddSnapshot(s.image, s.name)
		}
	}
	w.snapshots.late = slices.DeleteFunc(w.snapshots.late, func(s lateSnapshot) bool { return !s.at.After(w.now()) })
}

// snapshotMade notes whether a snapshot that is made now holds another machine's writes since the fenced node has the volume.
func (w *world) snapshotMade(image ceph.Image, name string) {
	if isShared(image.Name) || slices.Contains(w.ceph.Snapshots(image), name) {
		return
	}
	delete(w.snapshots.spoiled, name)
	for _, nf := range w.fences() {
		for _, entry := range nf.Status.Volumes {
			if entry.Snapshot == nil || entry.Snapshot.Name != name {
				continue
			}
			va := w.attachmentOf(entry.PersistentVolume, nf.Spec.NodeName)
			if va == nil {
				w.snapshots.spoiled[name] = "the volume was not attached to " + nf.Spec.NodeName
				continue
			}
			for _, m := range w.machines {
				if at := w.snapshots.wrote[image.Name+" "+m.name]; m.name != nf.Spec.NodeName && at.After(w.snapshots.attached[va.UID]) {
					w.snapshots.spoiled[name] = fmt.Sprintf("%s wrote at %s", m.name, at.Format("15:04:05"))
				}
			}
		}
	}
}

// noteWrite is called for each write that Ceph takes. One of a client that was cut off before a snapshot was taken is missing there.
func (w *world) noteWrite(mp *mapping) {
	if mp.excused != "" || w.tampered[mp.client] || w.tampered[host(mp.client)] {
		return
	}
	w.snapshots.wrote[mp.image+" "+mp.machine.name] = w.now()
	for _, nf := range activeFences(w.fences()) {
		if nf.Spec.BootID != mp.machine.bootID() || nf.Annotations[v1alpha1.AnnotationLift] != "" {
			continue
		}
		for _, entry := range nf.Status.Volumes {
			if s := entry.Snapshot; entry.PersistentVolume == volumeOf(mp.image) && s != nil && s.State == v1alpha1.SnapshotTaken && cutOff(entry.Clients, mp.client) {
				w.broken("snapshot", "%s writes to %s as %s, which snapshot %s has not", mp.machine.name, mp.image, mp.client, s.Name)
			}
		}
	}
}

// checkSnapshots looks at what a NodeFence says of its snapshots, as its status is stored: one that counts shows what the fenced node
// has left, and nothing goes without one where it is required.
func (w *world) checkSnapshots(nf *v1alpha1.NodeFence) {
	for _, entry := range nf.Status.Volumes {
		taken := entry.Snapshot != nil && entry.Snapshot.State == v1alpha1.SnapshotTaken
		image := strings.TrimPrefix(entry.PersistentVolume, "pv-")
		if taken && !w.snapshots.counted[entry.Snapshot.Name] {
			name := entry.Snapshot.Name
			w.snapshots.counted[name] = true
			w.happened["snapshot taken"]++
			if !slices.Contains(w.ceph.Snapshots(ceph.Image{Pool: pools[image][0], Name: image}), name) {
				w.broken("snapshot", "%s counts, and is not there", name)
			}
			if why := w.snapshots.spoiled[name]; why != "" {
				w.broken("snapshot", "%s of %s counts, though %s", name, image, why)
			}
		}
		ns, _ := get[*corev1.Namespace](w.process.cache, "", strings.Split(entry.Claim, "/")[0])
		policy, _ := v1alpha1.ParsePolicy(ns.Annotations)
		required := policy.Snapshot == v1alpha1.SnapshotRequired
		if entry.Phase == v1alpha1.VolumeHeld && entry.Reason == v1alpha1.ReasonSnapshotFailed {
			w.happened["held for its snapshot"]++
		}
		if key := fmt.Sprint(nf.UID, entry.PersistentVolume, entry.ReleasingAt); entry.Phase == v1alpha1.VolumeReleasing && !w.snapshots.releasing[key] {
			w.snapshots.releasing[key] = true
			if required && !taken {
				w.broken("snapshot", "%s is released without a snapshot, which is required", entry.PersistentVolume)
			}
		}
	}
}

// snapshotsLeft is a snapshot that no NodeFence keeps.
func (w *world) snapshotsLeft() string {
	kept := map[string]bool{}
	for _, nf := range w.fences() {
		for _, entry := range nf.Status.Volumes {
			if entry.Snapshot != nil && entry.Snapshot.State == v1alpha1.SnapshotTaken {
				kept[entry.Snapshot.Name] = true
			}
		}
	}
	for image, in := range pools {
		for _, name := range w.ceph.Snapshots(ceph.Image{Pool: in[0], Name: image}) {
			if !kept[name] {
				return fmt.Sprintf("snapshot %s of %s is left", name, image)
			}
		}
	}
	return ""
}
