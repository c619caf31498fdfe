package lab

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"

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
	if err := microvm.WriteInitramfs(initramfs, filepath.Join(l.binaries.Dir, build.LabVM), kernel); err != nil {
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
			spec.Args = append(spec.Args, "--machine="+listen.String())
			return spec
		},
	})
	if err != nil {
		return l.explain(fmt.Errorf("starting node %s: %w", name, errors.Join(err, l.Network.RemoveNode(ctx, name))))
	}
	l.Nodes[name] = node
	return nil
}
