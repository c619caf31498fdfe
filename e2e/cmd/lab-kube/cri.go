package main

import (
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"
	"k8s.io/cri-client/pkg/fake"
)

// newCRICommand is the container runtime: it runs nothing and reports everything as running. It is a process of its own, so that "containers"
// outlive a killed kubelet.
func newCRICommand() *cobra.Command {
	var socket string
	command := &cobra.Command{
		Use:  "cri",
		Args: cobra.NoArgs,
		RunE: func(command *cobra.Command, _ []string) error {
			if err := os.Remove(socket); err != nil && !errors.Is(err, os.ErrNotExist) {
				return fmt.Errorf("removing the last run's socket: %w", err)
			}
			runtime := fake.NewFakeRemoteRuntime()
			runtime.ImageService.SetFakeImageSize(1) // the kubelet runs no image without a size
			if err := runtime.Start("unix://" + socket); err != nil {
				return fmt.Errorf("serving the container runtime: %w", err)
			}
			<-command.Context().Done()
			return nil
		},
	}
	command.Flags().StringVar(&socket, "socket", "", "path of the unix socket to serve")
	_ = command.MarkFlagRequired("socket")
	return command
}
