package main

import (
	"github.com/spf13/cobra"
	"k8s.io/utils/clock"

	"github.com/rbd-rescue/rbd-rescue/cmd/exit"
	"github.com/rbd-rescue/rbd-rescue/cmd/kubectl-rescue/status"
)

func statusCommand(p *plugin) *cobra.Command {
	var out output
	command := &cobra.Command{
		Use:   "status",
		Short: "Show failed and fenced nodes, what waits for what, and which volumes are protected",
		Long: `Show failed and fenced nodes with the volumes that they hold, what each waits for, whether anything new would be
fenced (breaker, pauses), and for how many attached RBD volumes a fresh record of their Ceph clients is there.

It reads the API and nothing else, and exits with 0 whatever it shows.`,
		Args: exit.Takes(),
		RunE: func(command *cobra.Command, _ []string) error {
			if err := out.check(); err != nil {
				return err
			}
			ctx, cancel := p.deadline(command.Context())
			defer cancel()
			reader, err := p.client()
			if err != nil {
				return err
			}
			now, err := status.Look(ctx, reader, p.rescueNamespace, clock.RealClock{})
			if err != nil {
				return err
			}
			if is, err := out.data(p.Out, now); is {
				return err
			}
			return now.Text(p.Out, out.format == "wide")
		},
	}
	out.addTo(command, "wide", "json", "yaml")
	return command
}
