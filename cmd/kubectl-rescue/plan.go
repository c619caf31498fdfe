package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
	"k8s.io/cli-runtime/pkg/printers"

	"github.com/rbd-rescue/rbd-rescue/api/v1alpha1"
	"github.com/rbd-rescue/rbd-rescue/cmd/exit"
	"github.com/rbd-rescue/rbd-rescue/remediator/plan"
)

func planCommand(p *plugin) *cobra.Command {
	var out output
	command := &cobra.Command{
		Use:   "plan NODE",
		Short: "Show what would happen if a node failed now",
		Long: `Show what would happen if a node failed now: which Ceph clients would be cut off, which volumes would be released or
refused and why, what would be cut off besides, and which pods would be deleted. It is what rbd-rescue itself would decide, from what
Kubernetes and Ceph say now; nothing is written.

It runs in a pod of the remediator (which needs the right to create pods/exec in its namespace), or by --rescue-command.
It exits with 1 if nothing would be fenced, or a volume would be refused.`,
		Args:              exit.Takes("NODE"),
		ValidArgsFunction: p.completeNodes,
		RunE: func(command *cobra.Command, args []string) error {
			if err := out.check(); err != nil {
				return err
			}
			ctx, cancel := p.deadline(command.Context())
			defer cancel()
			rehearsal, err := p.rehearse(ctx, args[0])
			if err != nil {
				return err
			}
			if is, err := out.data(p.Out, rehearsal); is {
				return cmp.Or(err, verdict(rehearsal))
			}
			return cmp.Or(planText(p.Out, rehearsal, out.format == "wide"), verdict(rehearsal))
		},
	}
	out.addTo(command, "wide", "json", "yaml")
	return command
}

// rehearse asks rbd-rescue for the plan of a node.
func (p *plugin) rehearse(ctx context.Context, args ...string) (plan.Rehearsal, error) {
	var rehearsal plan.Rehearsal
	rescue, err := p.rescue()
	if err != nil {
		return rehearsal, err
	}
	var text bytes.Buffer
	streams := p.streams()
	streams.Out = &text
	if err := rescue.Run(ctx, streams, append([]string{"plan", "--output=json"}, args...)...); err != nil {
		return rehearsal, err
	}
	if err := json.Unmarshal(text.Bytes(), &rehearsal); err != nil {
		return rehearsal, fmt.Errorf("reading the plan: %w", err)
	}
	return rehearsal, nil
}

// verdict is how the plan command ends.
func verdict(r plan.Rehearsal) error {
	if r.Why != "" {
		return exit.ErrFound
	}
	for _, v := range r.Volumes {
		if v.Phase == v1alpha1.VolumeRefused {
			return exit.ErrFound
		}
	}
	return nil
}

// planText writes a plan for people.
func planText(to io.Writer, r plan.Rehearsal, wide bool) error {
	var w strings.Builder
	switch {
	case r.NodeFence != "":
		fmt.Fprintf(&w, "Node %s (boot %s) has NodeFence %s already. What comes of it:\n", r.Node, r.BootID, r.NodeFence)
	case r.Why != "":
		fmt.Fprintf(&w, "Nothing of node %s would be fenced now (%s): %s\n", r.Node, r.Reason, r.Why)
		if len(r.Clients) > 0 {
			fmt.Fprintln(&w, "Without that:")
		}
	default:
		fmt.Fprintf(&w, "Node %s (boot %s) would be fenced:\n", r.Node, r.BootID)
	}
	planTable(&w, "CLIENT CUT OFF\tSCOPE\tCLUSTER\tKNOWN FROM", len(r.Clients), func(i int) []string {
		c := r.Clients[i]
		return []string{c.Address, string(c.Scope), c.ClusterID, c.Source}
	})
	planTable(&w, "CLAIM\tIMAGE\tWOULD BE\tREASON\tWHY", len(r.Volumes), func(i int) []string {
		v := r.Volumes[i]
		return []string{v.Claim, v.Image, string(v.Phase), cmp.Or(v.Reason, "-"), cmp.Or(v.Message, "-")}
	})
	planTable(&w, "CUT OFF AS WELL, AND STAYS", len(r.Neighbours), func(i int) []string {
		return []string{cmp.Or(r.Neighbours[i].Claim, "PersistentVolume "+r.Neighbours[i].PersistentVolume)}
	})
	planTable(&w, "POD DELETED", len(r.DeletedPods), func(i int) []string { return []string{r.DeletedPods[i]} })
	if r.Tainted {
		fmt.Fprintf(&w, "\nThe node gets the taint %s:NoSchedule until the fence is lifted.\n", v1alpha1.TaintFenced)
	}
	if wide {
		planTable(&w, "STEP", len(r.Steps), func(i int) []string { return []string{r.Steps[i]} })
	}
	_, err := io.WriteString(to, w.String())
	return err
}

func planTable(w *strings.Builder, head string, rows int, row func(int) []string) {
	if rows == 0 {
		return
	}
	w.WriteByte('\n')
	columns := printers.GetNewTabWriter(w)
	fmt.Fprintln(columns, head)
	for i := range rows {
		fmt.Fprintln(columns, strings.Join(row(i), "\t"))
	}
	_ = columns.Flush() // a strings.Builder takes everything
}
