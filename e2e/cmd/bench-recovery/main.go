//go:build librados

// Command bench-recovery measures how long a volume takes from the deletion of its old pod to its attachment to another
// node: with rbd-rescue (fence and proof included), by hand (force delete, then deletion of the VolumeAttachment) and with
// the out-of-service taint (neither of which fences). All runs are of one lab, one after the other, in turn.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"syscall"
	"time"

	"github.com/rbd-rescue/rbd-rescue/api/v1alpha1"
	"github.com/rbd-rescue/rbd-rescue/e2e/lab"
)

const (
	victim   = "node-a"
	patience = 2 * time.Second
	// giveUp is when a run counts as never recovered.
	giveUp = 4 * time.Minute
)

var nodes = []string{victim, "node-b", "node-c", "node-d"}

func main() {
	runs := flag.Int("runs", 10, "runs of each way with one volume")
	many := flag.Int("volumes", 40, "volumes on the node in the runs with many")
	manyRuns := flag.Int("many-runs", 1, "runs of each way with many volumes")
	perImage := flag.Bool("client-per-image", false, "give every image a Ceph client of its own")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *runs, *many, *manyRuns, *perImage); err != nil {
		fmt.Fprintln(os.Stderr, "bench-recovery:", err)
		os.Exit(1) //nolint:gocritic // stop has nothing left to do
	}
}

func run(ctx context.Context, runs, many, manyRuns int, perImage bool) (err error) {
	l, err := lab.Start(ctx, lab.Options{Nodes: nodes, Progress: os.Stderr, ClientPerImage: perImage})
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
		defer cancel()
		err = errors.Join(err, l.Close(ctx))
	}()
	if err != nil {
		return err
	}
	if err := errors.Join(l.Rescue.StartWebhook(ctx), l.Rescue.StartRemediator(ctx)); err != nil {
		return err
	}
	b := &bench{lab: l}
	for _, plan := range []struct{ volumes, runs int }{{1, runs}, {many, manyRuns}} {
		results := map[string][]result{}
		for range plan.runs {
			for _, way := range ways {
				b.count++
				r, err := b.once(ctx, way, plan.volumes)
				if err != nil {
					return fmt.Errorf("%s, %d volumes: %w", way.name, plan.volumes, err)
				}
				fmt.Fprintf(os.Stderr, "  %-40s %3d volumes: last attached after %6.2f s\n", way.name, plan.volumes, r.last().Seconds())
				results[way.name] = append(results[way.name], r)
			}
		}
		printTable(plan.volumes, results)
	}
	return nil
}

// way is one way to get volumes from a failed node.
type way struct {
	name string
	mode v1alpha1.Mode
	// act is what a perfectly quick person does once a pod is Terminating; nil for rbd-rescue.
	act func(ctx context.Context, b *bench, w *lab.Workload) error
}

var ways = []way{
	{"rbd-rescue (fence proven)", v1alpha1.ModeRescue, nil},
	{"force delete + delete VolumeAttachment", v1alpha1.ModeOff, byHand},
	{"out-of-service taint", v1alpha1.ModeOff, byTaint},
}

// result is one run: for each volume the time from its pod's deletion to its attachment elsewhere, and rbd-rescue's phases.
type result struct {
	attached []time.Duration
	phases   map[string]time.Duration
}

func (r result) last() time.Duration { return slices.Max(r.attached) }

func printTable(volumes int, results map[string][]result) {
	fmt.Printf("\n### %d volume(s) on the failed node\n\n", volumes)
	fmt.Println("| way | runs | median s | min s | max s | median against rbd-rescue |")
	fmt.Println("|---|---|---|---|---|---|")
	base := median(lasts(results[ways[0].name]))
	for _, way := range ways {
		all := lasts(results[way.name])
		fmt.Printf("| %s | %d | %.2f | %.2f | %.2f | %.1f × |\n", way.name, len(all), median(all).Seconds(),
			slices.Min(all).Seconds(), slices.Max(all).Seconds(), median(all).Seconds()/base.Seconds())
	}
	fmt.Println("\nrbd-rescue's phases, median of the runs:")
	fmt.Println("\n| phase | s | share |")
	fmt.Println("|---|---|---|")
	var total time.Duration
	values := map[string]time.Duration{}
	for _, phase := range phases {
		var all []time.Duration
		for _, r := range results[ways[0].name] {
			all = append(all, r.phases[phase])
		}
		values[phase] = median(all)
		total += values[phase]
	}
	for _, phase := range phases {
		fmt.Printf("| %s | %.2f | %.0f %% |\n", phase, values[phase].Seconds(), 100*values[phase].Seconds()/max(total.Seconds(), 0.001))
	}
}

func lasts(results []result) []time.Duration {
	var all []time.Duration
	for _, r := range results {
		all = append(all, r.last())
	}
	return all
}

func median(all []time.Duration) time.Duration {
	sorted := slices.Sorted(slices.Values(all))
	if len(sorted) == 0 {
		return 0
	}
	return (sorted[(len(sorted)-1)/2] + sorted[len(sorted)/2]) / 2
}
