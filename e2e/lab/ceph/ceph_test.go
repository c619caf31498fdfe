//go:build librados

package ceph_test

import (
	"context"
	"encoding/json"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ceph/go-ceph/rados"
	"github.com/ceph/go-ceph/rbd"

	"github.com/rbd-rescue/rbd-rescue/e2e/lab/ceph"
	"github.com/rbd-rescue/rbd-rescue/e2e/lab/process"
	"github.com/rbd-rescue/rbd-rescue/e2e/workload"
	"github.com/rbd-rescue/rbd-rescue/e2e/workload/rbdcheck"
)

// cluster starts one on an address of its own, so that it can run beside a lab.
func cluster(t *testing.T) (context.Context, *ceph.Cluster) {
	t.Helper()
	if _, err := exec.LookPath("ceph-mon"); err != nil || os.Geteuid() != 0 {
		t.Skip("SKIPPED: needs root and Debian's packages of Ceph")
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	t.Cleanup(cancel)
	dir := t.TempDir()
	sup, err := process.NewSupervisor(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := sup.StopAll(context.Background()); err != nil {
			t.Error(err)
		}
	})
	began := time.Now()
	c, err := ceph.Start(ctx, sup, ceph.Options{Name: "ceph", Dir: dir + "/c", IP: netip.MustParseAddr("127.0.0.9"), Monitors: 1, OSDs: 3})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("up after %s", time.Since(began))
	if err := c.CreateImage(ctx, ceph.Pool, "img", 8); err != nil {
		t.Fatal(err)
	}
	return ctx, c
}

// client is a client of a CSI plugin's user that holds the image open.
type client struct {
	conn  *rados.Conn
	ioctx *rados.IOContext
	image *rbd.Image
}

func open(ctx context.Context, t *testing.T, c *ceph.Cluster) *client {
	t.Helper()
	keyFile, err := c.CreateUser(ctx, "csi-rbd-node", map[string]string{"mon": "profile rbd", "osd": "profile rbd pool=" + ceph.Pool})
	if err != nil {
		t.Fatal(err)
	}
	conn, err := rados.NewConnWithUser("csi-rbd-node")
	if err != nil {
		t.Fatal(err)
	}
	for name, value := range map[string]string{"mon_host": c.Monitors()[0], "keyfile": keyFile, "rbd_cache": "false"} {
		if err := conn.SetConfigOption(name, value); err != nil {
			t.Fatal(err)
		}
	}
	if err := conn.Connect(); err != nil {
		t.Fatal(err)
	}
	ioctx, err := conn.OpenIOContext(ceph.Pool)
	if err != nil {
		t.Fatal(err)
	}
	image, err := rbd.OpenImage(ioctx, "img", rbd.NoSnapshot)
	if err != nil {
		t.Fatal(err)
	}
	return &client{conn: conn, ioctx: ioctx, image: image}
}

func (c *client) close() {
	_ = c.image.Close() // fails for one that is cut off
	c.ioctx.Destroy()
	c.conn.Shutdown()
}

// write runs a writer until stop is called.
func (c *client) write(t *testing.T, node, ackDir string) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		done <- (&workload.Writer{Image: c.image, Name: "img", Size: 8 << 20, Node: node, AckDir: ackDir}).Run(ctx)
	}()
	return func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

// reports checks the image until what is wanted of the node's writer is seen.
func reports(ctx context.Context, t *testing.T, c *ceph.Cluster, ackDir, node string, wanted func(workload.WriterReport) bool) {
	t.Helper()
	for deadline := time.Now().Add(90 * time.Second); ; time.Sleep(100 * time.Millisecond) {
		report, err := rbdcheck.Check(ctx, c.ConfFile(), ceph.Pool, "img", ackDir)
		if err != nil {
			t.Fatal(err)
		}
		if !report.OK {
			t.Fatalf("the data does not hold:\n%s", report)
		}
		if slices.ContainsFunc(report.Writers, func(w workload.WriterReport) bool { return w.Node == node && wanted(w) }) {
			t.Logf("\n%s", report)
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("not seen of the writer on %s:\n%s", node, report)
		}
	}
}

func wrote(w workload.WriterReport) bool   { return w.Acknowledged > 10 }
func refused(w workload.WriterReport) bool { return strings.Contains(w.Refused, "ret=-108") }

// Twice, to see that nothing is left behind.
func TestAClientThatIsCutOffIsRefusedAndAnotherTakesOver(t *testing.T) {
	for _, run := range []string{"first", "second"} {
		t.Run(run, func(t *testing.T) {
			ctx, c := cluster(t)
			ackDir := t.TempDir()
			a := open(ctx, t, c)
			defer a.close()
			defer a.write(t, "a", ackDir)()
			reports(ctx, t, c, ackDir, "a", wrote)

			watchers, err := c.Watchers(ctx, ceph.Pool, "img")
			if err != nil || len(watchers) != 1 {
				t.Fatalf("watchers %v, %v", watchers, err)
			}
			if _, err := c.Ceph(ctx, "osd", "blocklist", "add", watchers[0], "3600"); err != nil {
				t.Fatal(err)
			}
			if listed, err := c.Blocklist(ctx); err != nil || !slices.Equal(listed, watchers) {
				t.Errorf("blocklist %v, %v", listed, err)
			}
			reports(ctx, t, c, ackDir, "a", refused)
			if watchers, err := c.Watchers(ctx, ceph.Pool, "img"); err != nil || len(watchers) != 0 {
				t.Errorf("watchers %v, %v", watchers, err)
			}

			b := open(ctx, t, c)
			defer b.close()
			stop := b.write(t, "b", ackDir)
			reports(ctx, t, c, ackDir, "b", wrote)
			stop()
		})
	}
}

// The data outlives daemons that are stopped and started, and a frozen OSD.
func TestDaemonsStopAndStart(t *testing.T) {
	ctx, c := cluster(t)
	ackDir := t.TempDir()
	a := open(ctx, t, c)
	defer a.close()
	stop := a.write(t, "a", ackDir)
	reports(ctx, t, c, ackDir, "a", wrote)
	for osd := range 3 {
		began := time.Now()
		if err := c.StopOSD(ctx, osd); err != nil {
			t.Fatal(err)
		}
		stopped := time.Now()
		if err := c.StartOSD(ctx, osd); err != nil {
			t.Fatal(err)
		}
		t.Logf("OSD %d down after %s, up again after %s", osd, stopped.Sub(began), time.Since(stopped))
		clean(ctx, t, c)
	}
	if err := c.FreezeOSD(0); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	for up := 3; up != 2; up = upOSDs(ctx, t, c) {
		time.Sleep(100 * time.Millisecond)
	}
	t.Logf("frozen OSD down after %s", time.Since(began))
	if err := c.ThawOSD(0); err != nil {
		t.Fatal(err)
	}
	clean(ctx, t, c)
	if err := c.StopMon(ctx); err != nil {
		t.Fatal(err)
	}
	if err := c.StartMon(ctx); err != nil {
		t.Fatal(err)
	}
	stop()
	reports(ctx, t, c, ackDir, "a", wrote)
}

func upOSDs(ctx context.Context, t *testing.T, c *ceph.Cluster) int {
	t.Helper()
	var stat struct {
		Up int `json:"num_up_osds"`
	}
	ask(ctx, t, c, &stat, "osd", "stat")
	return stat.Up
}

// clean waits until every placement group has all its copies again.
func clean(ctx context.Context, t *testing.T, c *ceph.Cluster) {
	t.Helper()
	began := time.Now()
	for {
		var stat struct {
			Summary struct {
				States []struct {
					Name string `json:"name"`
				} `json:"num_pg_by_state"`
			} `json:"pg_summary"`
		}
		ask(ctx, t, c, &stat, "pg", "stat")
		if s := stat.Summary.States; upOSDs(ctx, t, c) == 3 && len(s) == 1 && s[0].Name == "active+clean" {
			t.Logf("clean after %s", time.Since(began))
			return
		}
		if time.Since(began) > 3*time.Minute {
			t.Fatalf("not clean: %+v", stat)
		}
		time.Sleep(200 * time.Millisecond)
	}
}

func ask(ctx context.Context, t *testing.T, c *ceph.Cluster, into any, command ...string) {
	t.Helper()
	out, err := c.Ceph(ctx, command...)
	if err == nil {
		err = json.Unmarshal(out, into)
	}
	if err != nil {
		t.Fatal(err)
	}
}
