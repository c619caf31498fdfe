package plan

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/rbd-rescue/rbd-rescue/api/v1alpha1"
	"github.com/rbd-rescue/rbd-rescue/ceph"
)

const (
	// snapshotPatience is how long the release of a volume waits for a snapshot that is not required, from the first ask on. One
	// took 0.4–1.1 s, which is the monitors' interval (docs/benchmarks.md).
	snapshotPatience = 3 * time.Second
	// snapshotTakeover is until when, from the first ask on, a process asks for one that another has asked for and not heard of, as it
	// crashed or lost its lease (15 s). After that none is waited for: what crashes each process that asks must hold no volume for ever.
	snapshotTakeover = time.Minute
	// snapshotTimeout bounds an ask for one that is required. The other volumes of the node wait that long for the next look.
	snapshotTimeout = 10 * time.Second
	// DiscardedFor is how long a snapshot may still come that its caller has given up: some twenty operations, of which Ceph's own
	// limit ends each (ceph/librados), with a margin.
	DiscardedFor = 10 * time.Minute
)

// settleSnapshot tells whether a volume whose clients are proven to be cut off in this look may be released, as far as its safety
// snapshot goes, and asks for the one that is missing:
//   - off: it may
//   - the snapshot is there, and the API itself showed after that that the volume had not left the node: taken, it may
//   - required: it may not; asked for again, ever more seldom
//   - else: it may once it is known that there will be none, or after snapshotPatience; a process that has not asked itself asks once
//     before (S8), until snapshotTakeover
//
// Nothing is released before that, so that what is taken meanwhile shows what the fenced node has left and nothing else: another
// node gets the volume only once that attachment is gone. Of a volume that several nodes may have at once it shows what all have
// written until then.
func (d *draft) settleSnapshot(entry *v1alpha1.FencedVolume, v Volume) bool {
	policy := d.s.Policies[v.Claim.Namespace].Snapshot
	if policy == v1alpha1.SnapshotOff {
		d.discard(entry)
		entry.Snapshot = nil
		return true
	}
	name := snapshotName(d.s.Fence, *entry)
	if entry.Snapshot == nil || entry.Snapshot.Name != name {
		d.discard(entry)
		entry.Snapshot = &v1alpha1.SafetySnapshot{Name: name, State: v1alpha1.SnapshotPending, ClusterID: v.ClusterID, AskedAt: d.now()}
	}
	snapshot := entry.Snapshot
	if snapshot.AskedAt.After(d.s.Now) { // the clock was set back
		snapshot.AskedAt = d.now()
	}
	switch {
	case snapshot.State == v1alpha1.SnapshotTaken:
		return true
	case slices.Contains(v.Use.Snapshots, name) && unmoved(*entry, v) && !discarded(d.status, *entry): // also if it was given up in this very look
		d.snapshotTaken(entry, v)
		return true
	}
	why, failed := d.snapshotFailure(*entry, v)
	if policy != v1alpha1.SnapshotRequired {
		age := d.s.Now.Sub(snapshot.AskedAt.Time)
		late, unheard := age > snapshotPatience && v.SnapshotTried.Name == name, age > snapshotTakeover
		if failed || late || unheard {
			switch {
			case failed:
			case late:
				why = fmt.Sprintf("Ceph has not taken it within %s", snapshotPatience)
			default:
				why = fmt.Sprintf("the remediator that asked Ceph for it was not there to see it taken, nor was another within %s", snapshotTakeover)
			}
			snapshot.State, snapshot.Message = v1alpha1.SnapshotFailed, why
			d.without = append(d.without, *entry)
			if !failed || slices.Contains(v.Use.Snapshots, name) || errors.Is(v.SnapshotTried.Err, ceph.ErrInDoubt) {
				d.discard(entry)
			}
			return true
		}
	} else if failed || v.SnapshotTried.Name == name && v.SnapshotTried.Err != nil {
		d.snapshotHolds(entry, v, why)
	}
	if failed && v.SnapshotTried.Name != name { // it can't be asked for as things are
		return false
	}
	d.askForSnapshot(entry, v, policy)
	return false
}

// unmoved tells whether no other node can have written before the snapshot was seen.
func unmoved(entry v1alpha1.FencedVolume, v Volume) bool {
	return v.Shared || entry.Attachment != "" && v.AttachedAfter == entry.Attachment
}

// snapshotFailure says why there is no snapshot; failed is false while it may still come.
func (d *draft) snapshotFailure(entry v1alpha1.FencedVolume, v Volume) (why string, failed bool) {
	tried := v.SnapshotTried
	switch {
	case discarded(d.status, entry):
		return "one of its name was given up before, and Ceph may take that for some minutes yet", true
	case !v.Shared && entry.Attachment == "", slices.Contains(v.Use.Snapshots, entry.Snapshot.Name):
		return fmt.Sprintf("Kubernetes has begun to detach it from node %s, so that nothing proves that a snapshot would show what that node has left, and not another node's writes",
			d.s.NodeName), true
	case tried.Name != entry.Snapshot.Name || tried.Err == nil:
		return "", false
	default:
		return tried.Err.Error(), !errors.Is(tried.Err, ceph.ErrInDoubt)
	}
}

func (d *draft) snapshotTaken(entry *v1alpha1.FencedVolume, v Volume) {
	entry.Snapshot.State, entry.Snapshot.Message, entry.Snapshot.TakenAt = v1alpha1.SnapshotTaken, "", d.now()
	d.announceVolume(v.Volume, normal, v1alpha1.ReasonSnapshotTaken, "Snapshot", fmt.Sprintf(
		"Took safety snapshot %s@%s of claim %s: it shows what fenced node %s has left.", v.ImageName(), entry.Snapshot.Name, v.Claim, d.s.NodeName))
}

// snapshotHolds says that the volume waits for its snapshot, and how a person can go on.
func (d *draft) snapshotHolds(entry *v1alpha1.FencedVolume, v Volume, why string) {
	snapshot := entry.Snapshot
	if snapshot.State != v1alpha1.SnapshotFailed || snapshot.Message != why {
		d.announceVolume(v.Volume, warning, v1alpha1.ReasonSnapshotFailed, "Snapshot", fmt.Sprintf(
			"Claim %s (image %s) is not released from fenced node %s: there is no safety snapshot of it, which its namespace requires: %s. "+
				"It is tried again. To go on without: kubectl annotate --overwrite namespace %s %s=%s",
			v.Claim, v.ImageName(), d.s.NodeName, why, v.Claim.Namespace, v1alpha1.AnnotationSnapshot, v1alpha1.SnapshotBestEffort))
	}
	snapshot.State, snapshot.Message = v1alpha1.SnapshotFailed, why
	entry.Reason, entry.Message = v1alpha1.ReasonSnapshotFailed, "waits for its safety snapshot, which its namespace requires: "+why
}

// tellWithout says once which volumes are released without a snapshot: a right that is missing is missing for all.
func (d *draft) tellWithout() {
	if len(d.without) == 0 {
		return
	}
	var claims []string
	for _, entry := range d.without {
		claims = append(claims, entry.Claim)
	}
	d.announceFence(warning, v1alpha1.ReasonSnapshotFailed, "Snapshot", fmt.Sprintf(
		"There is no safety snapshot of %s; they are released from fenced node %s all the same, as none is required: %s. "+
			"To have none released without: kubectl annotate namespace NAMESPACE %s=%s; to have none taken: %s=%s",
		strings.Join(claims, ", "), d.s.NodeName, d.without[0].Snapshot.Message,
		v1alpha1.AnnotationSnapshot, v1alpha1.SnapshotRequired, v1alpha1.AnnotationSnapshot, v1alpha1.SnapshotOff))
}

// askForSnapshot asks at once for the first time, and then after a while. From then on the clients stay cut off: what they wrote
// later, the snapshot would not have.
func (d *draft) askForSnapshot(entry *v1alpha1.FencedVolume, v Volume, policy v1alpha1.SnapshotPolicy) {
	d.keep(v, entry.Clients)
	if entry.Reason == v1alpha1.ReasonWaiting {
		entry.Message = "waits for its safety snapshot"
	}
	if tried := v.SnapshotTried; tried.Name == entry.Snapshot.Name {
		age := d.s.Now.Sub(entry.Snapshot.AskedAt.Time)
		if next := tried.At.Add(min(max(age/4, time.Second), 30*time.Second)); next.After(d.s.Now) && !tried.At.After(d.s.Now) {
			d.look(next.Sub(d.s.Now))
			return
		}
	}
	step := TakeSnapshot{
		PersistentVolume: v.Name, ClusterID: v.ClusterID, Image: ceph.Image{Pool: v.Pool, Namespace: v.Namespace, Name: v.Image},
		Name: entry.Snapshot.Name, Within: snapshotPatience,
	}
	if policy == v1alpha1.SnapshotRequired {
		step.Within = snapshotTimeout
	}
	if va := attachmentTo(d.s.NodeName, v); va != nil && !v.Shared {
		step.Attachment, step.AttachmentUID = va.Name, va.UID
	}
	for _, text := range entry.Clients {
		if address, err := ceph.ParseAddress(text); err == nil {
			step.CutOff = append(step.CutOff, address)
		}
	}
	d.steps = append(d.steps, step)
	d.look(immediately)
}

// snapshotName is another one for another attachment, and for other clients: what those of before have left is not what these have.
func snapshotName(nf *v1alpha1.NodeFence, entry v1alpha1.FencedVolume) string {
	seed := []string{string(nf.UID), string(entry.Attachment)}
	if entry.Attachment == "" && entry.DemandedAt != nil {
		seed = append(seed, fmt.Sprint(entry.DemandedAt.UnixMicro()))
	}
	seed = append(seed, slices.Sorted(slices.Values(entry.Clients))...)
	sum := sha256.Sum256([]byte(strings.Join(seed, "\n")))
	const maxFence = 200
	return v1alpha1.SnapshotPrefix + nf.Name[:min(len(nf.Name), maxFence)] + "-" + hex.EncodeToString(sum[:4])
}

// discard has the snapshot of a volume removed: it does not count, be it there or not.
func (d *draft) discard(entry *v1alpha1.FencedVolume) {
	snapshot := entry.Snapshot
	if snapshot == nil || snapshot.State == v1alpha1.SnapshotRemoved || discarded(d.status, *entry) {
		return
	}
	d.status.Discarded = append(d.status.Discarded, v1alpha1.DiscardedSnapshot{
		ClusterID: snapshot.ClusterID, Image: entry.Image, Name: snapshot.Name, DiscardedAt: *d.now(),
	})
}

// giveUpSnapshots ends what is under way when the incident ends.
func (d *draft) giveUpSnapshots() {
	for i := range d.status.Volumes {
		entry := &d.status.Volumes[i]
		if s := entry.Snapshot; s != nil && s.State != v1alpha1.SnapshotTaken && s.State != v1alpha1.SnapshotRemoved {
			d.discard(entry)
			s.State = v1alpha1.SnapshotFailed
		}
	}
}

// discarded tells whether the snapshot of a volume does not count, and is being removed.
func discarded(status v1alpha1.NodeFenceStatus, entry v1alpha1.FencedVolume) bool {
	return slices.ContainsFunc(status.Discarded, func(other v1alpha1.DiscardedSnapshot) bool {
		return other.Image == entry.Image && other.Name == entry.Snapshot.Name
	})
}

// HasSnapshots tells whether a NodeFence may have snapshots in Ceph.
func HasSnapshots(nf *v1alpha1.NodeFence) bool {
	return len(nf.Status.Discarded) > 0 || slices.ContainsFunc(nf.Status.Volumes, func(entry v1alpha1.FencedVolume) bool {
		return entry.Snapshot != nil && (entry.Snapshot.State == v1alpha1.SnapshotTaken || entry.Snapshot.State == v1alpha1.SnapshotPending)
	})
}
