package v1alpha1

import (
	"strings"
	"testing"
	"time"
)

func TestParsePolicy(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		annotations map[string]string
		want        Policy
		problem     string // part of the error; empty for none
	}{
		"no annotation":          {},
		"no mode":                {annotations: map[string]string{AnnotationMode: ""}},
		"rescue":                 {annotations: map[string]string{AnnotationMode: "rescue"}, want: Policy{Mode: ModeRescue}},
		"observe":                {annotations: map[string]string{AnnotationMode: "observe"}, want: Policy{Mode: ModeObserve}},
		"a mode with a capital":  {annotations: map[string]string{AnnotationMode: "Rescue"}, problem: `"Rescue" is not a mode: use "rescue", "observe"`},
		"a mode of another kind": {annotations: map[string]string{AnnotationMode: "true"}, problem: `"true" is not a mode`},
		"both that can be allowed": {
			annotations: map[string]string{AnnotationMode: "rescue", AnnotationAllow: "bare-pods, unfenced-storage"},
			want:        Policy{Mode: ModeRescue, BarePods: true, UnfencedStorage: true},
		},
		"an unknown word to allow": {
			annotations: map[string]string{AnnotationMode: "rescue", AnnotationAllow: "bare-pods,all"},
			problem:     `"all" is nothing that can be allowed: use bare-pods or unfenced-storage`,
		},
		"seconds to fail over after": {
			annotations: map[string]string{AnnotationMode: "rescue", AnnotationFailoverAfter: "30s"},
			want:        Policy{Mode: ModeRescue, FailoverAfter: 30 * time.Second},
		},
		"minutes and seconds to fail over after": {
			annotations: map[string]string{AnnotationFailoverAfter: "1m30s"}, want: Policy{FailoverAfter: 90 * time.Second},
		},
		"the shortest time": {annotations: map[string]string{AnnotationFailoverAfter: "5s"}, want: Policy{FailoverAfter: 5 * time.Second}},
		"the longest time":  {annotations: map[string]string{AnnotationFailoverAfter: "60m"}, want: Policy{FailoverAfter: time.Hour}},
		"a bad time opts in to nothing": {
			annotations: map[string]string{AnnotationMode: "rescue", AnnotationFailoverAfter: "30"},
			problem:     `annotation rbd-rescue.io/failover-after: "30" is no time to wait for a node: use whole seconds from 5s to 1h, as in 30s or 2m, or remove the annotation`,
		},
		"a snapshot that is required": {
			annotations: map[string]string{AnnotationMode: "rescue", AnnotationSnapshot: "required"},
			want:        Policy{Mode: ModeRescue, Snapshot: SnapshotRequired},
		},
		"no snapshot": {annotations: map[string]string{AnnotationSnapshot: "off"}, want: Policy{Snapshot: SnapshotOff}},
		"an unknown word for snapshots opts in to nothing": {
			annotations: map[string]string{AnnotationMode: "rescue", AnnotationSnapshot: "always"},
			problem:     `annotation rbd-rescue.io/snapshot: "always" says nothing about snapshots: use "required", "best-effort", "off", or remove the annotation`,
		},
		"no time":               {annotations: map[string]string{AnnotationFailoverAfter: ""}, problem: `"" is no time`},
		"no time at all":        {annotations: map[string]string{AnnotationFailoverAfter: "0s"}, problem: `"0s" is no time`},
		"a time in the past":    {annotations: map[string]string{AnnotationFailoverAfter: "-30s"}, problem: `"-30s" is no time`},
		"too short a time":      {annotations: map[string]string{AnnotationFailoverAfter: "4s"}, problem: `"4s" is no time`},
		"too long a time":       {annotations: map[string]string{AnnotationFailoverAfter: "1h1s"}, problem: `"1h1s" is no time`},
		"part of a second":      {annotations: map[string]string{AnnotationFailoverAfter: "30.5s"}, problem: `"30.5s" is no time`},
		"a time with a blank":   {annotations: map[string]string{AnnotationFailoverAfter: "30 s"}, problem: `"30 s" is no time`},
		"more than fits a time": {annotations: map[string]string{AnnotationFailoverAfter: "9999999999h"}, problem: `is no time`},
	} {
		policy, err := ParsePolicy(test.annotations)
		if policy != test.want || (err == nil) != (test.problem == "") || err != nil && !strings.Contains(err.Error(), test.problem) {
			t.Errorf("%s: %+v, %v; want %+v, %q", name, policy, err, test.want, test.problem)
		}
	}
}

func TestOnlyModeRescueFailsOverSooner(t *testing.T) {
	t.Parallel()
	for mode, want := range map[Mode]time.Duration{ModeOff: 0, ModeObserve: 0, ModeRescue: 30 * time.Second} {
		if got := (Policy{Mode: mode, FailoverAfter: 30 * time.Second}).FailsOverAfter(); got != want {
			t.Errorf("mode %q: after %s, want %s", mode, got, want)
		}
	}
}
