package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/healthz"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	"github.com/rbd-rescue/rbd-rescue/api/v1alpha1"
	"github.com/rbd-rescue/rbd-rescue/cmd/exit"
	"github.com/rbd-rescue/rbd-rescue/node"
	"github.com/rbd-rescue/rbd-rescue/node/agent"
)

// agentOptions are the flags of node agent.
type agentOptions struct {
	agent.Options
	releaseAfter time.Duration
	probeAddress string
	verbosity    int
}

func agentCommand(host *hostOptions) *cobra.Command {
	var o agentOptions
	command := &cobra.Command{
		Use:   "agent",
		Short: "On a fenced node that comes back without a reboot: lets go what was moved away, and proves that nothing is left",
		Args:  exit.Takes(),
		RunE: func(command *cobra.Command, _ []string) error {
			if o.NodeName == "" {
				return exit.Misusef("--node-name: is missing, and $NODE_NAME is not set")
			}
			return runAgent(command.Context(), o, host)
		},
	}
	flags := command.Flags()
	flags.StringVar(&o.NodeName, "node-name", os.Getenv("NODE_NAME"), "name of this node; by default $NODE_NAME")
	flags.DurationVar(&o.ClearAfter, "clear-after", 30*time.Second, "how long the kubelet has to let go what was moved away, before the agent does")
	flags.DurationVar(&o.releaseAfter, "release-after", 0, "let go all mappings of namespaces in mode rescue once the API has not answered for this time; 0 for never")
	flags.StringVar(&o.probeAddress, "health-probe-bind-address", ":8081", `address of /healthz and /readyz; "0" for none`)
	flags.IntVarP(&o.verbosity, "verbosity", "v", 0, "0 logs what changes in the world, 1 also why nothing does")
	return command
}

// machine is this one.
type machine struct{ node.Releaser }

// Survey implements agent.Machine.
func (m machine) Survey(ctx context.Context) (node.Survey, error) { return m.Host.Survey(ctx) }

func runAgent(ctx context.Context, o agentOptions, host *hostOptions) error {
	restConfig, err := (&serving{verbosity: o.verbosity}).setUp("node")
	if err != nil {
		return err
	}
	kinds, err := scheme()
	if err != nil {
		return err
	}
	h, err := host.host()
	if err != nil {
		return err
	}
	mgr, err := ctrl.NewManager(restConfig, ctrl.Options{
		Scheme: kinds, Metrics: metricsserver.Options{BindAddress: "0"}, HealthProbeBindAddress: o.probeAddress,
	})
	if err != nil {
		return fmt.Errorf("setting the manager up: %w", err)
	}
	here := machine{host.releaser(h, os.Stderr)}
	controller := &agent.Controller{Options: o.Options, Client: mgr.GetClient(), Machine: here, Clock: clock.RealClock{}}
	if err := controller.AddTo(mgr); err != nil {
		return err
	}
	if o.releaseAfter > 0 {
		if err := mgr.Add(&agent.CutOff{After: o.releaseAfter, Rescued: rescued(mgr.GetAPIReader()), Machine: here, Clock: clock.RealClock{}}); err != nil {
			return fmt.Errorf("adding the watch over the API: %w", err)
		}
	}
	if err := errors.Join(mgr.AddHealthzCheck("ping", healthz.Ping), mgr.AddReadyzCheck("ping", healthz.Ping)); err != nil {
		return fmt.Errorf("adding the health checks: %w", err)
	}
	return mgr.Start(ctx)
}

// rescued asks the API for the namespaces in mode rescue.
func rescued(reader client.Reader) agent.Rescued {
	return func(ctx context.Context) (map[string]bool, error) {
		var list corev1.NamespaceList
		if err := reader.List(ctx, &list); err != nil {
			return nil, fmt.Errorf("listing namespaces: %w", err)
		}
		names := map[string]bool{}
		for _, namespace := range list.Items {
			if policy, err := v1alpha1.ParsePolicy(namespace.Annotations); err == nil && policy.Mode == v1alpha1.ModeRescue {
				names[namespace.Name] = true
			}
		}
		return names, nil
	}
}
