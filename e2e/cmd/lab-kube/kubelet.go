package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"time"

	cadvisorapi "github.com/google/cadvisor/lib/model"
	"github.com/spf13/cobra"
	utilnet "k8s.io/apimachinery/pkg/util/net"
	clientset "k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	criapitest "k8s.io/cri-api/pkg/apis/testing"
	remote "k8s.io/cri-client/pkg"
	"k8s.io/klog/v2"
	"k8s.io/kubernetes/cmd/kubelet/app/options"
	kubeletconfig "k8s.io/kubernetes/pkg/kubelet/apis/config"
	cadvisortest "k8s.io/kubernetes/pkg/kubelet/cadvisor/testing"
	"k8s.io/kubernetes/pkg/kubelet/cm"
	kubecontainer "k8s.io/kubernetes/pkg/kubelet/container"
	"k8s.io/kubernetes/pkg/kubemark"
	"k8s.io/kubernetes/pkg/volume/util/hostutil"
	"k8s.io/kubernetes/pkg/volume/util/subpath"
	"k8s.io/mount-utils"
)

// A kubelet reports faster than by default (status 10 s, lease 40 s), for a node's death to show within seconds.
const (
	statusUpdateFrequency = 2 * time.Second
	leaseDuration         = 10 * time.Second // renewed every quarter of it
	heartbeatTimeout      = 5 * time.Second
)

type kubeletOptions struct {
	name, kubeconfig, rootDir, nodeIP, bootID, criSocket string
	labels                                               map[string]string
}

// newKubeletCommand is the real kubelet with real mounts, real CSI and a boot ID of one's choice, above a fake container runtime, cgroups
// and machine.
func newKubeletCommand() *cobra.Command {
	var o kubeletOptions
	command := &cobra.Command{
		Use:  "kubelet",
		Args: cobra.NoArgs,
		RunE: func(command *cobra.Command, _ []string) error { return runKubelet(command.Context(), o) },
	}
	flags := command.Flags()
	flags.StringVar(&o.name, "name", "", "name of the node")
	flags.StringVar(&o.kubeconfig, "kubeconfig", "", "kubeconfig of the node's user")
	flags.StringVar(&o.rootDir, "root-dir", "", "directory of the kubelet's files; keep it short, unix sockets go below it")
	flags.StringVar(&o.nodeIP, "node-ip", "", "InternalIP of the node")
	flags.StringVar(&o.bootID, "boot-id", "", "boot ID to report")
	flags.StringVar(&o.criSocket, "cri-socket", "", "path of the container runtime's unix socket")
	flags.StringToStringVar(&o.labels, "node-labels", nil, "labels of the node")
	for _, name := range []string{"name", "kubeconfig", "root-dir", "node-ip", "boot-id", "cri-socket"} {
		_ = command.MarkFlagRequired(name)
	}
	goFlags := flag.NewFlagSet("klog", flag.ContinueOnError)
	klog.InitFlags(goFlags)
	flags.AddGoFlagSet(goFlags)
	return command
}

func runKubelet(ctx context.Context, o kubeletOptions) error {
	flags, config, err := o.configuration()
	if err != nil {
		return err
	}
	clientConfig, err := clientcmd.BuildConfigFromFlags("", o.kubeconfig)
	if err != nil {
		return fmt.Errorf("reading the kubeconfig: %w", err)
	}
	clientConfig.UserAgent = "kubelet"
	clientConfig.ContentType = "application/vnd.kubernetes.protobuf"
	clientConfig.QPS, clientConfig.Burst = float32(config.KubeAPIQPS), int(config.KubeAPIBurst)
	client, err := clientset.NewForConfig(clientConfig)
	if err != nil {
		return fmt.Errorf("making the client: %w", err)
	}
	heartbeatConfig := rest.CopyConfig(clientConfig)
	heartbeatConfig.Timeout, heartbeatConfig.QPS = heartbeatTimeout, -1
	heartbeatClient, err := clientset.NewForConfig(heartbeatConfig)
	if err != nil {
		return fmt.Errorf("making the heartbeat client: %w", err)
	}
	runtimeService, err := remote.NewRemoteRuntimeServiceBuilder().WithEndpoint("unix://" + o.criSocket).WithConnectionTimeout(15 * time.Second).Build(ctx)
	if err != nil {
		return fmt.Errorf("connecting to the container runtime: %w", err)
	}
	hollow := kubemark.NewHollowKubelet(flags, config, client, heartbeatClient, &machine{Fake: cadvisortest.Fake{NodeName: o.name}, bootID: o.bootID},
		criapitest.NewFakeImageService(), runtimeService, cm.NewStubContainerManagerWithDevicePluginResource(nil))
	mounter := mount.New("")
	deps := hollow.KubeletDeps
	deps.Mounter, deps.HostUtil, deps.Subpather, deps.OSInterface = mounter, hostutil.NewHostUtil(), subpath.New(mounter), kubecontainer.RealOS{}
	deps.Recorder, deps.EventClient = nil, client.CoreV1() // real events
	deps.OnHeartbeatFailure = func() {
		utilnet.CloseIdleConnectionsFor(client.CoreV1().RESTClient().(*rest.RESTClient).Client.Transport)
	}
	go hollow.Run(ctx)
	<-ctx.Done()
	return nil
}

// configuration is kubemark's with directories of our own, and with volumes that kube-controller-manager attaches.
func (o kubeletOptions) configuration() (*options.KubeletFlags, *kubeletconfig.KubeletConfiguration, error) {
	flags, config := kubemark.GetHollowKubeletConfig(&kubemark.HollowKubeletOptions{NodeName: o.name, MaxPods: 110, NodeLabels: o.labels})
	if err := os.RemoveAll(flags.RootDirectory); err != nil {
		return nil, nil, fmt.Errorf("removing kubemark's own root directory: %w", err)
	}
	// The kubelet's log clean-up globs <log path>*, which with the fake runtime's empty path are all files of the working directory.
	workDir := filepath.Join(o.rootDir, "work")
	config.PodLogsDir = filepath.Join(o.rootDir, "logs")
	for _, dir := range []string{workDir, config.PodLogsDir} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return nil, nil, fmt.Errorf("making the kubelet's directories: %w", err)
		}
	}
	if err := os.Chdir(workDir); err != nil {
		return nil, nil, fmt.Errorf("entering the working directory: %w", err)
	}
	flags.RootDirectory, flags.NodeIP = o.rootDir, o.nodeIP
	config.Address, config.StaticPodPath, config.ResolverConfig = o.nodeIP, "", ""
	config.ProviderID = ""
	config.EnableServer = false // no logs, no exec: there are no containers
	config.EnableControllerAttachDetach = true
	config.NodeStatusUpdateFrequency.Duration = statusUpdateFrequency
	config.NodeLeaseDurationSeconds = int32(leaseDuration / time.Second)
	return flags, config, nil
}

// machine is what the kubelet sees of its hardware.
type machine struct {
	cadvisortest.Fake
	bootID string
}

func (m *machine) MachineInfo(klog.Logger) (*cadvisorapi.MachineInfo, error) {
	return &cadvisorapi.MachineInfo{
		NumCores: 4, MemoryCapacity: 8 << 30,
		InstanceID: cadvisorapi.InstanceID(m.NodeName), MachineID: "machine-" + m.NodeName, SystemUUID: "uuid-" + m.NodeName, BootID: m.bootID,
	}, nil
}
