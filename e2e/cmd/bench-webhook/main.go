// Command bench-webhook measures what rbd-rescue costs a large cluster while nothing has failed, and while some nodes have: the
// time of the webhook's handler, the memory of both commands beside an API server that holds so many objects, and what
// admission adds to the creation of a pod, beside no webhook and an empty one.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"
	"time"

	"github.com/go-logr/logr"
	ctrl "sigs.k8s.io/controller-runtime"
)

func main() {
	var b bench
	flag.IntVar(&b.world.nodes, "nodes", 5_000, "nodes, as many as Kubernetes supports")
	flag.IntVar(&b.world.claims, "claims", 100_000, "claims, each with a PersistentVolume that is attached, and a pod")
	flag.IntVar(&b.world.pods, "pods", 120_000, "pods; those beyond the claims have no claim")
	flag.IntVar(&b.failed, "failed", 10, "nodes that fail")
	flag.IntVar(&b.admissions, "admissions", 20_000, "calls of the handler for each kind of pod")
	flag.IntVar(&b.creations, "creations", 1_000, "pods created through the API server in each way")
	flag.DurationVar(&b.steady, "steady", steady, "how long a command is left alone before its memory counts as steady")
	flag.BoolVar(&b.remediator, "remediator", true, "measure the remediator, too")
	flag.Parse()
	ctrl.SetLogger(logr.Discard())
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	run := b.run
	if flag.Arg(0) == serveEmpty {
		run = runEmptyWebhook
	}
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "bench-webhook:", err)
		os.Exit(1) //nolint:gocritic // stop has nothing left to do
	}
}

type bench struct {
	world                         world
	failed, admissions, creations int
	steady                        time.Duration
	remediator                    bool
}

func (b *bench) run(ctx context.Context) (err error) {
	c, err := start(ctx, b.world)
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
		defer cancel()
		err = errors.Join(err, c.close(ctx))
	}()
	if err != nil {
		return err
	}
	var report report
	if b.remediator {
		if err := b.measureRemediator(ctx, c, &report); err != nil {
			return err
		}
	}
	if err := b.measureWebhook(ctx, c, &report); err != nil {
		return err
	}
	report.print()
	return nil
}

func (b *bench) measureRemediator(ctx context.Context, c *cluster, report *report) error {
	begin := time.Now()
	remediator, err := c.startRemediator(ctx)
	if err != nil {
		return err
	}
	synced := time.Since(begin)
	for _, at := range []struct {
		when string
		wait time.Duration
	}{{"caches filled", 0}, {"steady", b.steady}} {
		if err := pause(ctx, at.wait); err != nil {
			return err
		}
		u, err := c.memory(ctx, remediator, remediatorMetrics, "remediator", at.when)
		if err != nil {
			return err
		}
		u.took = synced
		report.memory = append(report.memory, u)
	}
	return remediator.Stop(ctx)
}

func (b *bench) measureWebhook(ctx context.Context, c *cluster, report *report) error {
	begin := time.Now()
	webhook, err := c.startWebhook(ctx)
	if err != nil {
		return err
	}
	synced := time.Since(begin)
	measure := func(when string) error {
		u, err := c.memory(ctx, webhook, webhookMetrics, "webhook", when)
		u.took = synced
		report.memory = append(report.memory, u)
		return err
	}
	if err := measure("ready"); err != nil {
		return err
	}
	replica, err := c.startReplica(ctx)
	if err != nil {
		return err
	}
	debug.FreeOSMemory() // what filling etcd has left
	empty, err := c.startEmptyWebhook(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = empty.Stop(context.WithoutCancel(ctx)) }()
	for _, state := range []struct {
		name   string
		failed int
	}{{"0", 0}, {fmt.Sprint(b.failed), b.failed}} {
		if err := c.fail(ctx, state.failed); err != nil {
			return err
		}
		for _, q := range b.questions(c, state.failed > 0) {
			if err := replica.eventually(ctx, q); err != nil {
				return err
			}
			if _, _, err := replica.ask(ctx, q, b.admissions/10); err != nil { // warm
				return err
			}
			handler, server, err := replica.ask(ctx, q, b.admissions)
			if err != nil {
				return err
			}
			report.addHandler(state.name, q.name, handler, server)
		}
		ways := b.ways(c, state.failed > 0)
		took, err := c.creations(ctx, ways, b.creations)
		if err != nil {
			return err
		}
		report.addCreations(state.name, ways, took)
		if err := measure(state.name + " failed nodes"); err != nil {
			return err
		}
	}
	if err := pause(ctx, b.steady); err != nil {
		return err
	}
	if err := measure("steady"); err != nil {
		return err
	}
	return webhook.Stop(ctx)
}

// questions are kinds of pods: of a namespace that did not opt in; and of those that did, with claims of nodes that are well,
// and with claims of those that fail.
func (b *bench) questions(c *cluster, failed bool) []question {
	out, well, held := question{name: "namespace did not opt in"}, question{name: "claim of a node that is well"}, question{name: "claim that is held", flagged: true}
	for i := range b.world.claims {
		switch pod := c.newPod(i, ""); {
		case len(out.pods) < 100 && !b.world.optedIn(i):
			out.pods = append(out.pods, pod)
		case len(well.pods) < 100 && b.world.optedIn(i) && b.world.nodeOf(i) >= b.failed:
			well.pods = append(well.pods, pod)
		case failed && len(held.pods) < 100 && b.world.optedIn(i) && b.world.nodeOf(i) < b.failed:
			held.pods = append(held.pods, pod)
		}
	}
	if !failed {
		return []question{out, well}
	}
	return []question{out, well, held}
}

// ways to create a pod that wants a claim of the first node.
func (b *bench) ways(c *cluster, failed bool) []way {
	ways := []way{
		{"no webhook", c.newPod(0, withoutWebhook), false},
		{"an empty webhook", c.newPod(0, withEmptyWebhook), false},
	}
	if !failed {
		return append(ways, way{"rbd-rescue's", c.newPod(0, ""), false})
	}
	return append(ways, way{"rbd-rescue's, claim not held", c.newPod(b.failed, ""), false}, way{"rbd-rescue's, claim held", c.newPod(0, ""), true})
}
