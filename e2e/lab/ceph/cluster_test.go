package ceph

import (
	"context"
	"net/netip"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/rbd-rescue/rbd-rescue/e2e/lab/process"
)

func TestClusterComesUpTwiceInARow(t *testing.T) {
	if _, err := exec.LookPath("ceph-mon"); err != nil || os.Geteuid() != 0 {
		t.Skip("SKIPPED: needs root and Debian's ceph packages")
	}
	for range 2 {
		func() {
			ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
			defer cancel()
			dir := t.TempDir()
			sup, err := process.NewSupervisor(dir)
			if err != nil {
				t.Fatal(err)
			}
			defer func() {
				if err := sup.StopAll(ctx); err != nil {
					t.Error(err)
				}
			}()
			began := time.Now()
			c, err := Start(ctx, sup, Options{Dir: dir + "/c", IP: netip.MustParseAddr("127.0.0.1"), OSDs: 3})
			if err != nil {
				t.Fatal(err)
			}
			t.Logf("up after %s", time.Since(began))
			if err := c.CreateImage(ctx, Pool, "img", 8); err != nil {
				t.Fatal(err)
			}
			if w, err := c.Watchers(ctx, Pool, "img"); err != nil || len(w) != 0 {
				t.Errorf("watchers %v, %v", w, err)
			}
		}()
	}
}
