package lab

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"

	appsv1 "k8s.io/api/apps/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rbd-rescue/rbd-rescue/e2e/lab/build"
	"github.com/rbd-rescue/rbd-rescue/e2e/lab/kube"
	"github.com/rbd-rescue/rbd-rescue/e2e/lab/microvm"
	"github.com/rbd-rescue/rbd-rescue/e2e/lab/process"
)

// krbdPort is where a node's VM serves the calls of the node's CSI plugin; only the node reaches it.
const krbdPort = 7000

// NoKernelNodes tells why AddKernelNode cannot work on this machine; empty if it can.
func (l *Lab) NoKernelNodes() string { return microvm.Unavailable(l.kernelDir()) }

func (l *Lab) kernelDir() string { return filepath.Join(l.binaries.Dir, microvm.Dir) }

// AddKernelNode adds a node to a running lab whose images are mapped by a real kernel's RBD client, in a microVM.
func (l *Lab) AddKernelNode(ctx context.Context, name string) error {
	kernel, err := microvm.FindKernel(l.kernelDir())
	if err != nil {
		return fmt.Errorf("adding node %s: %w", name, err)
	}
	initramfs := filepath.Join(Dir, "initramfs")
	if err := microvm.WriteInitramfs(initramfs, filepath.Join(l.binaries.Dir, build.LabVM), filepath.Join(l.binaries.Dir, build.NodeAgent), kernel); err != nil {
		return fmt.Errorf("adding node %s: %w", name, err)
	}
	host, err := l.Network.AddNode(ctx, name)
	if err != nil {
		return fmt.Errorf("adding node %s to the network: %w", name, err)
	}
	guest, err := l.Network.AddGuest(ctx, name)
	if err != nil {
		return err
	}
	listen := netip.AddrPortFrom(guest.Address.Addr(), krbdPort)
	machine := microvm.Spec(microvm.Options{
		Name: "vm-" + name, Kernel: kernel, Initramfs: initramfs, NetNS: host.NetNS, Tap: guest.Tap,
		Address: guest.Address, Gateway: guest.Gateway, Listen: listen,
	})
	node, err := l.Kube.AddNode(ctx, kube.NodeOptions{
		Name: name, Host: host, Machine: &machine,
		Plugin: func(root string) process.Spec {
			spec := l.plugin(name, host, root)
			spec.Args = append(spec.Args, "--machine="+listen.String(), "--leave-mapped="+leaveMapped(name))
			return spec
		},
	})
	if err != nil {
		return l.explain(fmt.Errorf("starting node %s: %w", name, errors.Join(err, l.Network.RemoveNode(ctx, name))))
	}
	l.Nodes[name] = node
	l.machines[name] = listen
	return nil
}

// leaveMapped is a file that has a node's plugin leave images mapped.
func leaveMapped(node string) string { return filepath.Join(Dir, "leave-mapped-"+node) }

// LeaveMapped says whether the plugin of a node with a VM leaves mapped what it unstages, as one does that ends in between.
func (l *Lab) LeaveMapped(node string, leave bool) error {
	if !leave {
		return os.Remove(leaveMapped(node))
	}
	return os.WriteFile(leaveMapped(node), nil, 0o600)
}

// StartAgent starts rbd-rescue's agent in a node's VM, as the chart's DaemonSet does on a node: with its arguments, and with a token that
// names the node. It ends with the VM.
func (l *Lab) StartAgent(ctx context.Context, name string) error {
	kubeconfig, err := l.Kube.KubeconfigOnNode(ctx, Namespace, "rbd-rescue-node", name)
	if err != nil {
		return fmt.Errorf("making the agent's kubeconfig: %w", err)
	}
	var set appsv1.DaemonSet
	if err := l.Client.Get(ctx, client.ObjectKey{Namespace: Namespace, Name: "rbd-rescue-node"}, &set); err != nil {
		return fmt.Errorf("reading the agents' DaemonSet: %w", err)
	}
	node := l.Nodes[name]
	if _, err := l.Supervisor.Start(process.Spec{
		Name: "agent-" + name, Path: filepath.Join(l.binaries.Dir, build.LabVM), NetNS: node.Host().NetNS,
		Args: slices.Concat(
			[]string{"--in=" + l.machines[name].String(), "--boot-id=" + node.BootID(), "--kubeconfig=" + kubeconfig, "--"},
			set.Spec.Template.Spec.Containers[0].Args, []string{"--node-name=" + name, "--health-probe-bind-address=0"}),
	}); err != nil {
		return fmt.Errorf("starting the agent of node %s: %w", name, err)
	}
	return nil
}
