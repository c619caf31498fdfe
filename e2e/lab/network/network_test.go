package network

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestANodeReachesWhatItIsNotCutOffFrom(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("SKIPPED: making a bridge and network namespaces needs root")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	for range 2 { // nothing of the first may be in the way of the second
		n, err := New(ctx)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = n.Close(context.WithoutCancel(ctx)) })
		host, err := n.AddNode(ctx, "a-name-longer-than-a-link-can-have")
		if err != nil {
			t.Fatal(err)
		}
		other, err := n.AddNode(ctx, "b")
		if err != nil {
			t.Fatal(err)
		}
		const node = "a-name-longer-than-a-link-can-have"
		api, ceph := listen(t, APIAddress.String()), listen(t, CephAddress.String())
		reaches := func(want string, ip string, port int) {
			t.Helper()
			patience := map[string]string{"yes": "20", "no": "1"}[want] // seconds
			cmd := exec.Command("nsenter", "--net=/run/netns/"+host.NetNS, "timeout", patience, "bash", "-c", fmt.Sprintf("echo hello > /dev/tcp/%s/%d", ip, port))
			got := "yes"
			if cmd.Run() != nil {
				got = "no"
			}
			if got != want {
				t.Errorf("reaches %s: %s, want %s", ip, got, want)
			}
		}
		step := func(err error) {
			t.Helper()
			if err != nil {
				t.Fatal(err)
			}
		}
		reaches("yes", "10.88.0.1", api)
		reaches("yes", "10.88.0.2", ceph)
		step(n.Cut(ctx, node, API))
		reaches("no", "10.88.0.1", api)
		reaches("yes", "10.88.0.2", ceph)
		step(n.Cut(ctx, node, Ceph))
		reaches("no", "10.88.0.1", api)
		reaches("no", "10.88.0.2", ceph)
		step(n.Restore(ctx, node))
		reaches("yes", "10.88.0.1", api)
		reaches("yes", "10.88.0.2", ceph)
		step(n.Cut(ctx, node, All))
		reaches("no", "10.88.0.1", api)
		reaches("no", "10.88.0.2", ceph)
		step(n.Cut(ctx, node, All))
		step(n.Restore(ctx, node))
		step(n.Restore(ctx, node))
		reaches("yes", "10.88.0.1", api)
		if host.IP == other.IP {
			t.Error("two nodes have one address")
		}
		establishedIsCut(ctx, t, n, node, host)
		guest, err := n.AddGuest(ctx, "b")
		step(err)
		if out, err := exec.Command("ip", "-n", other.NetNS, "route", "get", guest.Address.Addr().String()).CombinedOutput(); err != nil ||
			!strings.Contains(string(out), "dev "+guest.Tap) {
			t.Errorf("the way to the VM: %s (%v)", out, err)
		}
		step(n.RemoveNode(ctx, "b"))
		if _, err := os.Stat("/run/netns/" + other.NetNS); err == nil {
			t.Error("a removed node's namespace is left")
		}
		step(n.Close(ctx))
		for _, glob := range []string{"/sys/class/net/rbdlab*", "/run/netns/rbdlab*"} {
			if left, _ := filepath.Glob(glob); len(left) > 0 {
				t.Errorf("left: %v", left)
			}
		}
	}
}

func listen(t *testing.T, ip string) (port int) {
	t.Helper()
	l, err := net.Listen("tcp", ip+":0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			c.Close()
		}
	}()
	return l.Addr().(*net.TCPAddr).Port
}

func establishedIsCut(ctx context.Context, t *testing.T, n *Network, node string, host Host) {
	t.Helper()
	l, err := net.Listen("tcp", APIAddress.String()+":0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	cmd := exec.Command("nsenter", "--net=/run/netns/"+host.NetNS, "bash", "-c",
		fmt.Sprintf("exec 3>/dev/tcp/%s/%d; while echo tick >&3; do sleep 0.05; done", APIAddress, l.Addr().(*net.TCPAddr).Port))
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }()
	c, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	lines := bufio.NewReader(c)
	if _, err := lines.ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	if err := n.Cut(ctx, node, API); err != nil {
		t.Fatal(err)
	}
	_ = c.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
	for err == nil { // what was on its way
		_, err = lines.ReadString('\n')
	}
	_ = c.SetReadDeadline(time.Now().Add(400 * time.Millisecond))
	if line, err := lines.ReadString('\n'); err == nil {
		t.Errorf("%q came through a cut connection", line)
	}
	if err := n.Restore(ctx, node); err != nil {
		t.Fatal(err)
	}
	_ = c.SetReadDeadline(time.Now().Add(20 * time.Second))
	if _, err := lines.ReadString('\n'); err != nil {
		t.Errorf("the connection did not survive a short cut: %v", err)
	}
}
