package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"github.com/spf13/cobra"
	"google.golang.org/grpc"
)

// newCSIControllerCommand serves what csi-attacher asks a driver. Like ceph-csi's RBD driver it is a controller service that does not announce
// PUBLISH_UNPUBLISH_VOLUME, so csi-attacher marks volumes attached by itself and puts no finalizer on them.
func newCSIControllerCommand() *cobra.Command {
	var socket, driver string
	command := &cobra.Command{
		Use:  "csi-controller",
		Args: cobra.NoArgs,
		RunE: func(command *cobra.Command, _ []string) error {
			if err := os.Remove(socket); err != nil && !errors.Is(err, os.ErrNotExist) {
				return fmt.Errorf("removing the last run's socket: %w", err)
			}
			listener, err := net.Listen("unix", socket)
			if err != nil {
				return fmt.Errorf("serving the CSI controller: %w", err)
			}
			server := grpc.NewServer()
			service := &csiController{driver: driver}
			csi.RegisterIdentityServer(server, service)
			csi.RegisterControllerServer(server, service)
			context.AfterFunc(command.Context(), server.Stop)
			return server.Serve(listener)
		},
	}
	command.Flags().StringVar(&socket, "socket", "", "path of the unix socket to serve")
	command.Flags().StringVar(&driver, "driver", "rbd.csi.ceph.com", "name of the CSI driver")
	_ = command.MarkFlagRequired("socket")
	return command
}

type csiController struct {
	csi.UnimplementedIdentityServer
	csi.UnimplementedControllerServer
	driver string
}

func (c *csiController) GetPluginInfo(context.Context, *csi.GetPluginInfoRequest) (*csi.GetPluginInfoResponse, error) {
	return &csi.GetPluginInfoResponse{Name: c.driver, VendorVersion: "lab"}, nil
}

func (c *csiController) Probe(context.Context, *csi.ProbeRequest) (*csi.ProbeResponse, error) {
	return &csi.ProbeResponse{}, nil
}

func (c *csiController) GetPluginCapabilities(context.Context, *csi.GetPluginCapabilitiesRequest) (*csi.GetPluginCapabilitiesResponse, error) {
	return &csi.GetPluginCapabilitiesResponse{Capabilities: []*csi.PluginCapability{{
		Type: &csi.PluginCapability_Service_{Service: &csi.PluginCapability_Service{Type: csi.PluginCapability_Service_CONTROLLER_SERVICE}},
	}}}, nil
}

func (c *csiController) ControllerGetCapabilities(context.Context, *csi.ControllerGetCapabilitiesRequest) (*csi.ControllerGetCapabilitiesResponse, error) {
	return &csi.ControllerGetCapabilitiesResponse{Capabilities: []*csi.ControllerServiceCapability{{
		Type: &csi.ControllerServiceCapability_Rpc{Rpc: &csi.ControllerServiceCapability_RPC{Type: csi.ControllerServiceCapability_RPC_CREATE_DELETE_VOLUME}},
	}}}, nil
}
