//go:build librados

package ceph_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"testing"

	"github.com/ceph/go-ceph/rados"
	"github.com/ceph/go-ceph/rbd"
	"golang.org/x/sync/errgroup"

	"github.com/rbd-rescue/rbd-rescue/e2e/lab/ceph"
	"github.com/rbd-rescue/rbd-rescue/e2e/lab/process"
	"github.com/rbd-rescue/rbd-rescue/e2e/workload"
)

// writerEnv makes this program a process that writes to images until it is stopped, all by one client.
const writerEnv = "RBD_RESCUE_TEST_WRITER"

type writerOptions struct {
	Monitors, User, KeyFile string
	Images                  []string
	Node, AckDir            string
}

func TestMain(m *testing.M) {
	if text := os.Getenv(writerEnv); text != "" {
		if err := writeUntilStopped(text); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// startWriter starts such a process on a host.
func startWriter(t *testing.T, sup *process.Supervisor, netns string, o writerOptions) *process.Process {
	t.Helper()
	text, err := json.Marshal(o)
	if err != nil {
		t.Fatal(err)
	}
	p, err := sup.Start(process.Spec{Name: "writer-" + o.Node, Path: os.Args[0], Env: []string{writerEnv + "=" + string(text)}, NetNS: netns})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func writeUntilStopped(text string) error {
	var o writerOptions
	if err := json.Unmarshal([]byte(text), &o); err != nil {
		return err
	}
	conn, err := rados.NewConnWithUser(o.User)
	if err != nil {
		return err
	}
	if err := errors.Join(conn.SetConfigOption("mon_host", o.Monitors), conn.SetConfigOption("keyfile", o.KeyFile),
		conn.SetConfigOption("rbd_cache", "false")); err != nil {
		return err
	}
	if err := conn.Connect(); err != nil {
		return fmt.Errorf("connecting: %w", err)
	}
	ioctx, err := conn.OpenIOContext(ceph.Pool)
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	var writers errgroup.Group
	for _, name := range o.Images {
		image, err := rbd.OpenImage(ioctx, name, rbd.NoSnapshot)
		if err != nil {
			return fmt.Errorf("opening image %s: %w", name, err)
		}
		writers.Go(func() error {
			w := workload.Writer{Image: image, Name: name, Size: imageMiB << 20, Node: o.Node, AckDir: o.AckDir}
			return errors.Join(w.Run(ctx), image.Close()) // closed, its watch and its lock go at once
		})
	}
	return writers.Wait()
}
