package main

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/spf13/cobra"
	eventsv1 "k8s.io/api/events/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rbd-rescue/rbd-rescue/api/v1alpha1"
	"github.com/rbd-rescue/rbd-rescue/cmd/exit"
	"github.com/rbd-rescue/rbd-rescue/cmd/kubectl-rescue/timeline"
)

func timelineCommand(p *plugin) *cobra.Command {
	var out output
	command := &cobra.Command{
		Use:   "timeline NODEFENCE|NODE",
		Short: "Tell an incident as bars over time, also as a picture for the post-mortem",
		Long: `Tell an incident as bars over time: when the node was not ready, when the fence was begun and verified, and when each volume was
released, attached elsewhere and running. It comes from the NodeFence, and from events as long as Kubernetes keeps them. An incident
that is still under way ends now.

-o svg and -o html write a picture, or a page of its own, for a post-mortem: kubectl rescue timeline NAME -o html >incident.html`,
		Args:              exit.Takes("NODEFENCE or NODE"),
		ValidArgsFunction: p.completeFences,
		RunE: func(command *cobra.Command, args []string) error {
			if err := out.check(); err != nil {
				return err
			}
			ctx, cancel := p.deadline(command.Context())
			defer cancel()
			line, err := p.timelineOf(ctx, args[0])
			if err != nil {
				return err
			}
			if is, err := out.data(p.Out, line); is {
				return err
			}
			switch out.format {
			case "svg":
				return line.SVG(p.Out)
			case "html":
				return line.HTML(p.Out)
			default:
				return line.Text(p.Out)
			}
		},
	}
	out.addTo(command, "json", "yaml", "svg", "html")
	return command
}

// newestFence finds a NodeFence by its name, or the newest of a node, be it over or not: a post-mortem is written afterwards.
func newestFence(ctx context.Context, c client.Client, name string) (*v1alpha1.NodeFence, error) {
	nf := &v1alpha1.NodeFence{}
	if err := c.Get(ctx, client.ObjectKey{Name: name}, nf); err == nil || !apierrors.IsNotFound(err) {
		return nf, err
	}
	var list v1alpha1.NodeFenceList
	if err := c.List(ctx, &list); err != nil {
		return nil, fmt.Errorf("listing NodeFences: %w", err)
	}
	fences := slices.DeleteFunc(list.Items, func(nf v1alpha1.NodeFence) bool { return nf.Spec.NodeName != name })
	if len(fences) == 0 {
		return nil, fmt.Errorf("there is no NodeFence %s, and none of a node of that name: kubectl get nodefences", name)
	}
	newest := slices.MaxFunc(fences, func(a, b v1alpha1.NodeFence) int { return a.CreationTimestamp.Compare(b.CreationTimestamp.Time) })
	return &newest, nil
}

func (p *plugin) timelineOf(ctx context.Context, name string) (timeline.Timeline, error) {
	c, err := p.client()
	if err != nil {
		return timeline.Timeline{}, err
	}
	nf, err := newestFence(ctx, c, name)
	if err != nil {
		return timeline.Timeline{}, err
	}
	var events eventsv1.EventList
	if err := c.List(ctx, &events); err != nil { // they only add to it
		fmt.Fprintln(p.ErrOut, "Without events, which cannot be listed:", err)
	}
	return timeline.Of(nf, events.Items, time.Now()), nil
}
