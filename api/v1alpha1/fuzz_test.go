package v1alpha1

import (
	"testing"
	"time"
)

// A namespace is opted in by the word "rescue" or "observe" and nothing else, an error opts in to nothing, and pods wait for a
// whole number of seconds within the bounds.
func FuzzParsePolicy(f *testing.F) {
	f.Add("rescue", "", "30s")
	f.Add("observe", "bare-pods, unfenced-storage", "")
	f.Add("resuce", "bare-pods", "1h")
	f.Add("", "all", "-1s")
	f.Fuzz(func(t *testing.T, mode, allow, failoverAfter string) {
		annotations := map[string]string{AnnotationMode: mode}
		for key, value := range map[string]string{AnnotationAllow: allow, AnnotationFailoverAfter: failoverAfter} {
			if value != "" {
				annotations[key] = value
			}
		}
		policy, err := ParsePolicy(annotations)
		if err != nil && policy != (Policy{}) {
			t.Errorf("%v: %v comes with %+v", annotations, err, policy)
		}
		if policy.Mode == ModeRescue && mode != "rescue" || policy.Mode == ModeObserve && mode != "observe" {
			t.Errorf("%q means %+v", mode, policy)
		}
		after := policy.FailoverAfter
		if after != 0 && (after < MinFailoverAfter || after > MaxFailoverAfter || after%time.Second != 0) || err == nil && (after == 0) != (failoverAfter == "") {
			t.Errorf("%q means %s", failoverAfter, after)
		}
	})
}
