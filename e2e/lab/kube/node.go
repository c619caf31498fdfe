package kube

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/rbd-rescue/rbd-rescue/e2e/lab/network"
	"github.com/rbd-rescue/rbd-rescue/e2e/lab/process"
)

// NodeOptions say what a node is.
type NodeOptions struct {
	Name   string
	Host   network.Host
	Labels map[string]string
	// Plugin gives the CSI node plugin for a kubelet's root directory: it serves plugins/rbd.csi.ceph.com/csi.sock and the registration socket
	// plugins_registry/rbd.csi.ceph.com-reg.sock below it. Their directories exist. Nil is a node without.
	Plugin func(rootDir string) process.Spec
	// Machine is a VM whose kernel stands for the node's; nil for none. A boot of the node is a boot of it.
	Machine *process.Spec
}

// Node is a node of the cluster: a container runtime, a kubelet, a CSI plugin and, where it has one, a VM.
type Node struct {
	plane      *ControlPlane
	options    NodeOptions
	kubeconfig string

	mu      sync.Mutex
	bootID  string
	machine *process.Process
	cri     *process.Process
	plugin  *process.Process
	kubelet *process.Process
}

// AddNode starts a node and waits until it is Ready and has its CSI driver.
func (c *ControlPlane) AddNode(ctx context.Context, options NodeOptions) (*Node, error) {
	n := &Node{plane: c, options: options}
	var err error
	if n.kubeconfig, err = c.certificateKubeconfig("node-"+options.Name, "system:node:"+options.Name, "system:nodes"); err != nil {
		return nil, err
	}
	if err := n.boot(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("starting node %s: %w", options.Name, err), n.Close())
	}
	return n, nil
}

// Name is the node's name.
func (n *Node) Name() string { return n.options.Name }

// Host is the node's place in the network.
func (n *Node) Host() network.Host { return n.options.Host }

// Root is the kubelet's root directory.
func (n *Node) Root() string { return filepath.Join(n.plane.options.Dir, "nodes", n.options.Name) }

// BootID is the node's present boot ID.
func (n *Node) BootID() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.bootID
}

// boot starts everything on an empty root directory, as a new boot.
func (n *Node) boot(ctx context.Context) error {
	if err := n.wipe(ctx); err != nil {
		return err
	}
	for _, dir := range []string{"plugins/" + Driver, "plugins_registry"} {
		if err := os.MkdirAll(filepath.Join(n.Root(), dir), 0o755); err != nil {
			return fmt.Errorf("making the node's directories: %w", err)
		}
	}
	n.mu.Lock()
	n.bootID = newBootID()
	n.mu.Unlock()
	var err error
	if n.options.Machine != nil {
		if n.machine, err = n.plane.supervisor.Start(*n.options.Machine); err != nil {
			return err
		}
	}
	if n.cri, err = n.start("cri", "--socket="+n.criSocket()); err != nil {
		return err
	}
	if n.options.Plugin != nil {
		if n.plugin, err = n.plane.supervisor.Start(n.options.Plugin(n.Root())); err != nil {
			return err
		}
	}
	if err := poll(ctx, "the container runtime's socket", func(context.Context) error {
		_, err := os.Stat(n.criSocket())
		return err
	}); err != nil {
		return err
	}
	if err := n.startKubelet(ctx, time.Time{}); err != nil { // the new boot ID tells its reports from older ones
		return err
	}
	return n.machineUp(ctx)
}

// machineUp waits until the plugin serves the VM's kernel: what the last boot registered does not tell.
func (n *Node) machineUp(ctx context.Context) error {
	if n.machine == nil {
		return nil
	}
	return n.plane.waitFor(ctx, n.machine, "the VM of node "+n.options.Name, func(context.Context) error {
		_, err := os.Stat(filepath.Join(n.Root(), "plugins", Driver, "csi.sock"))
		return err
	})
}

// StartKubelet starts the kubelet and waits until the node is Ready by that kubelet's own word and its CSI driver is registered.
func (n *Node) StartKubelet(ctx context.Context) error { return n.startKubelet(ctx, time.Now()) }

// startKubelet takes no sign of life for the kubelet's that is older than since.
func (n *Node) startKubelet(ctx context.Context, since time.Time) error {
	args := []string{
		"--name=" + n.options.Name, "--kubeconfig=" + n.kubeconfig, "--root-dir=" + n.Root(), "--node-ip=" + n.options.Host.IP.String(),
		"--boot-id=" + n.BootID(), "--cri-socket=" + n.criSocket(), "--v=2",
	}
	var labels []string
	for key, value := range n.options.Labels {
		labels = append(labels, key+"="+value)
	}
	if len(labels) > 0 {
		slices.Sort(labels)
		args = append(args, "--node-labels="+strings.Join(labels, ","))
	}
	var err error
	if n.kubelet, err = n.start("kubelet", args...); err != nil {
		return err
	}
	return n.plane.waitFor(ctx, n.kubelet, "node "+n.options.Name+" to be Ready", func(ctx context.Context) error { return n.ready(ctx, since) })
}

func (n *Node) ready(ctx context.Context, since time.Time) error {
	if !since.IsZero() { // heartbeats are in whole seconds, leases are exact, but come late on a new cluster
		lease, err := n.plane.client.CoordinationV1().Leases(corev1.NamespaceNodeLease).Get(ctx, n.options.Name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		if lease.Spec.RenewTime == nil || lease.Spec.RenewTime.Time.Before(since) {
			return errors.New("the kubelet has not renewed the node's lease yet")
		}
	}
	node, err := n.plane.client.CoreV1().Nodes().Get(ctx, n.options.Name, metav1.GetOptions{})
	if err != nil {
		return err
	}
	i := slices.IndexFunc(node.Status.Conditions, func(c corev1.NodeCondition) bool { return c.Type == corev1.NodeReady })
	switch {
	case i < 0:
		return errors.New("the node has no condition Ready")
	case node.Status.Conditions[i].LastHeartbeatTime.Time.Before(since.Truncate(time.Second)):
		return errors.New("the kubelet has not reported the node's status yet")
	case node.Status.NodeInfo.BootID != n.BootID():
		return fmt.Errorf("the node has boot ID %q, not %q", node.Status.NodeInfo.BootID, n.BootID())
	case node.Status.Conditions[i].Status != corev1.ConditionTrue:
		return fmt.Errorf("the node is not Ready: %s", node.Status.Conditions[i].Message)
	case slices.ContainsFunc(node.Spec.Taints, func(t corev1.Taint) bool {
		return t.Key == corev1.TaintNodeNotReady || t.Key == corev1.TaintNodeUnreachable
	}):
		return errors.New("the node still has the taint of a failed node")
	case n.options.Plugin == nil:
		return nil
	}
	csiNode, err := n.plane.client.StorageV1().CSINodes().Get(ctx, n.options.Name, metav1.GetOptions{})
	if err != nil {
		return err
	}
	for _, driver := range csiNode.Spec.Drivers {
		if driver.Name == Driver {
			return nil
		}
	}
	return errors.New("the CSI driver is not registered; see the plugin's log")
}

// Kill ends all processes of the node at once. As the machine's kernel lives on, connections are closed, which a power cut doesn't do: cut the
// node's network first to hide that.
func (n *Node) Kill() error { return each(n.processes(), (*process.Process).Kill) }

// KillKubelet ends the kubelet alone; "containers" and the CSI plugin go on.
func (n *Node) KillKubelet() error {
	return each([]*process.Process{n.kubelet}, (*process.Process).Kill)
}

// KillRuntime ends the container runtime alone: the kubelet goes on, says that the node is not ready, and can end no pod.
func (n *Node) KillRuntime() error {
	return each([]*process.Process{n.cri}, (*process.Process).Kill)
}

// Freeze stops all processes of the node where they are.
func (n *Node) Freeze() error { return each(n.processes(), (*process.Process).Freeze) }

// Thaw lets a frozen node go on.
func (n *Node) Thaw() error { return each(n.processes(), (*process.Process).Thaw) }

// Reboot kills the node and starts it as a new boot: no mounts, empty disk, new boot ID. It waits until the node is Ready.
func (n *Node) Reboot(ctx context.Context) error {
	if err := errors.Join(n.Kill(), n.boot(ctx)); err != nil {
		return fmt.Errorf("rebooting node %s: %w", n.options.Name, err)
	}
	return nil
}

// Close kills the node and removes its mounts and files. The Node object stays.
func (n *Node) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	return errors.Join(n.Kill(), n.wipe(ctx))
}

func (n *Node) wipe(ctx context.Context) error {
	if err := UnmountBelow(ctx, n.Root()); err != nil {
		return err
	}
	if err := os.RemoveAll(n.Root()); err != nil {
		return fmt.Errorf("removing the files of node %s: %w", n.options.Name, err)
	}
	return nil
}

func (n *Node) start(component string, args ...string) (*process.Process, error) {
	return n.plane.supervisor.Start(process.Spec{
		Name: component + "-" + n.options.Name, Path: filepath.Join(n.plane.options.BinDir, "lab-kube"), Args: append([]string{component}, args...),
		NetNS: n.options.Host.NetNS,
	})
}

func (n *Node) criSocket() string { return filepath.Join(n.Root(), "cri.sock") }

func (n *Node) processes() []*process.Process {
	return []*process.Process{n.kubelet, n.plugin, n.cri, n.machine}
}

// each does something to all processes at the same time.
func each(processes []*process.Process, do func(*process.Process) error) error {
	errs := make([]error, len(processes))
	var all sync.WaitGroup
	for i, p := range processes {
		if p != nil {
			all.Go(func() { errs[i] = do(p) })
		}
	}
	all.Wait()
	return errors.Join(errs...)
}

// newBootID looks like /proc/sys/kernel/random/boot_id.
func newBootID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[0:4], b[4:6], b[6:8], b[8:10], b[10:])
}
