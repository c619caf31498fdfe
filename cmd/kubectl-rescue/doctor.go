package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/rbd-rescue/rbd-rescue/cmd/exit"
	"github.com/rbd-rescue/rbd-rescue/cmd/kubectl-rescue/remote"
	"github.com/rbd-rescue/rbd-rescue/doctor"
	"github.com/rbd-rescue/rbd-rescue/doctor/look"
)

// doctorTimeout is what it takes where nothing answers, and every part waits to its end.
const doctorTimeout = 2 * time.Minute

func doctorCommand(p *plugin) *cobra.Command {
	var o output
	command := &cobra.Command{
		Use:   "doctor",
		Short: "Say what would keep a rescue from succeeding, with remedies",
		Long:  "Looks at Ceph, at what is on record of the nodes' clients, at the webhook, the remediator and at who else fences, and changes nothing. Ends with code 1 if a check failed. What each check means: docs/doctor.md.",
		Args:  exit.Takes(),
		RunE: func(command *cobra.Command, _ []string) error {
			if err := o.check(); err != nil {
				return err
			}
			if !command.Flags().Changed("timeout") {
				p.timeout = doctorTimeout
			}
			return p.doctor(command.Context(), &o)
		},
	}
	o.addTo(command, "json", "yaml")
	return command
}

func (p *plugin) doctor(ctx context.Context, o *output) error {
	ctx, cancel := p.deadline(ctx)
	defer cancel()
	config, err := p.config()
	if err != nil {
		return err
	}
	person, err := look.NewPerson(config, p.rescueNamespace, version)
	if err != nil {
		return err
	}
	rescue, err := p.rescue()
	if err != nil {
		return err
	}
	outside := person.Look(ctx)
	findings := p.inside(ctx, rescue, &outside.Webhook)
	findings = append(findings, outside.Findings()...)
	doctor.Sort(findings)
	if is, err := o.data(p.Out, map[string]any{"findings": findings}); err != nil {
		return fmt.Errorf("writing what was found: %w", err)
	} else if !is {
		if err := doctor.WriteText(p.Out, findings); err != nil {
			return fmt.Errorf("writing what was found: %w", err)
		}
	}
	if doctor.Failed(findings) {
		return exit.ErrFound
	}
	return nil
}

// inside has the remediator's pod look, and takes over what the webhook serves there.
func (p *plugin) inside(ctx context.Context, rescue remote.Runner, webhook *doctor.Webhook) []doctor.Finding {
	args := []string{"doctor", "-o=json"}
	if address := webhook.Address(); address != "" {
		args = append(args, "--webhook="+address)
	}
	var out bytes.Buffer
	err := rescue.Run(ctx, remote.Streams{Out: &out, Err: p.ErrOut}, args...)
	var told doctor.Told
	var coded exit.Coded
	if errors.As(err, &coded) && coded == exit.Failed && json.Valid(out.Bytes()) {
		err = nil // it has found something
	}
	if err == nil {
		err = json.Unmarshal(out.Bytes(), &told)
	}
	if err != nil {
		return []doctor.Finding{doctor.NotInside(err)}
	}
	if told.Webhook != nil {
		webhook.Served, webhook.ServedError = doctor.Certificates([]byte(told.Webhook.Certificates)), told.Webhook.Error
	}
	return told.Findings
}
