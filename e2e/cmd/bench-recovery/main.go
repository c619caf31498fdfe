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
	"strconv"
	"strings"
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
	runs := flag.Int("runs", 10, "runs of each way")
	sizes := []int{1, 40}
	flag.Func("volumes", "how many volumes the node has; several numbers for one table each (default 1,40)", func(text string) (err error) {
		sizes, err = numbers(text)
		return err
	})
	perImage := flag.Bool("client-per-image", false, "give every image a Ceph client of its own")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *runs, sizes, *perImage); err != nil {
		fmt.Fprintln(os.Stderr, "bench-recovery:", err)
		os.Exit(1) //nolint:gocritic // stop has nothing left to do
	}
}

// numbers reads whole numbers above 0 that are separated by commas.
func numbers(text string) ([]int, error) {
	var all []int
	for part := range strings.SplitSeq(text, ",") {
		number, err := strconv.Atoi(part)
		if err != nil || number < 1 {
			return nil, fmt.Errorf("%q is no number of volumes; give them as 1,40", part)
		}
		all = append(all, number)
	}
	return all, nil
}

func run(ctx context.Context, runs int, sizes []int, perImage bool) (err error) {
	l, err := lab.Start(ctx, lab.Options{Nodes: nodes, Progress: os.Stderr, ClientPerImage: perImage})
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
		defer cancel()
		err = errors.Join(err, l.Close(ctx, err != nil))
	}()
	if err != nil {
		return err
	}
	if err := errors.Join(l.Rescue.StartWebhook(ctx), l.Rescue.StartRemediator(ctx)); err != nil {
		return err
	}
	b := &bench{lab: l}
	for _, volumes := range sizes {
		results := map[string][]result{}
		for range runs {
			for _, way := range ways {
				b.count++
				r, err := b.once(ctx, way, volumes)
				if err != nil {
					printTables(volumes, results) // of the runs until then
					return fmt.Errorf("%s, %d volumes: %w", way.name, volumes, err)
				}
				fmt.Fprintf(os.Stderr, "  %-40s %3d volumes: last attached after %6.2f s\n", way.name, volumes, r.took.Seconds())
				results[way.name] = append(results[way.name], r)
			}
		}
		printTables(volumes, results)
	}
	return nil
}

// way is one way to get volumes from a failed node.
type way struct {
	name     string
	mode     v1alpha1.Mode
	snapshot v1alpha1.SnapshotPolicy
	// act is what a perfectly quick person does once a pod is Terminating; nil for rbd-rescue.
	act func(ctx context.Context, b *bench, w *lab.Workload) error
}

var ways = []way{
	{"rbd-rescue (fence proven, safety snapshot)", v1alpha1.ModeRescue, v1alpha1.SnapshotBestEffort, nil},
	{"rbd-rescue (fence proven, snapshots off)", v1alpha1.ModeRescue, v1alpha1.SnapshotOff, nil},
	{"force delete + delete VolumeAttachment", v1alpha1.ModeOff, v1alpha1.SnapshotOff, byHand},
	{"out-of-service taint", v1alpha1.ModeOff, v1alpha1.SnapshotOff, byTaint},
}

// result is one run.
type result struct {
	// took is the time from the first deletion of a pod to the last attachment elsewhere.
	took time.Duration
	// phases of rbd-rescue; nil for another way.
	phases map[string]time.Duration
}

func printTables(volumes int, results map[string][]result) {
	fmt.Printf("\n### %d volume(s) on the failed node\n\n", volumes)
	fmt.Println("| way | runs | median s | min s | max s | median against rbd-rescue |")
	fmt.Println("|---|---|---|---|---|---|")
	base := median(times(results[ways[0].name]))
	for _, way := range ways {
		all := times(results[way.name])
		if len(all) == 0 {
			continue
		}
		fmt.Printf("| %s | %d | %.2f | %.2f | %.2f | %.1f × |\n", way.name, len(all), median(all).Seconds(),
			slices.Min(all).Seconds(), slices.Max(all).Seconds(), median(all).Seconds()/base.Seconds())
	}
	for _, way := range ways {
		if way.act == nil && len(results[way.name]) > 0 {
			printPhases(way, results[way.name])
		}
	}
}

func printPhases(way way, results []result) {
	fmt.Printf("\nPhases of %s, median of the runs:\n\n", way.name)
	fmt.Println("| phase | s | share |")
	fmt.Println("|---|---|---|")
	var total time.Duration
	values := map[string]time.Duration{}
	for _, phase := range phases {
		var all []time.Duration
		for _, r := range results {
			all = append(all, r.phases[phase])
		}
		values[phase] = median(all)
		total += values[phase]
	}
	for _, phase := range phases {
		fmt.Printf("| %s | %.2f | %.0f %% |\n", phase, values[phase].Seconds(), 100*values[phase].Seconds()/max(total.Seconds(), 0.001))
	}
}

func times(results []result) []time.Duration {
	var all []time.Duration
	for _, r := range results {
		all = append(all, r.took)
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
