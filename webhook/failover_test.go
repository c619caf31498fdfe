package webhook

import (
	"encoding/json"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
)

func TestFailoverPatchesTouchOnlyKubernetesOwnDefault(t *testing.T) {
	t.Parallel()
	replaced := `[{"op":"replace","path":"/spec/tolerations/0/tolerationSeconds","value":30}]`
	for name, test := range map[string]struct {
		toleration string
		want       string // the patches; empty for none
	}{
		"the default of a node that is not Ready":   {toleration: byDefault("not-ready", 300), want: replaced},
		"the default of a node that is unreachable": {toleration: byDefault("unreachable", 300), want: replaced},
		"a longer time of the owner's":              {toleration: byDefault("unreachable", 301)},
		"a shorter time of the owner's":             {toleration: byDefault("not-ready", 10)},
		"for ever, as DaemonSets have it":           {toleration: `{"key":"node.kubernetes.io/not-ready","operator":"Exists","effect":"NoExecute"}`},
		"every effect":                              {toleration: `{"key":"node.kubernetes.io/not-ready","operator":"Exists","tolerationSeconds":300}`},
		"another effect":                            {toleration: `{"key":"node.kubernetes.io/not-ready","operator":"Exists","effect":"NoSchedule"}`},
		"a value":                                   {toleration: `{"key":"node.kubernetes.io/not-ready","operator":"Equal","effect":"NoExecute","tolerationSeconds":300}`},
		"another taint":                             {toleration: byDefault("memory-pressure", 300)},
		"every taint":                               {toleration: `{"operator":"Exists","effect":"NoExecute","tolerationSeconds":300}`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			pod := &corev1.Pod{Spec: corev1.PodSpec{Tolerations: make([]corev1.Toleration, 1)}}
			if err := json.Unmarshal([]byte(test.toleration), &pod.Spec.Tolerations[0]); err != nil {
				t.Fatal(err)
			}
			got := ""
			if patches := failoverPatches(pod, 30*time.Second); len(patches) > 0 {
				text, err := json.Marshal(patches)
				if err != nil {
					t.Fatal(err)
				}
				got = string(text)
			}
			if got != test.want {
				t.Errorf("%s, want %s", got, test.want)
			}
			for _, after := range []time.Duration{0, 300 * time.Second} {
				if patches := failoverPatches(pod, after); len(patches) > 0 {
					t.Errorf("after %s: %v, want none", after, patches)
				}
			}
		})
	}
}
