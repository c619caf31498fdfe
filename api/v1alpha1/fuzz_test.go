package v1alpha1

import "testing"

// A namespace is opted in by the word "rescue" or "observe" and nothing else, and an error opts in to nothing.
func FuzzParsePolicy(f *testing.F) {
	f.Add("rescue", "")
	f.Add("observe", "bare-pods, unfenced-storage")
	f.Add("resuce", "bare-pods")
	f.Add("", "all")
	f.Fuzz(func(t *testing.T, mode, allow string) {
		annotations := map[string]string{AnnotationMode: mode}
		if allow != "" {
			annotations[AnnotationAllow] = allow
		}
		policy, err := ParsePolicy(annotations)
		if err != nil && policy != (Policy{}) {
			t.Errorf("%q, %q: %v comes with %+v", mode, allow, err, policy)
		}
		if policy.Mode == ModeRescue && mode != "rescue" || policy.Mode == ModeObserve && mode != "observe" {
			t.Errorf("%q means %+v", mode, policy)
		}
	})
}
