package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"
	eventsv1 "k8s.io/api/events/v1"

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
		Args:              cobra.ExactArgs(1),
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

func (p *plugin) timelineOf(ctx context.Context, name string) (timeline.Timeline, error) {
	c, err := p.client()
	if err != nil {
		return timeline.Timeline{}, err
	}
	nf, err := findFence(ctx, c, name)
	if err != nil {
		return timeline.Timeline{}, err
	}
	var events eventsv1.EventList
	if err := c.List(ctx, &events); err != nil { // they only add to it
		fmt.Fprintln(p.ErrOut, "Without events, which cannot be listed:", err)
	}
	return timeline.Of(nf, events.Items, time.Now()), nil
}
