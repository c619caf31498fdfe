//go:build librados

package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/util/wait"

	"github.com/rbd-rescue/rbd-rescue/e2e/lab/prometheus"
)

// watch has a Prometheus with the chart's alerts look on, once it has seen both components: before, it calls them missing.
func (d *demo) watch(ctx context.Context) error {
	var err error
	if d.prometheus, err = d.StartPrometheus(ctx); err != nil {
		return err
	}
	if err := wait.PollUntilContextTimeout(ctx, 500*time.Millisecond, 2*time.Minute, true, d.prometheus.Settled); err != nil {
		return fmt.Errorf("waiting until Prometheus sees rbd-rescue: %w", err)
	}
	d.watchedSince = time.Now()
	return nil
}

// alert waits until Prometheus tells that the thawed node has to be rebooted, and prints all that it has told.
func (d *demo) alert(ctx context.Context) error {
	const what = "RBDRescueNodeStillFenced"
	say("6. Prometheus has the alerts of the chart, in which a minute is a second here, and tells what is left to do")
	var firing []prometheus.Alert
	if err := wait.PollUntilContextTimeout(ctx, 500*time.Millisecond, 2*time.Minute, true, func(ctx context.Context) (_ bool, err error) {
		firing, err = d.prometheus.Firing(ctx)
		return slices.ContainsFunc(firing, func(a prometheus.Alert) bool { return a.Name() == what }), err
	}); err != nil {
		return fmt.Errorf("waiting for alert %s: %w", what, err)
	}
	for _, alert := range firing {
		fmt.Printf("  %s (%s): %s\n", alert.Name(), alert.Labels["severity"], alert.Annotations["summary"])
	}
	fired, err := d.prometheus.Fired(ctx, time.Since(d.watchedSince))
	if err != nil {
		return err
	}
	fmt.Printf("  fired since the beginning: %s\n", strings.Join(fired, ", "))
	return nil
}
