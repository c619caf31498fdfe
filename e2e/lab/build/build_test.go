package build

import "testing"

func TestTheVersionOfKubernetesIsFoundInTheModuleFile(t *testing.T) {
	got, err := kubernetesVersion(t.Context(), ".")
	const want = " -X k8s.io/component-base/version.gitVersion=v1.37.2 -X k8s.io/component-base/version.gitMajor=1 -X k8s.io/component-base/version.gitMinor=37"
	if err != nil || got != want {
		t.Errorf("got %q, %v\nwant %q", got, err, want)
	}
}
