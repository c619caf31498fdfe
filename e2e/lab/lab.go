// Package lab is a whole cluster on one machine, without containers: real Ceph, a real Kubernetes control plane, nodes in
// network namespaces of their own, and rbd-rescue in it with nothing but its own rights. Everything is started and stopped
// by process id; what an interrupted run left behind is removed by the next one.
package lab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/go-logr/logr"
	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/controller-runtime/pkg/client"
	ctrllog "sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/rbd-rescue/rbd-rescue/api/v1alpha1"
	"github.com/rbd-rescue/rbd-rescue/e2e/lab/build"
	"github.com/rbd-rescue/rbd-rescue/e2e/lab/kube"
	"github.com/rbd-rescue/rbd-rescue/e2e/lab/network"
	"github.com/rbd-rescue/rbd-rescue/e2e/lab/process"
)

const (
	// Pool of all images, and ClusterID of the lab's own Ceph cluster.
	Pool      = "kubernetes"
	ClusterID = "lab"
	// Driver is ceph-csi's name for RBD.
	Driver = "rbd.csi.ceph.com"
	// Namespace is where rbd-rescue runs.
	Namespace = "rbd-rescue"
	// Dir holds the lab's files; it is short, since paths of unix sockets are.
	Dir = "/run/rbd-rescue-lab"

	csiUser    = "csi-rbd-node"
	rescueUser = "rbd-rescue"
)

// Options of a lab.
type Options struct {
	// Nodes are their names. Applications start on the one that they name, and move to Spares alone, if there are any.
	Nodes, Spares []string
	// ClientPerImage gives every image a Ceph client of its own, as rbd-nbd does; else a node has one, as the kernel does.
	ClientPerImage bool
	// SecondCeph is the clusterID of a second Ceph cluster, of three monitors; empty for none.
	SecondCeph string
	// Progress is told what takes long.
	Progress io.Writer
}

// Lab is a running lab.
type Lab struct {
	Supervisor *process.Supervisor
	Network    *network.Network
	// Ceph has one monitor; SecondCeph is nil if the lab has one cluster.
	Ceph, SecondCeph *Site

	Kube  *kube.ControlPlane
	Nodes map[string]*kube.Node
	// Client has all rights.
	Client client.WithWatch
	// Rescue is rbd-rescue; nothing of it runs until it is started.
	Rescue *Rescue

	options  Options
	binaries build.Binaries
	// machines are the VMs of nodes that have one, where they serve calls.
	machines map[string]netip.AddrPort
}

// Start builds what is missing and brings the lab up, without rbd-rescue. Close it even if it fails.
func Start(ctx context.Context, options Options) (*Lab, error) {
	l := &Lab{options: options, Nodes: map[string]*kube.Node{}, machines: map[string]netip.AddrPort{}}
	if os.Geteuid() != 0 {
		return l, errors.New("the lab needs root: it makes network namespaces and mounts")
	}
	began := time.Now()
	step := func(format string, args ...any) {
		fmt.Fprintf(options.Progress, "  %5.1f s  %s\n", time.Since(began).Seconds(), fmt.Sprintf(format, args...))
	}
	var err error
	step("building the lab's parts and rbd-rescue")
	if l.binaries, err = build.Build(ctx, options.Progress); err != nil {
		return l, fmt.Errorf("building the lab: %w", err)
	}
	if l.Network, err = network.New(ctx); err != nil { // waits for another lab on this machine to end
		return l, fmt.Errorf("making the lab's network: %w", err)
	}
	if err := cleanUp(ctx); err != nil {
		return l, err
	}
	if l.Supervisor, err = process.NewSupervisor(Dir); err != nil {
		return l, fmt.Errorf("starting the lab: %w", err)
	}
	step("starting Ceph and the Kubernetes control plane")
	group, groupCtx := errgroup.WithContext(ctx)
	group.Go(func() (err error) {
		l.Ceph, err = l.startSite(groupCtx, ClusterID, network.CephAddress, 1)
		return err
	})
	if options.SecondCeph != "" {
		group.Go(func() (err error) {
			l.SecondCeph, err = l.startSite(groupCtx, options.SecondCeph, network.SecondCephAddress, 3)
			return err
		})
	}
	group.Go(func() (err error) {
		if l.Kube, err = kube.Start(groupCtx, l.Supervisor, kube.Options{
			Dir: filepath.Join(Dir, "kube"), BinDir: l.binaries.Dir, IP: network.APIAddress, AuditedUsers: Accounts(),
		}); err != nil {
			return fmt.Errorf("starting Kubernetes: %w", err)
		}
		return nil
	})
	if err := group.Wait(); err != nil {
		return l, l.explain(err)
	}
	if err := errors.Join(l.writeClusters(), l.connect(ctx)); err != nil {
		return l, l.explain(err)
	}
	names := slices.Concat(options.Nodes, options.Spares)
	step("starting nodes %v", names)
	if err := l.addNodes(ctx, names); err != nil {
		return l, l.explain(err)
	}
	step("the lab is up; logs are in %s", l.Supervisor.Logs())
	return l, nil
}

// connect makes the client with all rights, and what rbd-rescue's processes need.
func (l *Lab) connect(ctx context.Context) error {
	ctrllog.SetLogger(logr.Discard())
	scheme := runtime.NewScheme()
	if err := errors.Join(clientgoscheme.AddToScheme(scheme), v1alpha1.AddToScheme(scheme)); err != nil {
		return fmt.Errorf("registering kinds: %w", err)
	}
	config := l.Kube.RESTConfig()
	config.QPS = -1
	var err error
	if l.Client, err = client.NewWithWatch(config, client.Options{Scheme: scheme}); err != nil {
		return fmt.Errorf("making a client: %w", err)
	}
	l.Rescue, err = l.newRescue(ctx)
	return err
}

func (l *Lab) addNodes(ctx context.Context, names []string) error {
	group, ctx := errgroup.WithContext(ctx)
	nodes := make([]*kube.Node, len(names))
	hosts := make([]network.Host, len(names))
	for i, name := range names {
		var err error
		if hosts[i], err = l.Network.AddNode(ctx, name); err != nil {
			return fmt.Errorf("adding node %s to the network: %w", name, err)
		}
	}
	for i, name := range names {
		group.Go(func() (err error) {
			if nodes[i], err = l.Kube.AddNode(ctx, kube.NodeOptions{
				Name: name, Host: hosts[i],
				Plugin: func(root string) process.Spec { return l.plugin(name, hosts[i], root) },
			}); err != nil {
				return fmt.Errorf("starting node %s: %w", name, err)
			}
			return nil
		})
	}
	err := group.Wait()
	for i, name := range names {
		if nodes[i] != nil {
			l.Nodes[name] = nodes[i]
		}
	}
	return err
}

// plugin is a node's CSI plugin, which stands for its kernel: it holds the images open and writes to them.
func (l *Lab) plugin(name string, host network.Host, root string) process.Spec {
	spec := l.writer("csi-"+name, name, host)
	spec.Args = append(spec.Args,
		"--endpoint=unix://"+filepath.Join(root, "plugins", Driver, "csi.sock"),
		"--registration=unix://"+filepath.Join(root, "plugins_registry", Driver+"-reg.sock"),
	)
	if l.options.ClientPerImage {
		spec.Args = append(spec.Args, "--client-per-image")
	}
	return spec
}

func (l *Lab) writer(name, node string, host network.Host) process.Spec {
	return process.Spec{
		Name: name, Path: filepath.Join(l.binaries.Dir, "lab-csi"), NetNS: host.NetNS,
		Args: []string{
			"--node-id=" + node, "--clusters=" + clustersFile(), "--user=" + csiUser, "--ack-dir=" + l.AckDir(),
		},
	}
}

// WriteFrom starts a process on a node that maps an image and writes to it, beside the kubelet: what in-tree volumes are
// where there is no CSI plugin. It is not the node's: reboot or kill it apart.
func (l *Lab) WriteFrom(node, image string) (*process.Process, error) {
	spec := l.writer("writer-"+node, node, l.Nodes[node].Host())
	spec.Args = append(spec.Args, "--write="+ClusterID+"/"+Pool+"/"+image)
	p, err := l.Supervisor.Start(spec)
	if err != nil {
		return nil, fmt.Errorf("starting a writer on node %s: %w", node, err)
	}
	return p, nil
}

// AckDir is where the writers log what Ceph acknowledged.
func (l *Lab) AckDir() string { return filepath.Join(Dir, "acks") }

// explain adds where the logs are.
func (l *Lab) explain(err error) error {
	return fmt.Errorf("%w (logs are in %s)", err, l.Supervisor.Logs())
}

// Heal brings back every part of the lab but the nodes that a scenario left stopped or frozen.
func (l *Lab) Heal(ctx context.Context) error {
	var failed []error
	for _, site := range l.sites() {
		failed = append(failed, site.Heal(ctx))
	}
	return errors.Join(append(failed, l.Kube.Heal(ctx), l.Rescue.heal(ctx))...)
}

// Close stops everything and removes what it made; the logs stay where somebody has to look into them.
func (l *Lab) Close(ctx context.Context, keepLogs bool) error {
	var failed []error
	for name, node := range l.Nodes {
		if err := node.Close(); err != nil {
			failed = append(failed, fmt.Errorf("stopping node %s: %w", name, err))
		}
	}
	if l.Supervisor != nil {
		failed = append(failed, l.Supervisor.StopAll(ctx))
		if errors.Join(failed...) == nil { // else the next lab ends what is left by its pid files
			failed = append(failed, l.removeFiles(ctx, keepLogs))
		}
	}
	if l.Network != nil { // the next lab may begin then
		failed = append(failed, l.Network.Close(ctx))
	}
	return errors.Join(failed...)
}

func (l *Lab) removeFiles(ctx context.Context, keepLogs bool) error {
	if err := kube.UnmountBelow(ctx, Dir); err != nil {
		return fmt.Errorf("removing the lab's mounts: %w", err)
	}
	if !keepLogs {
		return os.RemoveAll(Dir)
	}
	entries, err := os.ReadDir(Dir)
	failed := []error{err}
	for _, entry := range entries {
		if path := filepath.Join(Dir, entry.Name()); path != l.Supervisor.Logs() {
			failed = append(failed, os.RemoveAll(path))
		}
	}
	return errors.Join(failed...)
}

// cleanUp removes what an interrupted run left: its processes, then its mounts and files.
func cleanUp(ctx context.Context) error {
	if err := process.CleanUp(Dir); err != nil {
		return fmt.Errorf("ending an interrupted run: %w", err)
	}
	if err := kube.UnmountBelow(ctx, Dir); err != nil {
		return fmt.Errorf("removing the mounts of an interrupted run: %w", err)
	}
	if err := os.RemoveAll(Dir); err != nil {
		return fmt.Errorf("removing the files of an interrupted run: %w", err)
	}
	return os.MkdirAll(filepath.Join(Dir, "acks"), 0o755)
}

// Node reads a node object.
func (l *Lab) Node(ctx context.Context, name string) (*corev1.Node, error) {
	node := &corev1.Node{}
	if err := l.Client.Get(ctx, client.ObjectKey{Name: name}, node); err != nil {
		return nil, fmt.Errorf("reading node %s: %w", name, err)
	}
	return node, nil
}
