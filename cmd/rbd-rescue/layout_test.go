package main

import (
	"os/exec"
	"strings"
	"testing"
)

const module = "github.com/rbd-rescue/rbd-rescue"

// The three lines that the layout rests on (docs/architecture.md), held over everything that a package brings along.
func TestPackagesBringAlongOnlyWhatTheirFloorMayUse(t *testing.T) {
	t.Parallel()
	const goCeph = "github.com/ceph/go-ceph"
	for name, test := range map[string]struct {
		packages  string
		forbidden []string
	}{
		"decisions have no client": {
			packages:  "/remediator/plan",
			forbidden: []string{"sigs.k8s.io/controller-runtime/pkg/client", "k8s.io/client-go", module + "/ceph/librados", goCeph},
		},
		"what doctor says has no client": {
			packages:  "/doctor",
			forbidden: []string{"sigs.k8s.io/controller-runtime/pkg/client", "k8s.io/client-go", module + "/remediator", goCeph},
		},
		"admission asks neither Ceph nor the remediator": {
			packages:  "/webhook/...",
			forbidden: []string{module + "/ceph", module + "/remediator", goCeph},
		},
		"a build without the tag librados has no cgo of Ceph's": {
			packages:  "/...",
			forbidden: []string{goCeph},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			all := dependencies(t, module+test.packages)
			for _, dependency := range all {
				for _, path := range test.forbidden {
					if dependency == path || strings.HasPrefix(dependency, path+"/") {
						t.Errorf("%s%s brings along %s", module, test.packages, dependency)
					}
				}
			}
		})
	}
}

func dependencies(t *testing.T, packages string) []string {
	t.Helper()
	// No build flags of the caller's: GOFLAGS may carry the tag.
	command := exec.CommandContext(t.Context(), "go", "list", "-tags=", "-deps", packages)
	var problem strings.Builder
	command.Stderr = &problem
	out, err := command.Output()
	if err != nil {
		t.Fatalf("listing what %s needs: %v: %s", packages, err, problem.String())
	}
	list := strings.Fields(string(out))
	if len(list) < 10 {
		t.Fatalf("%s needs only %v", packages, list)
	}
	return list
}
