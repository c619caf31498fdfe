package network

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"
)

const (
	bridge          = "rbdlab0"
	namespacePrefix = "rbdlab-"
	namespaceDir    = "/run/netns"
	lockFile        = "/run/rbdlab.lock"
	prefixBits      = 24
)

var (
	// APIAddress is where the Kubernetes API server listens.
	APIAddress = netip.MustParseAddr("10.88.0.1")
	// CephAddress is where all Ceph daemons of the lab's own cluster listen.
	CephAddress = netip.MustParseAddr("10.88.0.2")
	// SecondCephAddress is for another cluster.
	SecondCephAddress = netip.MustParseAddr("10.88.0.3")

	firstNode = netip.MustParseAddr("10.88.0.11")
)

// Host is a node's place in the network.
type Host struct {
	NetNS string // name of the network namespace
	IP    netip.Addr
}

// Network is the bridge and the nodes on it.
type Network struct {
	lock *os.File

	mu    sync.Mutex
	next  netip.Addr
	hosts map[string]Host // by node name
}

// New removes what an interrupted run left and makes the bridge. It waits as long as ctx allows for another lab on this machine to end.
func New(ctx context.Context) (*Network, error) {
	lock, err := takeLock(ctx)
	if err != nil {
		return nil, err
	}
	n := &Network{lock: lock, next: firstNode, hosts: map[string]Host{}}
	if err := errors.Join(remove(ctx), makeBridge(ctx)); err != nil {
		return nil, errors.Join(err, n.Close(ctx))
	}
	return n, nil
}

// takeLock takes a lock that the kernel gives back when this process ends, however it ends.
func takeLock(ctx context.Context) (*os.File, error) {
	file, err := os.OpenFile(lockFile, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("opening the lab's lock: %w", err)
	}
	for {
		err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			return file, nil
		}
		select {
		case <-ctx.Done():
			return nil, errors.Join(fmt.Errorf("waiting for another lab on this machine to end (it holds %s): %w", lockFile, ctx.Err()), file.Close())
		case <-time.After(100 * time.Millisecond):
		}
	}
}

func makeBridge(ctx context.Context) error {
	return batch(ctx, "",
		"link add "+bridge+" type bridge",
		fmt.Sprintf("addr add %s/%d dev %s", APIAddress, prefixBits, bridge),
		fmt.Sprintf("addr add %s/%d dev %s", CephAddress, prefixBits, bridge),
		fmt.Sprintf("addr add %s/%d dev %s", SecondCephAddress, prefixBits, bridge),
		"link set "+bridge+" up",
	)
}

// AddNode makes a network namespace with the next free address and plugs it into the bridge.
func (n *Network) AddNode(ctx context.Context, name string) (Host, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if _, ok := n.hosts[name]; ok {
		return Host{}, fmt.Errorf("adding node %s to the network: it is there already", name)
	}
	host := Host{NetNS: namespacePrefix + name, IP: n.next}
	n.next = n.next.Next()
	err := batch(ctx, "",
		"netns add "+host.NetNS,
		fmt.Sprintf("link add %s type veth peer name eth0 netns %s", outside(host), host.NetNS),
		fmt.Sprintf("link set %s master %s up", outside(host), bridge),
	)
	if err == nil {
		err = batch(ctx, host.NetNS,
			"link set lo up",
			fmt.Sprintf("addr add %s/%d dev eth0", host.IP, prefixBits),
			"link set eth0 up",
			fmt.Sprintf("route add default via %s", APIAddress), // kubelets look for a default route
		)
	}
	if err != nil {
		return Host{}, fmt.Errorf("adding node %s to the network: %w", name, err)
	}
	n.hosts[name] = host
	return host, nil
}

// RemoveNode takes a node off the bridge. Its processes must be over: one that lives keeps the namespace.
func (n *Network) RemoveNode(ctx context.Context, name string) error {
	host, err := n.host(name)
	if err != nil {
		return err
	}
	if err := batch(ctx, "", "link del "+outside(host), "netns del "+host.NetNS); err != nil {
		return fmt.Errorf("removing node %s from the network: %w", name, err)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.hosts, name)
	return nil
}

// outside is the node's link on the bridge: at most 15 bytes, which a node's name may not keep to.
func outside(host Host) string { return fmt.Sprintf("rbdlab-v%d", host.IP.As4()[3]) }

// Close removes the bridge, the namespaces and the lock. Processes that still live in a namespace lose their link.
func (n *Network) Close(ctx context.Context) error {
	err := remove(ctx)
	n.mu.Lock()
	defer n.mu.Unlock()
	n.hosts = map[string]Host{}
	if n.lock != nil {
		err = errors.Join(err, n.lock.Close())
		n.lock = nil
	}
	return err
}

// remove deletes all that bears the lab's names, whoever made it.
func remove(ctx context.Context) error {
	var errs []error
	links, err := filepath.Glob("/sys/class/net/rbdlab*")
	errs = append(errs, err)
	for _, link := range links {
		// Deleting one link of a pair deletes the other; a namespace with a living process would keep its own otherwise.
		errs = append(errs, batch(ctx, "", "link del "+filepath.Base(link)))
	}
	namespaces, err := filepath.Glob(filepath.Join(namespaceDir, namespacePrefix+"*"))
	errs = append(errs, err)
	for _, namespace := range namespaces {
		errs = append(errs, batch(ctx, "", "netns del "+filepath.Base(namespace)))
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("removing the lab's network: %w", err)
	}
	return nil
}

// batch runs lines of ip(8) in a namespace; empty is the host's.
func batch(ctx context.Context, namespace string, lines ...string) error {
	args := []string{"-batch", "-"}
	if namespace != "" {
		args = append([]string{"-n", namespace}, args...)
	}
	return run(ctx, strings.Join(lines, "\n")+"\n", "ip", args...)
}

func run(ctx context.Context, stdin, name string, args ...string) error {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Stdin = strings.NewReader(stdin)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("running %s %s: %w: %s (input %q)", name, strings.Join(args, " "), err, strings.TrimSpace(string(out)), stdin)
	}
	return nil
}
