package rescuer

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"sigs.k8s.io/controller-runtime/pkg/metrics"

	"github.com/rbd-rescue/rbd-rescue/api/v1alpha1"
)

var (
	phases = prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: v1alpha1.MetricPrefix + "_nodefence_phase",
		Help: "1 for the phase that a NodeFence is in; a NodeFence that was deleted has no series.",
	}, []string{"nodefence", "node", "phase"})

	conditions = prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: v1alpha1.MetricPrefix + "_nodefence_condition",
		Help: "1 for the status (True, False) and reason that each condition of an active NodeFence has: Fenced, Released, Recovered, Lifted.",
	}, []string{"nodefence", "node", "condition", "status", "reason"})

	stepSeconds = prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: v1alpha1.MetricPrefix + "_step_duration_seconds",
		Help: "Time that a step of an incident took: detect (NotReady to NodeFence), fence (first entry asked for to proof), " +
			"snapshot (asked for to taken), release (proof to detached), attach (detached to attached elsewhere), recover (wanted to running elsewhere).",
		Buckets: []float64{.1, .25, .5, 1, 2, 4, 8, 15, 30, 60, 120, 300, 600},
	}, []string{"step"})

	entryExpiry = prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: v1alpha1.MetricPrefix + "_fence_expiry_timestamp_seconds",
		Help: "When the first blocklist entry ends that an active NodeFence relies on, as Unix time.",
	}, []string{"nodefence"})

	refusedVolumes = prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: v1alpha1.MetricPrefix + "_refused_volumes",
		Help: "Volumes of an active NodeFence that are not released, by reason.",
	}, []string{"nodefence", "reason"})

	snapshots = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: v1alpha1.MetricPrefix + "_snapshots_total",
		Help: "Grows with each volume of which a safety snapshot is taken (result taken), and of which it is told that there is none (failed).",
	}, []string{"result"})

	podsDeleted = prometheus.NewCounter(prometheus.CounterOpts{
		Name: v1alpha1.MetricPrefix + "_pods_force_deleted_total",
		Help: "Grows with each stuck pod of a fenced node that was force-deleted.",
	})
)

func init() {
	for _, step := range []string{"detect", "fence", "snapshot", "release", "attach", "recover"} { // so that the first of its kind counts in an increase
		stepSeconds.WithLabelValues(step)
	}
	for _, result := range []string{"taken", "failed"} {
		snapshots.WithLabelValues(result)
	}
	metrics.Registry.MustRegister(phases, conditions, stepSeconds, entryExpiry, refusedVolumes, snapshots, podsDeleted)
}

// measure counts what changed between two states of an incident.
func measure(before, after *v1alpha1.NodeFence) {
	if before.Status.Phase != after.Status.Phase || before.Status.Phase == "" {
		phases.DeletePartialMatch(prometheus.Labels{"nodefence": after.Name})
	}
	phases.WithLabelValues(after.Name, after.Spec.NodeName, string(after.Status.Phase)).Set(1)
	measureConditions(after)
	measureExpiry(after)
	measureRefusals(after)
	t, was := after.Status.Times, before.Status.Times
	if was.DetectedAt == nil && t.DetectedAt != nil && t.NotReadyAt != nil {
		observeStep("detect", t.DetectedAt.Sub(t.NotReadyAt.Time))
	}
	if was.FencedAt == nil && t.FencedAt != nil && t.FencingAt != nil {
		observeStep("fence", t.FencedAt.Sub(t.FencingAt.Time))
	}
	old := map[string]v1alpha1.FencedVolume{}
	for _, v := range before.Status.Volumes {
		old[v.PersistentVolume] = v
	}
	for _, v := range after.Status.Volumes {
		o := old[v.PersistentVolume]
		measureSnapshot(o.Snapshot, v.Snapshot)
		if o.ReleasedAt == nil && v.ReleasedAt != nil && v.ReleasingAt != nil {
			observeStep("release", v.ReleasedAt.Sub(v.ReleasingAt.Time))
		}
		if o.AttachedAt == nil && v.AttachedAt != nil && v.ReleasedAt != nil {
			observeStep("attach", v.AttachedAt.Sub(v.ReleasedAt.Time))
		}
		if o.RecoveredAt == nil && v.RecoveredAt != nil && v.DemandedAt != nil {
			observeStep("recover", v.RecoveredAt.Sub(v.DemandedAt.Time))
		}
	}
}

func measureSnapshot(before, after *v1alpha1.SafetySnapshot) {
	if after == nil || before != nil && before.Name == after.Name && before.State == after.State {
		return
	}
	switch after.State {
	case v1alpha1.SnapshotTaken:
		snapshots.WithLabelValues("taken").Inc()
		observeStep("snapshot", after.TakenAt.Sub(after.AskedAt.Time))
	case v1alpha1.SnapshotFailed:
		snapshots.WithLabelValues("failed").Inc()
	default:
	}
}

func measureConditions(nf *v1alpha1.NodeFence) {
	conditions.DeletePartialMatch(prometheus.Labels{"nodefence": nf.Name})
	if !nf.Active() {
		return
	}
	for _, c := range nf.Status.Conditions {
		conditions.WithLabelValues(nf.Name, nf.Spec.NodeName, c.Type, string(c.Status), c.Reason).Set(1)
	}
}

func measureExpiry(nf *v1alpha1.NodeFence) {
	var first time.Time
	for _, c := range nf.Status.Clients {
		if c.Kept && c.Until != nil && (first.IsZero() || c.Until.Time.Before(first)) {
			first = c.Until.Time
		}
	}
	if first.IsZero() || !nf.Active() {
		entryExpiry.DeleteLabelValues(nf.Name)
		return
	}
	entryExpiry.WithLabelValues(nf.Name).Set(float64(first.Unix()))
}

func measureRefusals(nf *v1alpha1.NodeFence) {
	refusedVolumes.DeletePartialMatch(prometheus.Labels{"nodefence": nf.Name})
	if !nf.Active() {
		return
	}
	for _, v := range nf.Status.Volumes {
		if v.Phase == v1alpha1.VolumeRefused {
			refusedVolumes.WithLabelValues(nf.Name, v.Reason).Inc()
		}
	}
}

func observeStep(step string, took time.Duration) {
	stepSeconds.WithLabelValues(step).Observe(took.Seconds())
}

// forget drops the series of a NodeFence that is gone.
func forget(name string) {
	phases.DeletePartialMatch(prometheus.Labels{"nodefence": name})
	conditions.DeletePartialMatch(prometheus.Labels{"nodefence": name})
	entryExpiry.DeleteLabelValues(name)
	refusedVolumes.DeletePartialMatch(prometheus.Labels{"nodefence": name})
}
