package webhook

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	admissionv1 "k8s.io/api/admission/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"
)

// written is the request that creates a namespace, or changes it if it was there before.
func written(t *testing.T, before, after map[string]string) admission.Request {
	t.Helper()
	object := func(annotations map[string]string) runtime.RawExtension {
		text, err := json.Marshal(metav1.PartialObjectMetadata{ObjectMeta: metav1.ObjectMeta{Name: "shop", Annotations: annotations}})
		if err != nil {
			t.Fatal(err)
		}
		return runtime.RawExtension{Raw: text}
	}
	req := admission.Request{AdmissionRequest: admissionv1.AdmissionRequest{
		UID: "uid", Operation: admissionv1.Create, Kind: metav1.GroupVersionKind{Version: "v1", Kind: "Namespace"}, Name: "shop", Object: object(after),
	}}
	if before != nil {
		req.Operation, req.OldObject = admissionv1.Update, object(before)
	}
	return req
}

func TestNamespaceAdmission(t *testing.T) {
	t.Parallel()
	const known = "rbd-rescue.io/mode, rbd-rescue.io/allow, rbd-rescue.io/failover-after, rbd-rescue.io/snapshot"
	type annotations = map[string]string
	for name, test := range map[string]struct {
		before, after annotations
		refused       string // empty: allowed
		warnings      []string
	}{
		"a namespace of others":        {after: annotations{"team": "shop"}},
		"a namespace without anything": {},
		"right values": {
			after: annotations{"rbd-rescue.io/mode": "rescue", "rbd-rescue.io/allow": "bare-pods", "rbd-rescue.io/failover-after": "30s"},
		},
		"a mode with a typo": {
			after:   annotations{"rbd-rescue.io/mode": "resuce"},
			refused: `annotation rbd-rescue.io/mode: "resuce" is not a mode: use "rescue", "observe", or remove the annotation`,
		},
		"a right value that is made wrong": {
			before: annotations{"rbd-rescue.io/mode": "rescue"}, after: annotations{"rbd-rescue.io/mode": "Rescue"},
			refused: `annotation rbd-rescue.io/mode: "Rescue" is not a mode: use "rescue", "observe", or remove the annotation`,
		},
		"every mistake is told at once": {
			after: annotations{"rbd-rescue.io/mode": "yes", "rbd-rescue.io/allow": "all", "rbd-rescue.io/failover-after": "30"},
			refused: `annotation rbd-rescue.io/allow: "all" is nothing that can be allowed: use bare-pods or unfenced-storage, separated by a comma, or remove the annotation; ` +
				`annotation rbd-rescue.io/failover-after: "30" is no time to wait for a node: use whole seconds from 5s to 1h, as in 30s or 2m, or remove the annotation; ` +
				`annotation rbd-rescue.io/mode: "yes" is not a mode: use "rescue", "observe", or remove the annotation`,
		},
		"a name with a typo": {
			after:   annotations{"rbd-rescue.io/mdoe": "rescue"},
			refused: "annotation rbd-rescue.io/mdoe: a namespace has no such annotation, but " + known + "; did you mean rbd-rescue.io/mode?",
		},
		"a name like no other": {
			after:   annotations{"rbd-rescue.io/priority": "high"},
			refused: "annotation rbd-rescue.io/priority: a namespace has no such annotation, but " + known,
		},
		"a pause of one namespace": {
			after:   annotations{"rbd-rescue.io/paused": "true"},
			refused: "annotation rbd-rescue.io/paused: it pauses nothing here: it belongs on rbd-rescue's own namespace, or on a Node; to take this namespace out remove rbd-rescue.io/mode",
		},
		"an old mistake may stay": {
			before: annotations{"rbd-rescue.io/mode": "yes", "rbd-rescue.io/x": "y"},
			after:  annotations{"rbd-rescue.io/mode": "yes", "rbd-rescue.io/x": "y", "team": "shop"},
		},
		"one of two old mistakes may go": {
			before: annotations{"rbd-rescue.io/mode": "yes", "rbd-rescue.io/x": "y"}, after: annotations{"rbd-rescue.io/x": "y"},
		},
		"a right value beside an old mistake": {
			before: annotations{"rbd-rescue.io/x": "y"}, after: annotations{"rbd-rescue.io/x": "y", "rbd-rescue.io/mode": "observe"},
		},
		"an old mistake may not become another": {
			before: annotations{"rbd-rescue.io/mode": "yes"}, after: annotations{"rbd-rescue.io/mode": "no"},
			refused: `annotation rbd-rescue.io/mode: "no" is not a mode: use "rescue", "observe", or remove the annotation`,
		},
		"failover-after alone": {
			after:    annotations{"rbd-rescue.io/failover-after": "30s"},
			warnings: []string{"annotation rbd-rescue.io/failover-after has no effect without rbd-rescue.io/mode: rescue"},
		},
		"snapshot where nothing is rescued": {
			after:    annotations{"rbd-rescue.io/snapshot": "required", "rbd-rescue.io/mode": "observe"},
			warnings: []string{"annotation rbd-rescue.io/snapshot has no effect without rbd-rescue.io/mode: rescue"},
		},
		"failover-after where nothing is rescued": {
			before:   annotations{"rbd-rescue.io/failover-after": "30s", "rbd-rescue.io/mode": "rescue"},
			after:    annotations{"rbd-rescue.io/failover-after": "30s", "rbd-rescue.io/mode": "observe"},
			warnings: []string{"annotation rbd-rescue.io/failover-after has no effect without rbd-rescue.io/mode: rescue"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			response := namespaceHandler{}.Handle(t.Context(), written(t, test.before, test.after))
			refused := ""
			if !response.Allowed {
				refused = response.Result.Message
			}
			if refused != test.refused {
				t.Errorf("refused: %s\nwant:    %s", refused, test.refused)
			}
			if diff := cmp.Diff(test.warnings, response.Warnings); diff != "" {
				t.Errorf("warnings: -want +got:\n%s", diff)
			}
		})
	}
}

func TestANamespaceThatCannotBeReadIsAllowed(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"", "null", "[]", "{not a namespace", `{"metadata":7}`, `{"metadata":{"annotations":[]}}`} {
		req := written(t, nil, nil)
		req.Object.Raw = []byte(text)
		if !(namespaceHandler{}).Handle(t.Context(), req).Allowed {
			t.Errorf("refused %q", text)
		}
	}
}

func TestNearest(t *testing.T) {
	t.Parallel()
	words := []string{"mode", "allow", "failover-after"}
	for typed, want := range map[string]string{
		"mod": "mode", "modes": "mode", "mdoe": "mode", "MODE": "", "allowed": "allow", "fail-over-after": "failover-after", "failover": "failover-after",
		"snapshot": "", "": "", "x": "",
	} {
		got, near := nearest(typed, words)
		if !near {
			got = ""
		}
		if got != want {
			t.Errorf("%q: %q, want %q", typed, got, want)
		}
	}
	if _, near := nearest("mode", nil); near {
		t.Error("a word of none is near")
	}
}

// FuzzNamespaceAdmission: a refusal always comes with a reason, and what is as it was before is always allowed.
func FuzzNamespaceAdmission(f *testing.F) {
	f.Add("rbd-rescue.io/mode", "resuce")
	f.Add("rbd-rescue.io/failover-after", "30s")
	f.Add("rbd-rescue.io/", "")
	f.Fuzz(func(t *testing.T, key, value string) {
		after := map[string]string{key: value}
		for _, wrong := range checkAnnotations(nil, after) {
			if !strings.HasPrefix(key, "rbd-rescue.io/") || !strings.HasPrefix(wrong, "annotation "+key+": ") {
				t.Errorf("%q=%q: %s", key, value, wrong)
			}
		}
		if wrong := checkAnnotations(after, after); wrong != nil {
			t.Errorf("%q=%q was there before, and is refused: %v", key, value, wrong)
		}
	})
}
