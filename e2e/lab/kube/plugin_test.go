package kube

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"testing"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	registration "k8s.io/kubelet/pkg/apis/pluginregistration/v1"

	"github.com/rbd-rescue/rbd-rescue/e2e/lab/network"
	"github.com/rbd-rescue/rbd-rescue/e2e/lab/process"
)

// With these variables set, the test binary is a CSI node plugin whose volumes are a tmpfs each.
const pluginRoot, pluginNode = "LAB_TEST_PLUGIN_ROOT", "LAB_TEST_PLUGIN_NODE"

func TestMain(m *testing.M) {
	if root := os.Getenv(pluginRoot); root != "" {
		if err := servePlugin(root, os.Getenv(pluginNode)); err != nil {
			println(err.Error())
			os.Exit(1)
		}
	}
	os.Exit(m.Run())
}

func tmpfsPlugin(name string, host network.Host) func(string) process.Spec {
	return func(root string) process.Spec {
		return process.Spec{Name: "csi-" + name, Path: os.Args[0], Env: []string{pluginRoot + "=" + root, pluginNode + "=" + name}, NetNS: host.NetNS}
	}
}

type plugin struct {
	csi.UnimplementedIdentityServer
	csi.UnimplementedNodeServer
	registration.UnsafeRegistrationServer
	node, socket string
}

func servePlugin(root, node string) error {
	p := &plugin{node: node, socket: filepath.Join(root, "plugins", Driver, "csi.sock")}
	driver := grpc.NewServer()
	csi.RegisterIdentityServer(driver, p)
	csi.RegisterNodeServer(driver, p)
	registrar := grpc.NewServer()
	registration.RegisterRegistrationServer(registrar, p)
	ended := make(chan error)
	for socket, server := range map[string]*grpc.Server{p.socket: driver, filepath.Join(root, "plugins_registry", Driver+"-reg.sock"): registrar} {
		listener, err := net.Listen("unix", socket)
		if err != nil {
			return err
		}
		go func() { ended <- server.Serve(listener) }()
	}
	return <-ended
}

func (p *plugin) GetInfo(context.Context, *registration.InfoRequest) (*registration.PluginInfo, error) {
	return &registration.PluginInfo{Type: registration.CSIPlugin, Name: Driver, Endpoint: p.socket, SupportedVersions: []string{"1.0.0"}}, nil
}

func (p *plugin) NotifyRegistrationStatus(_ context.Context, s *registration.RegistrationStatus) (*registration.RegistrationStatusResponse, error) {
	println("registered:", s.PluginRegistered, s.Error)
	return &registration.RegistrationStatusResponse{}, nil
}

func (p *plugin) GetPluginInfo(context.Context, *csi.GetPluginInfoRequest) (*csi.GetPluginInfoResponse, error) {
	return &csi.GetPluginInfoResponse{Name: Driver, VendorVersion: "test"}, nil
}

func (p *plugin) Probe(context.Context, *csi.ProbeRequest) (*csi.ProbeResponse, error) {
	return &csi.ProbeResponse{}, nil
}

func (p *plugin) NodeGetInfo(context.Context, *csi.NodeGetInfoRequest) (*csi.NodeGetInfoResponse, error) {
	return &csi.NodeGetInfoResponse{NodeId: p.node}, nil
}

func (p *plugin) NodeGetCapabilities(context.Context, *csi.NodeGetCapabilitiesRequest) (*csi.NodeGetCapabilitiesResponse, error) {
	return &csi.NodeGetCapabilitiesResponse{Capabilities: []*csi.NodeServiceCapability{{
		Type: &csi.NodeServiceCapability_Rpc{Rpc: &csi.NodeServiceCapability_RPC{Type: csi.NodeServiceCapability_RPC_STAGE_UNSTAGE_VOLUME}},
	}}}, nil
}

func (p *plugin) NodeStageVolume(_ context.Context, r *csi.NodeStageVolumeRequest) (*csi.NodeStageVolumeResponse, error) {
	return &csi.NodeStageVolumeResponse{}, errors.Join(os.MkdirAll(r.StagingTargetPath, 0o755), unix.Mount("tmpfs", r.StagingTargetPath, "tmpfs", 0, "size=1m"))
}

func (p *plugin) NodeUnstageVolume(_ context.Context, r *csi.NodeUnstageVolumeRequest) (*csi.NodeUnstageVolumeResponse, error) {
	return &csi.NodeUnstageVolumeResponse{}, UnmountBelow(context.Background(), r.StagingTargetPath)
}

func (p *plugin) NodePublishVolume(_ context.Context, r *csi.NodePublishVolumeRequest) (*csi.NodePublishVolumeResponse, error) {
	return &csi.NodePublishVolumeResponse{}, errors.Join(os.MkdirAll(r.TargetPath, 0o755), unix.Mount(r.StagingTargetPath, r.TargetPath, "", unix.MS_BIND, ""))
}

func (p *plugin) NodeUnpublishVolume(_ context.Context, r *csi.NodeUnpublishVolumeRequest) (*csi.NodeUnpublishVolumeResponse, error) {
	return &csi.NodeUnpublishVolumeResponse{}, errors.Join(UnmountBelow(context.Background(), r.TargetPath), os.RemoveAll(r.TargetPath))
}
