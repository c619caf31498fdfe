package lab

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"sigs.k8s.io/yaml"

	"github.com/rbd-rescue/rbd-rescue/doctor"
)

// Doctor runs `kubectl rescue doctor` with all rights, and `rbd-rescue doctor` as the remediator's pod would: with its token, and
// with its configuration or these clusters. It gives the exit code and what was found.
func (r *Rescue) Doctor(ctx context.Context, clusters ...any) (code int, findings []doctor.Finding, err error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	command, err := r.doctorCommand(clusters)
	if err != nil {
		return 0, nil, err
	}
	out, code, err := r.lab.Plugin(ctx, "", "doctor", "-o=json", "--rescue-command="+strings.Join(command, " "))
	if err != nil {
		return 0, nil, err
	}
	var told doctor.Told
	if err := json.NewDecoder(strings.NewReader(out)).Decode(&told); err != nil { // what was said on stderr comes after it
		return code, nil, fmt.Errorf("kubectl rescue doctor ended with code %d and said %q: %w", code, out, err)
	}
	return code, told.Findings, nil
}

// doctorCommand is the remediator's own, with another configuration if there are clusters.
func (r *Rescue) doctorCommand(clusters []any) ([]string, error) {
	command := append(strings.Fields(r.command), fmt.Sprintf("--metrics-bind-address=127.0.0.1:%d", remediatorMetrics))
	if len(clusters) == 0 {
		return command, nil
	}
	text, err := yaml.Marshal(map[string]any{"apiVersion": "config.rbd-rescue.io/v1alpha1", "kind": "RemediatorConfiguration", "cephClusters": clusters})
	if err != nil {
		return nil, fmt.Errorf("encoding the configuration for doctor: %w", err)
	}
	path := filepath.Join(Dir, "doctor.yaml")
	if err := os.WriteFile(path, text, 0o600); err != nil {
		return nil, fmt.Errorf("writing the configuration for doctor: %w", err)
	}
	return append(command, "--config="+path), nil // the last one counts
}
