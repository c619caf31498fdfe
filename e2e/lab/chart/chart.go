// Package chart gives what the chart makes of its plain example, for tests that need an API server only: nothing of it runs.
package chart

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"path/filepath"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rbd-rescue/rbd-rescue/e2e/lab/build"
)

// Install makes what the chart has, but for what runs containers and routes to them. The API server calls the webhook at url instead
// of through a Service. args are further ones of helm template.
func Install(ctx context.Context, admin client.Client, binaries build.Binaries, namespace, url string, args ...string) error {
	objects, err := render(ctx, binaries, namespace, url, args)
	if err != nil {
		return err
	}
	for _, object := range objects {
		switch object.GetKind() {
		case "CustomResourceDefinition", "ServiceAccount", "Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding",
			"ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding", "MutatingWebhookConfiguration", "ValidatingWebhookConfiguration":
			if err := admin.Create(ctx, object); err != nil {
				return fmt.Errorf("installing %s %s: %w", object.GetKind(), object.GetName(), err)
			}
		}
	}
	return nil
}

func render(ctx context.Context, binaries build.Binaries, namespace, url string, args []string) ([]*unstructured.Unstructured, error) {
	dir := filepath.Join(binaries.Repository, "charts", "rbd-rescue")
	args = append([]string{
		"template", "rbd-rescue", dir, "--namespace", namespace,
		"--values", filepath.Join(dir, "ci", "plain-values.yaml"), "--set", "webhook.url=" + url, "--kube-version", "1.37.0",
	}, args...)
	command := exec.CommandContext(ctx, filepath.Join(binaries.Dir, build.Helm), args...)
	text, err := command.Output()
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		return nil, fmt.Errorf("rendering the chart: %w: %s", err, exit.Stderr)
	}
	if err != nil {
		return nil, fmt.Errorf("rendering the chart: %w", err)
	}
	var objects []*unstructured.Unstructured
	decoder := utilyaml.NewYAMLOrJSONDecoder(bytes.NewReader(text), 4096)
	for {
		object := &unstructured.Unstructured{}
		switch err := decoder.Decode(object); {
		case errors.Is(err, io.EOF):
			return objects, nil
		case err != nil:
			return nil, fmt.Errorf("decoding what Helm rendered: %w", err)
		case object.Object != nil:
			objects = append(objects, object)
		}
	}
}
