package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/spf13/cobra"

	"github.com/rbd-rescue/rbd-rescue/cmd/exit"
	"github.com/rbd-rescue/rbd-rescue/doctor"
	"github.com/rbd-rescue/rbd-rescue/doctor/look"
)

const (
	// doctorTimeout bounds all of it; the parts are bounded by themselves.
	doctorTimeout = 2 * time.Minute
	// cachePatience is how long the remediator may take to hear of what the API has shown.
	cachePatience = 10 * time.Second
)

// doctorOptions are the flags of the doctor command.
type doctorOptions struct {
	verb
	metrics, webhook, output string
}

func doctorCommand() *cobra.Command {
	var o doctorOptions
	command := &cobra.Command{
		Use:   "doctor",
		Short: "Says what would keep a rescue from succeeding, as far as the remediator's pod shows; kubectl rescue doctor says the rest",
		Args:  exit.Takes(),
		RunE: func(command *cobra.Command, _ []string) error {
			return o.run(command.Context(), command.OutOrStdout())
		},
	}
	flags := command.Flags()
	o.addFlags(flags)
	flags.StringVar(&o.metrics, "metrics-bind-address", ":8080", `where the remediator of this pod serves its metrics; "0" if it does not`)
	flags.StringVar(&o.webhook, "webhook", "", "host:port of the webhook, whose certificate is looked at too; kubectl rescue doctor reads it")
	flags.StringVarP(&o.output, "output", "o", "text", "text or json")
	return command
}

func (o *doctorOptions) run(ctx context.Context, out io.Writer) error {
	if o.output != "text" && o.output != "json" {
		return exit.Misusef("--output: must be text or json, not %q", o.output)
	}
	metrics, err := metricsURL(o.metrics)
	if err != nil {
		return err
	}
	site, err := o.open("doctor")
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, doctorTimeout)
	defer cancel()
	pod := look.Pod{
		Reader: site.client, REST: site.rest, Clusters: site.clusters, Users: map[string]string{}, Namespace: o.namespace, Metrics: metrics,
		Patience: cachePatience, Room: func() error { return roomLeft(cgroup) },
	}
	for _, cluster := range site.configuration.CephClusters {
		pod.IDs = append(pod.IDs, cluster.ClusterID)
		pod.Users[cluster.ClusterID] = cluster.User
	}
	told := doctor.Told{Findings: pod.Look(ctx).Findings()}
	if o.webhook != "" {
		served := look.Served(ctx, o.webhook)
		told.Webhook = &served
	}
	if err := o.write(out, told); err != nil {
		return fmt.Errorf("writing what was found: %w", err)
	}
	if doctor.Failed(told.Findings) {
		return exit.ErrFound
	}
	return nil
}

func (o *doctorOptions) write(out io.Writer, told doctor.Told) error {
	if o.output == "json" {
		return json.NewEncoder(out).Encode(told)
	}
	return doctor.WriteText(out, told.Findings)
}

// metricsURL is where the metrics are that a remediator binds to an address.
func metricsURL(address string) (string, error) {
	if address == "0" {
		return "", nil
	}
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return "", exit.Misusef("--metrics-bind-address: must be an address with a port, as the remediator's, not %q", address)
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "localhost"
	}
	return "http://" + net.JoinHostPort(host, port) + "/metrics", nil
}
