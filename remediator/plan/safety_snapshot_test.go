package plan

import (
	"fmt"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"

	"github.com/rbd-rescue/rbd-rescue/api/v1alpha1"
	"github.com/rbd-rescue/rbd-rescue/ceph"
)

func snapshots(policy v1alpha1.SnapshotPolicy) option {
	return func(s *Snapshot) {
		s.Policies["shop"] = v1alpha1.Policy{Mode: v1alpha1.ModeRescue, Snapshot: policy}
	}
}

// asked follows proven: the snapshot is asked for.
func asked(policy v1alpha1.SnapshotPolicy) option {
	return func(s *Snapshot) {
		proven(s)
		snapshots(policy)(s)
		s.Fence.Status = Next(*s).Status
	}
}

// there: Ceph shows the snapshot that was asked for, and after that the API this attachment.
func there(s *Snapshot) {
	s.Volumes[0].Use.Snapshots = []string{"somebody's", snapshotOf(*s).Name}
	s.Volumes[0].AttachedAfter = s.Volumes[0].Attachments[0].UID
}

func snapshotOf(s Snapshot) v1alpha1.SafetySnapshot { return *s.Fence.Status.Volumes[0].Snapshot }

// tried: the ask has ended a while ago.
func tried(ago time.Duration, err error) option {
	return func(s *Snapshot) {
		s.Volumes[0].SnapshotTried = SnapshotAttempt{Name: snapshotOf(*s).Name, At: s.Now.Add(-ago), Err: err}
	}
}

func after(d time.Duration) option { return func(s *Snapshot) { s.Now = s.Now.Add(d) } }

var (
	errNoRight = &ceph.CommandError{Command: "create snapshot", Errno: syscall.EPERM}
	errNoWord  = fmt.Errorf("no answer in time: %w", ceph.ErrInDoubt)
)

// snapshotEffect is what a decision is about the safety snapshot and the release of its volume.
type snapshotEffect struct {
	Volume, Snapshot string
	Discarded        int
	Steps            []string
	Events           []string
}

func snapshotEffectOf(d Decision) snapshotEffect {
	e := snapshotEffect{Discarded: len(d.Status.Discarded), Events: reasons(d.Events)}
	for _, step := range d.Steps {
		e.Steps = append(e.Steps, Kind(step))
	}
	for _, v := range d.Status.Volumes {
		e.Volume = strings.TrimSpace(string(v.Phase) + " " + v.Reason)
		if v.Snapshot != nil {
			e.Snapshot = string(v.Snapshot.State)
		}
	}
	return e
}

func TestASafetySnapshotComesBeforeTheRelease(t *testing.T) {
	t.Parallel()
	const (
		required, bestEffort, off = v1alpha1.SnapshotRequired, v1alpha1.SnapshotBestEffort, v1alpha1.SnapshotOff
	)
	releases := []string{"ClearVolumesInUse", "DeletePod"}
	take := []string{"TakeSnapshot"}
	ofClaim := func(reason string) []string {
		return []string{"NodeFence " + reason, "PersistentVolumeClaim " + reason}
	}
	for name, test := range map[string]struct {
		snapshot Snapshot
		want     snapshotEffect
	}{
		"none before the proof": {
			incident(fencing, listedFor(entryTTL), taintedNode, snapshots(required)),
			snapshotEffect{Volume: "Held Waiting"},
		},
		"asked for once the fence is proven, and nothing is released in that look": {
			incident(proven, snapshots(bestEffort)),
			snapshotEffect{Volume: "Held Waiting", Snapshot: "Pending", Steps: take, Events: []string{"NodeFence NodeFenced", "Node NodeFenced"}},
		},
		"asked for where nobody has chosen": {
			incident(proven, snapshots("")),
			snapshotEffect{Volume: "Held Waiting", Snapshot: "Pending", Steps: take, Events: []string{"NodeFence NodeFenced", "Node NodeFenced"}},
		},
		"off: released at once": {
			incident(proven, snapshots(off)),
			snapshotEffect{Volume: "Releasing", Steps: releases, Events: []string{"NodeFence NodeFenced", "Node NodeFenced"}},
		},
		"there: taken, and released": {
			incident(asked(required), there),
			snapshotEffect{Volume: "Releasing", Snapshot: "Taken", Steps: releases, Events: ofClaim(v1alpha1.ReasonSnapshotTaken)},
		},
		"S8: after a crash it is asked for again": {
			incident(asked(required), after(time.Minute)),
			snapshotEffect{Volume: "Held Waiting", Snapshot: "Pending", Steps: take},
		},
		"S1: there, and the proof is not of this look: not released": {
			incident(asked(required), there, barrierAt(9)),
			snapshotEffect{Volume: "Held Waiting", Snapshot: "Pending"},
		},
		"there, and the API shows no attachment any more: it may be another node's writes": {
			incident(asked(required), there, func(s *Snapshot) { s.Volumes[0].AttachedAfter = "" }),
			snapshotEffect{Volume: "Held SnapshotFailed", Snapshot: "Failed", Events: ofClaim(v1alpha1.ReasonSnapshotFailed)},
		},
		"best effort: the same is released without, and the snapshot is removed": {
			incident(asked(bestEffort), there, func(s *Snapshot) { s.Volumes[0].AttachedAfter = "va-of-another" }),
			snapshotEffect{Volume: "Releasing", Snapshot: "Failed", Discarded: 1, Steps: releases, Events: []string{"NodeFence SnapshotFailed"}},
		},
		"attached anew: another snapshot is asked for, and the one of before is removed": {
			incident(asked(required), there, func(s *Snapshot) { s.Volumes[0].Attachments[0].UID = "anew" }),
			snapshotEffect{Volume: "Held Waiting", Snapshot: "Pending", Discarded: 1, Steps: take},
		},
		"no attachment is left: none can be taken": {
			incident(proven, snapshots(required), func(s *Snapshot) { s.Volumes[0].Attachments = nil }),
			snapshotEffect{Volume: "Held SnapshotFailed", Snapshot: "Failed", Events: append([]string{"NodeFence NodeFenced", "Node NodeFenced"}, ofClaim(v1alpha1.ReasonSnapshotFailed)...)},
		},
		"a volume that several nodes may have needs none": {
			incident(proven, snapshots(required), func(s *Snapshot) {
				s.Volumes[0].Attachments, s.Volumes[0].Exclusive, s.Volumes[0].Shared = nil, false, true
			}),
			snapshotEffect{Volume: "Held Waiting", Snapshot: "Pending", Steps: take, Events: []string{"NodeFence NodeFenced", "Node NodeFenced"}},
		},
		"required: Ceph refuses: held, and told": {
			incident(asked(required), tried(0, errNoRight)),
			snapshotEffect{Volume: "Held SnapshotFailed", Snapshot: "Failed", Events: ofClaim(v1alpha1.ReasonSnapshotFailed)},
		},
		"required: asked for again after a while": {
			incident(asked(required), tried(2*time.Second, errNoRight)),
			snapshotEffect{Volume: "Held SnapshotFailed", Snapshot: "Failed", Steps: take, Events: ofClaim(v1alpha1.ReasonSnapshotFailed)},
		},
		"required: no answer: held, and told": {
			incident(asked(required), after(time.Hour), tried(0, errNoWord)),
			snapshotEffect{Volume: "Held SnapshotFailed", Snapshot: "Failed", Events: ofClaim(v1alpha1.ReasonSnapshotFailed)},
		},
		"best effort: Ceph refuses: released, and told once": {
			incident(asked(bestEffort), tried(0, errNoRight)),
			snapshotEffect{Volume: "Releasing", Snapshot: "Failed", Steps: releases, Events: []string{"NodeFence SnapshotFailed"}},
		},
		"best effort: no answer yet: not released": {
			incident(asked(bestEffort), tried(0, errNoWord)),
			snapshotEffect{Volume: "Held Waiting", Snapshot: "Pending"},
		},
		"best effort: no answer in time: released, and what comes later is removed": {
			incident(asked(bestEffort), after(snapshotPatience+1), tried(0, errNoWord)),
			snapshotEffect{Volume: "Releasing", Snapshot: "Failed", Discarded: 1, Steps: releases, Events: []string{"NodeFence SnapshotFailed"}},
		},
		"S8: best effort: after a crash it is asked for again, however long another process took to start": {
			incident(asked(bestEffort), after(snapshotTakeover)),
			snapshotEffect{Volume: "Held Waiting", Snapshot: "Pending", Steps: take},
		},
		"best effort: that process has no answer either: released, and what comes later is removed": {
			incident(asked(bestEffort), after(snapshotTakeover), tried(0, errNoWord)),
			snapshotEffect{Volume: "Releasing", Snapshot: "Failed", Discarded: 1, Steps: releases, Events: []string{"NodeFence SnapshotFailed"}},
		},
		"best effort: processes crash for so long that none is asked for any more: released": {
			incident(asked(bestEffort), after(snapshotTakeover+1)),
			snapshotEffect{Volume: "Releasing", Snapshot: "Failed", Discarded: 1, Steps: releases, Events: []string{"NodeFence SnapshotFailed"}},
		},
		"a person no longer requires it: released": {
			incident(asked(required), after(time.Minute), tried(0, errNoRight), snapshots(bestEffort)),
			snapshotEffect{Volume: "Releasing", Snapshot: "Failed", Steps: releases, Events: []string{"NodeFence SnapshotFailed"}},
		},
		"the clock was set back: it is waited for, not for ever": {
			incident(asked(bestEffort), after(-time.Hour), listedFor(entryTTL)),
			snapshotEffect{Volume: "Held Waiting", Snapshot: "Pending", Steps: take},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if diff := cmp.Diff(test.want, snapshotEffectOf(Next(test.snapshot))); diff != "" {
				t.Errorf("unexpected effect (-want +got):\n%s", diff)
			}
		})
	}
}

func TestASnapshotThatIsRequiredSaysHowToGoOn(t *testing.T) {
	t.Parallel()
	d := Next(incident(asked(v1alpha1.SnapshotRequired), tried(0, errNoRight)))
	for _, part := range []string{
		"shop/data", "rbd/img", "node-a", "the user needs the caps for snapshots", "kubectl annotate --overwrite namespace shop rbd-rescue.io/snapshot=best-effort",
	} {
		if !strings.Contains(d.Events[0].Note, part) {
			t.Errorf("%q does not tell %q", d.Events[0].Note, part)
		}
	}
	if !strings.Contains(d.Status.Message, "waits for its safety snapshot") {
		t.Errorf("the NodeFence says %q", d.Status.Message)
	}
}

// What was cut off when the snapshot was asked for stays so: a later write would be missing in it.
func TestWhatASnapshotReliesOnIsKept(t *testing.T) {
	t.Parallel()
	s := incident(asked(v1alpha1.SnapshotRequired))
	if !s.Fence.Status.Clients[0].Kept {
		t.Error("S4: the entry is not kept")
	}
}

func TestTheNameOfASnapshotTellsWhatItIsOf(t *testing.T) {
	t.Parallel()
	nf := &v1alpha1.NodeFence{}
	nf.Name, nf.UID = strings.Repeat("n", 253), "nf"
	entry := v1alpha1.FencedVolume{Attachment: "va-1", Clients: []string{"10.0.0.1:0/1", "10.0.0.1:0/2"}}
	name := snapshotName(nf, entry)
	if !strings.HasPrefix(name, v1alpha1.SnapshotPrefix+"nnn") || len(name) > 230 {
		t.Errorf("the name is %s", name)
	}
	slices.Reverse(entry.Clients)
	if again := snapshotName(nf, entry); again != name {
		t.Errorf("the same has another name: %s", again)
	}
	for what, other := range map[string]v1alpha1.FencedVolume{
		"another attachment": {Attachment: "va-2", Clients: entry.Clients},
		"one client more":    {Attachment: "va-1", Clients: append(slices.Clone(entry.Clients), "10.0.0.1:0/3")},
	} {
		if snapshotName(nf, other) == name {
			t.Errorf("%s has the same name", what)
		}
	}
}

// What a volume had a snapshot of before it came back to the boot is not what that has left now.
func TestASnapshotOfAVolumeThatCameBackIsRemoved(t *testing.T) {
	t.Parallel()
	s := incident(asked(v1alpha1.SnapshotRequired), there)
	s.Fence.Status = Next(s).Status
	s.Volumes[0].Attachments = []*storagev1.VolumeAttachment{attachment("pv-1", "node-a")}
	s.Volumes[0].Attachments[0].UID = "anew"
	d := Next(s)
	if got := snapshotEffectOf(d); got.Discarded != 1 || got.Snapshot != "Pending" {
		t.Errorf("got %+v", got)
	}
}

// Attachment and clients are the same, and so is the name: the old snapshot is still there, and must not be taken for the new one in
// the look that gives it up.
func TestASnapshotThatIsGivenUpDoesNotCountInTheSameLook(t *testing.T) {
	t.Parallel()
	s := incident(asked(v1alpha1.SnapshotRequired), there)
	s.Fence.Status = Next(s).Status
	pod := s.Pods[0].DeepCopy()
	pod.UID = "anew"
	s.Pods = []*corev1.Pod{pod}
	s.Volumes[0].Users, s.Volumes[0].Record = s.Pods, recordOf(pod)
	d := Next(s)
	if got := snapshotEffectOf(d); got.Discarded != 1 || got.Snapshot == string(v1alpha1.SnapshotTaken) {
		t.Errorf("got %+v", got)
	}
}

// The node is back before the snapshot was there: what comes of it later is removed.
func TestAnIncidentThatEndsGivesItsSnapshotsUp(t *testing.T) {
	t.Parallel()
	s := incident(asked(v1alpha1.SnapshotRequired), nodeReady("boot-2"), func(s *Snapshot) {
		delete(s.Clusters["c1"].Map.Blocklist, ceph.MustParseAddress(deadClient))
		s.Node.Spec.Taints = nil
	}, arrived)
	d := Next(s)
	if got := snapshotEffectOf(d); d.Status.Phase != v1alpha1.PhaseLifted || got.Snapshot != "Failed" || got.Discarded != 1 {
		t.Errorf("%s: %+v", d.Status.Phase, got)
	}
}

func TestANodeFenceStaysUntilItsSnapshotsAreGone(t *testing.T) {
	t.Parallel()
	s := incident(asked(v1alpha1.SnapshotRequired), there, func(s *Snapshot) {
		s.Fence.Status = Next(*s).Status
		s.Fence.Status.Phase = v1alpha1.PhaseLifted
		s.Fence.DeletionTimestamp = s.Pods[0].DeletionTimestamp
	})
	if d := Next(s); len(d.Steps) > 0 {
		t.Errorf("lets it go: %v", d.Steps)
	}
	s.Fence.Status.Volumes[0].Snapshot.State = v1alpha1.SnapshotRemoved
	if d := Next(s); !slices.Equal(steps(d.Steps), []string{"remove the finalizer from the NodeFence"}) {
		t.Errorf("keeps it: %v", d.Steps)
	}
}
