//go:build librados

package main

import (
	"context"
	"fmt"
	"os"
	"strings"
)

// writeDescription writes what kubectl shows an administrator at the end.
func (d *demo) writeDescription(ctx context.Context, file string) error {
	if file == "" {
		return nil
	}
	var text strings.Builder
	for _, args := range [][]string{
		{"get", "nodefences"},
		{"describe", "nodefence"},
		{"describe", "node", victim},
		{"describe", "pvc", "db", "-n", namespace},
		{"describe", "pod", "-l", "app=web", "-n", namespace},
		{"describe", "pod", "-l", "app=db", "-n", namespace},
		{"get", "events", "-n", namespace, "--sort-by=.metadata.creationTimestamp"},
	} {
		out, err := d.Kube.Kubectl(ctx, args...)
		if err != nil {
			return fmt.Errorf("running kubectl %s: %w", strings.Join(args, " "), err)
		}
		fmt.Fprintf(&text, "$ kubectl %s\n%s\n", strings.Join(args, " "), out)
	}
	if err := os.WriteFile(file, []byte(text.String()), 0o644); err != nil { //nolint:gosec // not a secret
		return fmt.Errorf("writing the description: %w", err)
	}
	return nil
}
