//go:build librados

package ceph_test

import (
	"context"
	"net/netip"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// host is another host, with an address of its own: a network namespace on a cable.
type host struct {
	netns string
	ip    netip.Addr
}

// addHost gives this machine's end of the cable an address, and the other end the next one. What an interrupted run left is
// taken away first.
func addHost(ctx context.Context, t *testing.T, name string, ours netip.Addr) host {
	t.Helper()
	h := host{netns: name, ip: ours.Next()}
	remove := func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		_ = exec.CommandContext(ctx, "ip", "link", "delete", name).Run()
		_ = exec.CommandContext(ctx, "ip", "netns", "delete", name).Run()
	}
	remove()
	t.Cleanup(remove)
	for _, command := range []string{
		"netns add " + name,
		"link add " + name + " type veth peer name eth0 netns " + name,
		"addr add " + ours.String() + "/30 dev " + name,
		"link set " + name + " up",
		"-n " + name + " addr add " + h.ip.String() + "/30 dev eth0",
		"-n " + name + " link set eth0 up",
	} {
		if out, err := exec.CommandContext(ctx, "ip", strings.Fields(command)...).CombinedOutput(); err != nil {
			t.Fatalf("ip %s: %v: %s", command, err, out)
		}
	}
	return h
}
