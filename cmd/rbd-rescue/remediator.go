package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/healthz"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	"github.com/rbd-rescue/rbd-rescue/cmd/exit"
	"github.com/rbd-rescue/rbd-rescue/cmd/rbd-rescue/config"
	"github.com/rbd-rescue/rbd-rescue/remediator"
)

func remediatorCommand() *cobra.Command {
	var s serving
	var configFile string
	command := &cobra.Command{
		Use:   "remediator",
		Short: "Records Ceph clients, fences failed nodes, releases their volumes and lifts fences",
		Args:  exit.Takes(),
		RunE: func(command *cobra.Command, _ []string) error {
			return runRemediator(command.Context(), s, configFile)
		},
	}
	s.addFlags(command.Flags())
	command.Flags().StringVar(&configFile, "config", "", "file that says how to reach the Ceph clusters (see docs/configuration.md)")
	return command
}

func runRemediator(ctx context.Context, s serving, configFile string) error {
	if err := s.validate(); err != nil {
		return err
	}
	if configFile == "" {
		return exit.Misusef("--config: is missing; see docs/configuration.md for what the file holds")
	}
	configuration, err := config.Load(configFile)
	if err != nil {
		return err
	}
	for _, cluster := range configuration.CephClusters {
		if _, err := cluster.Key(); err != nil { // told at the start, not at the first failure
			return fmt.Errorf("configuration %s: %w", configFile, err)
		}
	}
	if errNoLibrados != nil {
		return errNoLibrados
	}
	restConfig, err := s.setUp("remediator")
	if err != nil {
		return err
	}
	kinds, err := scheme()
	if err != nil {
		return err
	}
	mgr, err := ctrl.NewManager(restConfig, ctrl.Options{
		Scheme:                        kinds,
		Cache:                         remediator.CacheOptions(),
		Metrics:                       metricsserver.Options{BindAddress: s.metricsAddress},
		HealthProbeBindAddress:        s.probeAddress,
		LeaderElection:                true,
		LeaderElectionID:              "rbd-rescue-remediator",
		LeaderElectionNamespace:       s.namespace,
		LeaderElectionReleaseOnCancel: true, // main returns at once after Start
	})
	if err != nil {
		return fmt.Errorf("setting the manager up: %w", err)
	}
	options := remediator.Options{
		Clusters: clustersOf(configuration, mgr.GetAPIReader()), Clock: clock.RealClock{}, Namespace: s.namespace, Settings: configuration.Settings(),
		Boundary: boundary,
	}
	if err := remediator.Add(ctx, mgr, options); err != nil {
		return err
	}
	if err := mgr.AddHealthzCheck("ping", healthz.Ping); err != nil {
		return fmt.Errorf("adding the health check: %w", err)
	}
	if err := mgr.AddReadyzCheck("ping", healthz.Ping); err != nil { // a replica that waits for leadership is ready
		return fmt.Errorf("adding the readiness check: %w", err)
	}
	return mgr.Start(ctx)
}
