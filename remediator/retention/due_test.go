package retention

import (
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/rbd-rescue/rbd-rescue/api/v1alpha1"
	"github.com/rbd-rescue/rbd-rescue/remediator/plan"
)

var now = time.Date(2026, 11, 26, 3, 0, 0, 0, time.UTC)

// fence is a NodeFence with one snapshot of image rbd/img, taken some time ago.
func fence(name string, phase v1alpha1.NodeFencePhase, ago time.Duration) *v1alpha1.NodeFence {
	at := metav1.NewMicroTime(now.Add(-ago))
	return &v1alpha1.NodeFence{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Status: v1alpha1.NodeFenceStatus{Phase: phase, Volumes: []v1alpha1.FencedVolume{{
			PersistentVolume: "pv", Claim: "shop/data", Image: "rbd/img", Phase: v1alpha1.VolumeRecovered,
			Snapshot: &v1alpha1.SafetySnapshot{Name: "of-" + name, State: v1alpha1.SnapshotTaken, ClusterID: "c1", TakenAt: &at},
		}}},
	}
}

func deleted(nf *v1alpha1.NodeFence) *v1alpha1.NodeFence {
	nf.DeletionTimestamp = new(metav1.NewTime(now))
	return nf
}

func state(nf *v1alpha1.NodeFence, state v1alpha1.SnapshotState) *v1alpha1.NodeFence {
	nf.Status.Volumes[0].Snapshot.State = state
	return nf
}

func pv(policy corev1.PersistentVolumeReclaimPolicy, phase corev1.PersistentVolumePhase) *corev1.PersistentVolume {
	return &corev1.PersistentVolume{Spec: corev1.PersistentVolumeSpec{PersistentVolumeReclaimPolicy: policy}, Status: corev1.PersistentVolumeStatus{Phase: phase}}
}

func TestWhichSnapshotsAreDue(t *testing.T) {
	t.Parallel()
	const day, lifted, active = 24 * time.Hour, v1alpha1.PhaseLifted, v1alpha1.PhaseRecovered
	doubtful := fence("a", active, 0)
	doubtful.Status.Volumes = nil
	doubtful.Status.Discarded = []v1alpha1.DiscardedSnapshot{{ClusterID: "c1", Image: "rbd/img", Name: "of-nobody"}}
	bound := pv(corev1.PersistentVolumeReclaimDelete, corev1.VolumeBound)
	going := pv(corev1.PersistentVolumeReclaimDelete, corev1.VolumeBound)
	going.DeletionTimestamp = new(metav1.NewTime(now))
	for name, test := range map[string]struct {
		fences []*v1alpha1.NodeFence
		pv     *corev1.PersistentVolume
		// seen are those that were seen to be too old for that long.
		seen time.Duration
		want []string
	}{
		"a new one stays":                           {fences: []*v1alpha1.NodeFence{fence("a", lifted, time.Hour)}, pv: bound},
		"one that was kept for long enough goes":    {fences: []*v1alpha1.NodeFence{fence("a", lifted, 4*day)}, seen: time.Hour, want: []string{"of-a"}},
		"not at first sight: the clock may jump":    {fences: []*v1alpha1.NodeFence{fence("a", lifted, 400*day)}, seen: 59 * time.Minute},
		"the age does not count while it is active": {fences: []*v1alpha1.NodeFence{fence("a", active, 400*day)}, seen: time.Hour},
		"the oldest goes of those that are too many": {
			fences: []*v1alpha1.NodeFence{fence("b", lifted, 2*time.Hour), fence("a", lifted, time.Hour), fence("d", lifted, 4*time.Hour), fence("c", lifted, 3*time.Hour)},
			want:   []string{"of-d"},
		},
		"not if it is of an incident that goes on": {
			fences: []*v1alpha1.NodeFence{fence("b", lifted, 2*time.Hour), fence("a", lifted, time.Hour), fence("d", active, 4*time.Hour), fence("c", lifted, 3*time.Hour)},
		},
		"what does not count goes at once":                {fences: []*v1alpha1.NodeFence{doubtful}, want: []string{"of-nobody"}},
		"with its NodeFence":                              {fences: []*v1alpha1.NodeFence{deleted(fence("a", lifted, 0))}, want: []string{"of-a"}},
		"not while that is active":                        {fences: []*v1alpha1.NodeFence{deleted(fence("a", active, 0))}},
		"with its volume":                                 {fences: []*v1alpha1.NodeFence{fence("a", active, 0)}, pv: going, want: []string{"of-a"}},
		"with its volume, whose claim is gone":            {fences: []*v1alpha1.NodeFence{fence("a", lifted, 0)}, pv: pv(corev1.PersistentVolumeReclaimDelete, corev1.VolumeReleased), want: []string{"of-a"}},
		"not where the image stays":                       {fences: []*v1alpha1.NodeFence{fence("a", lifted, 0)}, pv: pv(corev1.PersistentVolumeReclaimRetain, corev1.VolumeReleased)},
		"not where somebody has deleted the volume alone": {fences: []*v1alpha1.NodeFence{fence("a", lifted, 0)}},
		"one that is under way stays":                     {fences: []*v1alpha1.NodeFence{state(fence("a", active, 0), v1alpha1.SnapshotPending)}, pv: going},
		"one that is gone is not removed again":           {fences: []*v1alpha1.NodeFence{state(deleted(fence("a", lifted, 0)), v1alpha1.SnapshotRemoved)}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			since := map[string]time.Time{}
			if test.seen > 0 {
				since["rbd/img@of-a"] = now.Add(-test.seen)
			}
			volumes := map[string]*corev1.PersistentVolume{}
			if test.pv != nil {
				volumes["pv"] = test.pv
			}
			var names []string
			for _, r := range due(view{now: now, settings: plan.DefaultSettings(), fences: test.fences, volumes: volumes, tooOldSince: since}) {
				names = append(names, r.name)
			}
			slices.Sort(names)
			if diff := cmp.Diff(test.want, names); diff != "" {
				t.Errorf("unexpected removals (-want +got):\n%s", diff)
			}
		})
	}
}

func TestAClockThatJumpsAndIsSetRightRemovesNothing(t *testing.T) {
	t.Parallel()
	v := view{settings: plan.DefaultSettings(), fences: []*v1alpha1.NodeFence{fence("a", v1alpha1.PhaseLifted, time.Minute)}, tooOldSince: map[string]time.Time{}}
	year := 365 * 24 * time.Hour
	for _, at := range []time.Duration{0, year, year + 59*time.Minute, time.Hour, year + 2*time.Hour} {
		v.now = now.Add(at)
		if removals := due(v); len(removals) > 0 {
			t.Errorf("at %s: %v is removed", at, removals[0].name)
		}
	}
	v.now = now.Add(year + 3*time.Hour)
	if len(due(v)) != 1 {
		t.Error("stays for ever")
	}
}
