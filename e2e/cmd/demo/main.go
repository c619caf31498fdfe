//go:build librados

// Command demo shows the main job: a node with two databases on RBD volumes freezes, rbd-rescue moves them, the data is
// proven from the images, and when the node thaws its writes are refused. A Prometheus looks on. It ends with an error if anything
// did not hold.
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

	"golang.org/x/sync/errgroup"
	"k8s.io/apimachinery/pkg/util/wait"

	"github.com/rbd-rescue/rbd-rescue/api/v1alpha1"
	"github.com/rbd-rescue/rbd-rescue/e2e/lab"
	"github.com/rbd-rescue/rbd-rescue/e2e/lab/prometheus"
	"github.com/rbd-rescue/rbd-rescue/e2e/workload"
)

const (
	namespace = "shop"
	victim    = "node-a"
	// patience stands for Kubernetes' 300 s of toleration, which would make a long demo.
	patience = 5 * time.Second
)

func main() {
	describe := flag.String("describe", "", "file to write kubectl describe of everything to, at the end")
	pictures := flag.String("pictures", "", "folder to write pictures of the incident's timeline and of the dashboard to, at the end")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *describe, *pictures); err != nil {
		fmt.Fprintln(os.Stderr, "\nThe demo did not hold:", err)
		os.Exit(1) //nolint:gocritic // stop has nothing left to do
	}
}

func run(ctx context.Context, describe, pictures string) (err error) {
	say("1. A cluster: real Ceph, a real Kubernetes control plane, four nodes in network namespaces")
	l, err := lab.Start(ctx, lab.Options{Nodes: []string{victim, "node-b", "node-c", "node-d"}, Progress: os.Stdout})
	defer func() {
		say("Stopping the lab")
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
	d := &demo{Lab: l}
	for _, step := range []func(context.Context) error{d.watch, d.deploy, d.fail, d.prove, d.thaw, d.alert, d.held} {
		if err := step(ctx); err != nil {
			return errors.Join(err, d.writeDescription(ctx, describe))
		}
	}
	return errors.Join(d.writeDescription(ctx, describe), d.draw(ctx, pictures))
}

func say(format string, args ...any) { fmt.Printf("\n== "+format+"\n", args...) }

type demo struct {
	*lab.Lab
	workloads    []*lab.Workload
	prometheus   *prometheus.Server
	watchedSince time.Time
}

// deploy runs a StatefulSet and a Deployment on the node that will fail.
func (d *demo) deploy(ctx context.Context) error {
	say("2. Namespace %s opts in (rbd-rescue.io/mode: rescue); a StatefulSet and a Deployment write to RBD volumes on %s", namespace, victim)
	if err := d.MakeNamespace(ctx, namespace, v1alpha1.ModeRescue); err != nil {
		return err
	}
	for _, o := range []lab.WorkloadOptions{{Name: "db", StatefulSet: true}, {Name: "web"}} {
		o.Namespace, o.On, o.Patience = namespace, victim, patience
		w, err := d.MakeWorkload(ctx, o)
		if err != nil {
			return err
		}
		d.workloads = append(d.workloads, w)
	}
	return d.each(ctx, 60*time.Second, "to run on "+victim+" with its Ceph client on record", func(ctx context.Context, w *lab.Workload) (bool, error) {
		node, err := w.RunsOn(ctx)
		if err != nil || node != victim {
			return false, err
		}
		clients, err := w.Recorded(ctx, victim)
		return len(clients) > 0, err
	})
}

// fail freezes the node and shows what happens until both workloads run elsewhere and write.
func (d *demo) fail(ctx context.Context) error {
	say("3. %s freezes: it is not dead, it only looks so. Its pods tolerate that for %s (in a real cluster 300 s)", victim, patience)
	if err := d.Nodes[victim].Freeze(); err != nil {
		return err
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	group, groupCtx := errgroup.WithContext(ctx)
	group.Go(func() error { return d.timeline(groupCtx) })
	group.Go(func() error {
		defer stop()
		return d.each(groupCtx, 2*time.Minute, "to run and write elsewhere", func(ctx context.Context, w *lab.Workload) (bool, error) {
			node, err := w.RunsOn(ctx)
			if err != nil || node == "" || node == victim {
				return false, err
			}
			return d.writes(ctx, w, func(r workload.WriterReport) bool { return r.Node == node && r.Acknowledged > 0 })
		})
	})
	return group.Wait()
}

func (d *demo) prove(ctx context.Context) error {
	say("4. The proof, read back from the images")
	return d.readBack(ctx)
}

// readBack shows what the images hold, and that nothing acknowledged is missing.
func (d *demo) readBack(ctx context.Context) error {
	for _, w := range d.workloads {
		report, err := w.Check(ctx)
		if err != nil {
			return err
		}
		fmt.Printf("  image %s\n%s", w.Image, indent(report.String()))
		if !report.OK {
			return fmt.Errorf("the data of image %s does not hold", w.Image)
		}
	}
	return nil
}

// thaw lets the old node go on: its writers try, and Ceph refuses them.
func (d *demo) thaw(ctx context.Context) error {
	say("5. %s thaws, and its writers go on where they stopped", victim)
	if err := d.Nodes[victim].Thaw(); err != nil {
		return err
	}
	if err := d.each(ctx, 30*time.Second, "to be refused on "+victim, func(ctx context.Context, w *lab.Workload) (bool, error) {
		return d.writes(ctx, w, func(r workload.WriterReport) bool { return r.Node == victim && r.Refused != "" })
	}); err != nil {
		return err
	}
	return d.readBack(ctx)
}

func (d *demo) held(context.Context) error {
	say("7. It held: both run elsewhere, nothing acknowledged is lost, and not one write of the old node landed")
	return nil
}

// writes tells whether a writer of the workload is as wanted.
func (d *demo) writes(ctx context.Context, w *lab.Workload, is func(workload.WriterReport) bool) (bool, error) {
	report, err := w.Check(ctx)
	return slices.ContainsFunc(report.Writers, is), err
}

// each waits until a fact holds for every workload.
func (d *demo) each(ctx context.Context, within time.Duration, what string, holds func(context.Context, *lab.Workload) (bool, error)) error {
	for _, w := range d.workloads {
		if err := wait.PollUntilContextTimeout(ctx, 100*time.Millisecond, within, true, func(ctx context.Context) (bool, error) {
			return holds(ctx, w)
		}); err != nil {
			return fmt.Errorf("waiting for %s/%s %s: %w (logs are in %s)", w.Namespace, w.Name, what, err, d.Supervisor.Logs())
		}
	}
	return nil
}
