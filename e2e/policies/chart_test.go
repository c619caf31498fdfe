package policies

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

	"github.com/rbd-rescue/rbd-rescue/e2e/lab/build"
)

// chart gives what an administrator installs, by the values of the chart's plain example; the API server calls the webhook at our
// address instead of through a Service, which nothing here routes.
func chart(ctx context.Context) ([]*unstructured.Unstructured, error) {
	dir := filepath.Join(binaries.Repository, "charts", "rbd-rescue")
	command := exec.CommandContext(ctx, filepath.Join(binaries.Dir, build.Helm), "template", "rbd-rescue", dir, "--namespace", ownNamespace,
		"--values", filepath.Join(dir, "ci", "plain-values.yaml"), "--set", fmt.Sprintf("webhook.url=https://%s:%d", address, webhookPort),
		"--kube-version", "1.37.0")
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
