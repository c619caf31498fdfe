//go:build librados

package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	eventsv1 "k8s.io/api/events/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/rbd-rescue/rbd-rescue/e2e/lab"
	"github.com/rbd-rescue/rbd-rescue/volume"
)

// lookEvery is the grain of the timeline.
const lookEvery = 50 * time.Millisecond

// timeline prints what happens, in seconds since the node was NotReady, until the context ends.
func (d *demo) timeline(ctx context.Context) error {
	t := &timeline{demo: d, start: time.Now(), told: map[types.UID]bool{}, seen: map[string]string{}}
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		if err := t.look(ctx); err != nil && !errors.Is(err, context.Canceled) {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

type timeline struct {
	*demo
	start, notReady time.Time
	told            map[types.UID]bool
	seen            map[string]string
}

func (t *timeline) print(at time.Time, object, what string) {
	since := "            "
	if !t.notReady.IsZero() {
		since = fmt.Sprintf("NotReady %+5.1f s", at.Sub(t.notReady).Seconds())
	}
	fmt.Printf("  %-16s %-24s %s\n", since, object, what)
}

// change prints a fact about an object if it is new.
func (t *timeline) change(object, what string) {
	if t.seen[object] != what {
		t.seen[object] = what
		t.print(time.Now(), object, what)
	}
}

func (t *timeline) look(ctx context.Context) error {
	node, err := t.Node(ctx, victim)
	if err != nil {
		return err
	}
	if _, failed := volume.Failed(node); failed && t.notReady.IsZero() {
		t.notReady = time.Now()
		t.print(t.notReady, "node "+victim, fmt.Sprintf("NotReady, %.1f s after it froze", time.Since(t.start).Seconds()))
	}
	if err := t.events(ctx); err != nil {
		return err
	}
	for _, w := range t.workloads {
		if err := t.pods(ctx, w); err != nil {
			return err
		}
	}
	return nil
}

// events prints rbd-rescue's own, once each; what is told about several objects is told here by the NodeFence's.
func (t *timeline) events(ctx context.Context) error {
	var list eventsv1.EventList
	if err := t.Client.List(ctx, &list); err != nil {
		return fmt.Errorf("listing events: %w", err)
	}
	slices.SortFunc(list.Items, func(a, b eventsv1.Event) int { return a.EventTime.Compare(b.EventTime.Time) })
	for _, e := range list.Items {
		ours := e.Regarding.Kind == "NodeFence" || e.Reason == "VolumeHeld"
		if !ours || t.told[e.UID] {
			continue
		}
		t.told[e.UID] = true
		t.print(e.EventTime.Time, cmp.Or(e.Reason, "?"), e.Note)
	}
	return nil
}

func (t *timeline) pods(ctx context.Context, w *lab.Workload) error {
	pods, err := w.Pods(ctx)
	if err != nil {
		return err
	}
	for i := range pods {
		pod := &pods[i]
		where := cmp.Or(pod.Spec.NodeName, "no node yet")
		state := string(pod.Status.Phase)
		if volume.Terminating(pod) {
			state = "Terminating"
		}
		t.change("pod "+pod.Name+" "+string(pod.UID[:4]), state+" on "+where)
	}
	return nil
}

func indent(text string) string {
	return "  " + strings.ReplaceAll(strings.TrimSuffix(text, "\n"), "\n", "\n  ") + "\n"
}
