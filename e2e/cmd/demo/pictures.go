//go:build librados

package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/rbd-rescue/rbd-rescue/e2e/lab/prometheus"
)

// draw has the tools draw what happened, while Prometheus still runs: the plugin the timeline, tools/dashboard the dashboard.
func (d *demo) draw(ctx context.Context, folder string) error {
	if folder == "" {
		return nil
	}
	folder, err := filepath.Abs(folder)
	if err != nil {
		return err
	}
	if err := d.drawTimeline(ctx, filepath.Join(folder, "story-timeline.svg")); err != nil {
		return err
	}
	return d.drawDashboard(ctx, filepath.Join(folder, "dashboard.svg"))
}

func (d *demo) drawTimeline(ctx context.Context, file string) error {
	out, code, err := d.Plugin(ctx, "", "timeline", victim, "-o=svg")
	if err != nil {
		return err
	}
	if code != 0 {
		return fmt.Errorf("drawing the timeline: kubectl rescue ended with %d: %s", code, out)
	}
	return os.WriteFile(file, []byte(out), 0o644) //nolint:gosec // not a secret
}

func (d *demo) drawDashboard(ctx context.Context, file string) error {
	draw := exec.CommandContext(ctx, "go", "-C", filepath.Join(d.Repository(), "tools", "dashboard"), "run", ".",
		"-prometheus", d.prometheus.URL(), "-scrape", prometheus.ScrapeEvery.String(),
		"-from", d.watchedSince.UTC().Format(time.RFC3339), "-to", time.Now().UTC().Format(time.RFC3339Nano),
		"-out", file, filepath.Join(d.Chart(), "files", "dashboards", "rbd-rescue.json"))
	if out, err := draw.CombinedOutput(); err != nil {
		return fmt.Errorf("drawing the dashboard: %w: %s", err, out)
	}
	return nil
}
