package policies

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	admissionv1 "k8s.io/api/admissionregistration/v1"

	"github.com/rbd-rescue/rbd-rescue/e2e/lab/process"
)

// Kubernetes looks for mistakes of type by itself, and shows what it finds in the status: an expression with one may fail, and a
// policy that cannot be evaluated refuses, or lets pass, everything.
func TestThePoliciesHaveNoMistakesOfType(t *testing.T) {
	t.Parallel()
	p, err := supervisor.Start(process.Spec{
		Name: "kube-controller-manager", Path: filepath.Join(binaries.Dir, "lab-kube"),
		Args: []string{
			"kube-controller-manager", "--kubeconfig=" + api.Kubeconfig(), "--leader-elect=false", "--bind-address=" + address,
			"--controllers=validatingadmissionpolicy-status-controller", "--flex-volume-plugin-dir=" + filepath.Join(dir, "flexvolume"),
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	var policies admissionv1.ValidatingAdmissionPolicyList
	err = eventually(t.Context(), "all policies are looked at", func(ctx context.Context) error {
		if err := users["admin"].List(ctx, &policies); err != nil {
			return err
		}
		for _, policy := range policies.Items {
			if policy.Status.ObservedGeneration != policy.Generation {
				return fmt.Errorf("not yet at %s; the log of the controller is %s", policy.Name, p.Log())
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(policies.Items) < 2 {
		t.Fatal("there are no policies")
	}
	for _, policy := range policies.Items {
		if policy.Status.TypeChecking == nil {
			continue
		}
		for _, warning := range policy.Status.TypeChecking.ExpressionWarnings {
			t.Errorf("%s: %s: %s", policy.Name, warning.FieldRef, strings.TrimSpace(warning.Warning))
		}
	}
}
