// Package timeline tells an incident as bars over time, from the status of its NodeFence and, where they are still there, its events.
// It reads values and gives values and text; one that is still under way ends now.
package timeline

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	eventsv1 "k8s.io/api/events/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/rbd-rescue/rbd-rescue/api/v1alpha1"
)

// Timeline is an incident.
type Timeline struct {
	NodeFence string `json:"nodeFence"`
	Node      string `json:"node"`
	BootID    string `json:"bootID,omitempty"`
	Phase     string `json:"phase"`
	Message   string `json:"message,omitempty"`
	// From and To bound the bars: from the failure to the last volume's recovery, or to now. The lift may be days later: it is a
	// moment alone.
	From     time.Time `json:"from"`
	To       time.Time `json:"to"`
	UnderWay bool      `json:"underWay"`
	Moments  []Moment  `json:"moments"`
	Bars     []Bar     `json:"bars"`
}

// Moment is one step of the whole incident.
type Moment struct {
	At   time.Time `json:"at"`
	What string    `json:"what"`
}

// Bar is what happened to the node, or to one volume.
type Bar struct {
	Name  string `json:"name"`
	Spans []Span `json:"spans"`
	// End says how it ended, or what it waits for.
	End string `json:"end,omitempty"`
}

// Span is a part of a bar.
type Span struct {
	Kind Kind      `json:"kind"`
	From time.Time `json:"from"`
	To   time.Time `json:"to"`
	// Open says that it was still so at the end of the bars.
	Open bool `json:"open,omitempty"`
}

// Kind is what a span is.
type Kind string

// Kinds of spans, in the order of an incident: those of the node, then those of a volume.
const (
	NotReady  Kind = "not ready"
	Fencing   Kind = "fencing"
	Fenced    Kind = "fenced"
	Waiting   Kind = "waiting for the fence"
	Releasing Kind = "releasing"
	Attaching Kind = "attaching"
	Starting  Kind = "starting"
	Running   Kind = "running elsewhere"
)

// Of tells the incident of a NodeFence. Events may be of anything; those of the incident are taken.
func Of(nf *v1alpha1.NodeFence, events []eventsv1.Event, now time.Time) Timeline {
	t := Timeline{
		NodeFence: nf.Name, Node: nf.Spec.NodeName, BootID: nf.Spec.BootID, Phase: cmp.Or(string(nf.Status.Phase), string(v1alpha1.PhasePending)),
		Message: nf.Status.Message, Moments: []Moment{}, Bars: []Bar{},
	}
	t.moments(nf, events)
	t.bounds(nf, now)
	t.Bars = append(t.Bars, t.ofNode(nf.Spec.NodeName, nf.Status.Times))
	for _, v := range nf.Status.Volumes {
		t.Bars = append(t.Bars, t.ofVolume(v))
	}
	return t
}

func (t *Timeline) moments(nf *v1alpha1.NodeFence, events []eventsv1.Event) {
	times := nf.Status.Times
	add := func(at *metav1.MicroTime, what string) {
		if at != nil {
			t.Moments = append(t.Moments, Moment{at.Time, what})
		}
	}
	add(times.NotReadyAt, "node not ready")
	add(firstOf(nf.Status.Volumes, func(v v1alpha1.FencedVolume) *metav1.MicroTime { return v.DemandedAt }), "first volume wanted elsewhere")
	add(times.DetectedAt, "incident seen")
	add(times.FencingAt, "fence begun")
	add(times.FencedAt, "fence verified")
	add(times.RecoveredAt, "everything runs elsewhere")
	add(times.OverAt, "boot over")
	add(times.LiftedAt, "fence lifted")
	for _, e := range events {
		what, is := told[e.Reason]
		if is && ofIncident(e, nf) {
			t.Moments = append(t.Moments, Moment{eventTime(e), what + e.Regarding.Namespace + "/" + e.Regarding.Name})
		}
	}
	slices.SortStableFunc(t.Moments, func(a, b Moment) int {
		return cmp.Or(a.At.Compare(b.At), 0)
	})
}

// told are the events that say more than the status does, by reason.
var told = map[string]string{
	v1alpha1.ReasonVolumeHeld:      "flagged: pod ",
	v1alpha1.ReasonPodForceDeleted: "evicted by force: pod ",
	"SnapshotTaken":                "snapshot: claim ",
}

// ofIncident tells whether an event is of the incident: it names the NodeFence, or a pod that waited for the node since it failed.
func ofIncident(e eventsv1.Event, nf *v1alpha1.NodeFence) bool {
	if e.Regarding.Namespace == "" {
		return false // each fact is also told on the object that it is about
	}
	if e.Related != nil && e.Related.Kind == "NodeFence" {
		return e.Related.Name == nf.Name
	}
	times := nf.Status.Times
	return e.Reason == v1alpha1.ReasonVolumeHeld && times.NotReadyAt != nil && !eventTime(e).Before(times.NotReadyAt.Time) &&
		(times.LiftedAt == nil || eventTime(e).Before(times.LiftedAt.Time)) && slices.Contains(words(e.Note), nf.Spec.NodeName)
}

func words(note string) []string {
	return strings.FieldsFunc(note, func(r rune) bool { return strings.ContainsRune(" ,;:()", r) })
}

func eventTime(e eventsv1.Event) time.Time {
	if !e.EventTime.IsZero() {
		return e.EventTime.Time
	}
	return cmp.Or(e.DeprecatedFirstTimestamp.Time, e.CreationTimestamp.Time)
}

func firstOf(volumes []v1alpha1.FencedVolume, of func(v1alpha1.FencedVolume) *metav1.MicroTime) *metav1.MicroTime {
	var first *metav1.MicroTime
	for _, v := range volumes {
		if at := of(v); at != nil && (first == nil || at.Before(first)) {
			first = at
		}
	}
	return first
}

// bounds go from the first time that is known to the last one before the lift, or to now.
func (t *Timeline) bounds(nf *v1alpha1.NodeFence, now time.Time) {
	times := nf.Status.Times
	all := []*metav1.MicroTime{times.NotReadyAt, times.DetectedAt, times.FencingAt, times.FencedAt, times.RecoveredAt}
	for _, v := range nf.Status.Volumes {
		all = append(all, v.DemandedAt, v.ReleasingAt, v.ReleasedAt, v.AttachedAt, v.RecoveredAt)
	}
	t.From, t.To = nf.CreationTimestamp.Time, nf.CreationTimestamp.Time
	for _, at := range all {
		if at != nil && at.Time.Before(t.From) {
			t.From = at.Time
		}
		if at != nil && at.After(t.To) {
			t.To = at.Time
		}
	}
	t.UnderWay = nf.Active() && nf.Status.Phase != v1alpha1.PhaseRecovered
	if t.UnderWay && now.After(t.To) {
		t.To = now
	}
}

func (t *Timeline) ofNode(name string, times v1alpha1.IncidentTimes) Bar {
	return Bar{Name: "node " + name, Spans: t.spans(
		[]*metav1.MicroTime{times.NotReadyAt, times.FencingAt, times.FencedAt, times.LiftedAt}, NotReady, Fencing, Fenced)}
}

func (t *Timeline) ofVolume(v v1alpha1.FencedVolume) Bar {
	b := Bar{Name: "claim " + v.Claim, Spans: t.spans(
		[]*metav1.MicroTime{v.DemandedAt, v.ReleasingAt, v.ReleasedAt, v.AttachedAt, v.RecoveredAt, nil}, Waiting, Releasing, Attaching, Starting, Running)}
	switch v.Phase {
	case v1alpha1.VolumeRecovered:
		b.End = "runs on " + v.RecoveredOn
		if v.DemandedAt != nil && v.RecoveredAt != nil {
			b.End += fmt.Sprintf(" after %s", seconds(v.RecoveredAt.Sub(v.DemandedAt.Time)))
		}
	case v1alpha1.VolumeRefused:
		b.End = "refused: " + v.Reason
	default:
		b.End = strings.ToLower(string(v.Phase)) + reasonIn(v.Reason)
	}
	return b
}

func reasonIn(reason string) string {
	if reason == "" {
		return ""
	}
	return ": " + reason
}

// spans go from each time to the next one that is known. What has no later time is still so, up to the end of the bars.
func (t *Timeline) spans(times []*metav1.MicroTime, kinds ...Kind) []Span {
	spans := []Span{}
	for i, kind := range kinds {
		if times[i] == nil {
			continue
		}
		s := Span{Kind: kind, From: times[i].Time, To: t.To, Open: true}
		for _, next := range times[i+1:] {
			if next != nil {
				s.To, s.Open = next.Time, false
				break
			}
		}
		if s.To.After(t.To) { // the lift
			s.To, s.Open = t.To, true
		}
		if s.To.Before(s.From) {
			s.To = s.From
		}
		spans = append(spans, s)
	}
	return spans
}

func seconds(d time.Duration) string { return fmt.Sprintf("%.1f s", d.Seconds()) }
