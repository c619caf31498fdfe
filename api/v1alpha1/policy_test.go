package v1alpha1

import "testing"

func TestParsePolicy(t *testing.T) {
	t.Parallel()
	for value, want := range map[string]struct {
		mode Mode
		ok   bool
	}{
		"": {ModeOff, true}, "rescue": {ModeRescue, true}, "observe": {ModeObserve, true},
		"Rescue": {ModeOff, false}, "true": {ModeOff, false},
	} {
		policy, err := ParsePolicy(map[string]string{AnnotationMode: value})
		if policy.Mode != want.mode || (err == nil) != want.ok {
			t.Errorf("%q: %v, %v", value, policy, err)
		}
	}
}
