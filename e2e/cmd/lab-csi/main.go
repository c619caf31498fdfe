//go:build librados

// Command lab-csi is a node's CSI plugin in the lab, by ceph-csi's name. It stands for the node's containers as well, and runs
// the writers. It stands for the kernel, too, where the node has no VM: it holds the images open by librbd, with one client
// for all of them as krbd has.
package main

import (
	"context"
	"flag"
	"fmt"
	"log"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc"
	registration "k8s.io/kubelet/pkg/apis/pluginregistration/v1"
)

const driver = "rbd.csi.ceph.com"

// bootWithin is how long a VM may take, on a busy machine without KVM.
const bootWithin = 2 * time.Minute

func main() {
	var o options
	endpoint := flag.String("endpoint", "", "unix:// socket of the plugin")
	registrationSocket := flag.String("registration", "", "unix:// socket on which the kubelet finds the plugin")
	flag.StringVar(&o.node, "node-id", "", "name of the node")
	flag.StringVar(&o.clustersFile, "clusters", "", "file that lists the Ceph clusters")
	flag.StringVar(&o.user, "user", "", "Ceph user without client.")
	flag.StringVar(&o.ackDir, "ack-dir", "", "folder for the logs of acknowledged writes")
	flag.BoolVar(&o.clientPerImage, "client-per-image", false, "give every image a client of its own, as rbd-nbd does")
	flag.StringVar(&o.machine, "machine", "", "address of the VM whose kernel maps the images (lab-vm); empty to open them by librbd")
	flag.StringVar(&o.leaveMapped, "leave-mapped", "", "file: while it is there, images stay mapped in the VM")
	write := flag.String("write", "", "clusterID/pool/image: serve nobody, and write to this image until the end, as a kubelet without CSI would have it")
	flag.Parse()
	log.SetFlags(log.Lmicroseconds)
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	err := func() error {
		defer stop()
		m, err := newMapper(ctx, o)
		if err != nil {
			return err
		}
		if *write != "" {
			return writeTo(ctx, o, m, *write)
		}
		return serve(ctx, newNode(o, m), *endpoint, *registrationSocket)
	}()
	if err != nil {
		log.Fatal(err)
	}
}

// newMapper waits for the VM: before, no kubelet finds the plugin.
func newMapper(ctx context.Context, o options) (mapper, error) {
	if o.machine == "" {
		return newLibrary(o), nil
	}
	ctx, cancel := context.WithTimeout(ctx, bootWithin)
	defer cancel()
	return dialKernel(ctx, o)
}

// writeTo writes to one image until ctx ends.
func writeTo(ctx context.Context, o options, m mapper, spec string) error {
	parts := strings.Split(spec, "/")
	if len(parts) != 3 {
		return fmt.Errorf("the image to write to is %q, not clusterID/pool/image", spec)
	}
	name := parts[2]
	images := newImages(m)
	if err := images.open(ctx, name, imageRef{parts[0], parts[1], name}, false); err != nil {
		return err
	}
	image, err := images.get(name)
	if err != nil {
		return err
	}
	w := startWriter(image, o)
	<-ctx.Done()
	w.stop()
	return images.close(name)
}

func serve(ctx context.Context, n *node, endpoint, registrationSocket string) error {
	plugin := grpc.NewServer(grpc.UnaryInterceptor(logged))
	csi.RegisterIdentityServer(plugin, identity{})
	csi.RegisterNodeServer(plugin, n)
	registrar := grpc.NewServer()
	registration.RegisterRegistrationServer(registrar, registrationServer{endpoint: strings.TrimPrefix(endpoint, "unix://")})
	failed := make(chan error, 2)
	for socket, server := range map[string]*grpc.Server{endpoint: plugin, registrationSocket: registrar} {
		listener, err := listen(socket)
		if err != nil {
			return err
		}
		go func() { failed <- server.Serve(listener) }()
	}
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
		return nil
	}
}

func listen(socket string) (net.Listener, error) {
	path := strings.TrimPrefix(socket, "unix://")
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, fmt.Errorf("making the folder of socket %s: %w", path, err)
	}
	if err := os.RemoveAll(path); err != nil {
		return nil, fmt.Errorf("removing an old socket: %w", err)
	}
	return net.Listen("unix", path)
}

func logged(ctx context.Context, request any, info *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (any, error) {
	response, err := handle(ctx, request)
	if method := filepath.Base(info.FullMethod); strings.HasPrefix(method, "Node") && !strings.HasPrefix(method, "NodeGet") {
		log.Printf("%s: %v", method, err)
	}
	return response, err
}

// identity is the plugin's name.
type identity struct {
	csi.UnimplementedIdentityServer
}

func (identity) GetPluginInfo(context.Context, *csi.GetPluginInfoRequest) (*csi.GetPluginInfoResponse, error) {
	return &csi.GetPluginInfoResponse{Name: driver, VendorVersion: "lab"}, nil
}

func (identity) GetPluginCapabilities(context.Context, *csi.GetPluginCapabilitiesRequest) (*csi.GetPluginCapabilitiesResponse, error) {
	return &csi.GetPluginCapabilitiesResponse{}, nil
}

func (identity) Probe(context.Context, *csi.ProbeRequest) (*csi.ProbeResponse, error) {
	return &csi.ProbeResponse{}, nil
}

// registrationServer tells the kubelet where the plugin is.
type registrationServer struct {
	registration.UnimplementedRegistrationServer
	endpoint string
}

func (r registrationServer) GetInfo(context.Context, *registration.InfoRequest) (*registration.PluginInfo, error) {
	return &registration.PluginInfo{
		Type: registration.CSIPlugin, Name: driver, Endpoint: r.endpoint, SupportedVersions: []string{"1.0.0"},
	}, nil
}

func (registrationServer) NotifyRegistrationStatus(_ context.Context, status *registration.RegistrationStatus) (*registration.RegistrationStatusResponse, error) {
	if !status.PluginRegistered {
		log.Printf("the kubelet refused the plugin: %s", status.Error)
	}
	return &registration.RegistrationStatusResponse{}, nil
}
