//go:build librados

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/ceph/go-ceph/rados"
	"github.com/ceph/go-ceph/rbd"
)

// options say how the plugin reaches Ceph.
type options struct {
	node, monitors, user, keyFile, ackDir string
	clientPerImage                        bool
}

const (
	inUseTries = 5
	inUseWait  = 500 * time.Millisecond
	// closeWithin bounds a close: a client that is cut off from Ceph, or by it, may never get its answer.
	closeWithin = 5 * time.Second
)

// image is one open image, and the client that holds it open.
type image struct {
	*rbd.Image
	name  string
	size  int64
	ioctx *rados.IOContext
	conn  *rados.Conn
}

// images are the node's open images. They share one client, as krbd's mappings of one user do (facts/krbd.md), unless
// each is to have its own. A client that is blocklisted serves no new image until all its old ones are closed.
type images struct {
	options options

	lock   sync.Mutex
	shared *rados.Conn
	byID   map[string]*image
}

func newImages(o options) *images { return &images{options: o, byID: map[string]*image{}} }

func (i *images) get(volumeID string) *image {
	i.lock.Lock()
	defer i.lock.Unlock()
	return i.byID[volumeID]
}

// open opens an image for writing. It refuses one that somebody else has open, as ceph-csi does.
func (i *images) open(ctx context.Context, volumeID, pool, name string) (err error) {
	i.lock.Lock()
	defer i.lock.Unlock()
	if i.byID[volumeID] != nil {
		return nil
	}
	conn, err := i.client()
	if err != nil {
		return err
	}
	ioctx, err := conn.OpenIOContext(pool)
	if err != nil {
		return fmt.Errorf("opening pool %s: %w", pool, codedError(err))
	}
	if err := notInUse(ctx, ioctx, name); err != nil {
		ioctx.Destroy()
		return err
	}
	opened, err := rbd.OpenImage(ioctx, name, rbd.NoSnapshot)
	if err != nil {
		ioctx.Destroy()
		return fmt.Errorf("opening image %s/%s: %w", pool, name, codedError(err))
	}
	size, err := opened.GetSize()
	if err != nil {
		return errors.Join(fmt.Errorf("reading the size of image %s/%s: %w", pool, name, codedError(err)), opened.Close())
	}
	i.byID[volumeID] = &image{Image: opened, name: name, size: int64(size), ioctx: ioctx, conn: conn}
	return nil
}

func (i *images) client() (*rados.Conn, error) {
	if i.shared != nil && !i.options.clientPerImage {
		return i.shared, nil
	}
	key, err := os.ReadFile(i.options.keyFile)
	if err != nil {
		return nil, fmt.Errorf("reading the key: %w", err)
	}
	conn, err := rados.NewConnWithUser(i.options.user)
	if err != nil {
		return nil, fmt.Errorf("making a Ceph client: %w", err)
	}
	for _, option := range [][2]string{
		{"mon_host", i.options.monitors}, {"key", strings.TrimSpace(string(key))},
		{"rbd_cache", "false"}, // what is acknowledged has landed, as with a direct write
		{"client_mount_timeout", "10"}, {"admin_socket", ""}, {"log_file", ""},
	} {
		if err := conn.SetConfigOption(option[0], option[1]); err != nil {
			return nil, fmt.Errorf("setting Ceph option %s: %w", option[0], err)
		}
	}
	if err := conn.Connect(); err != nil {
		return nil, fmt.Errorf("connecting to Ceph: %w", codedError(err))
	}
	if !i.options.clientPerImage {
		i.shared = conn
	}
	return conn, nil
}

func notInUse(ctx context.Context, ioctx *rados.IOContext, name string) error {
	var last error
	for range inUseTries {
		if last = watched(ioctx, name); last == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return last
		case <-time.After(inUseWait):
		}
	}
	return last
}

func watched(ioctx *rados.IOContext, name string) error {
	opened, err := rbd.OpenImageReadOnly(ioctx, name, rbd.NoSnapshot)
	if err != nil {
		return fmt.Errorf("opening image %s: %w", name, codedError(err))
	}
	defer opened.Close() //nolint:errcheck // read only
	watchers, err := opened.ListWatchers()
	if err != nil {
		return fmt.Errorf("listing the watchers of image %s: %w", name, codedError(err))
	}
	if len(watchers) > 0 {
		return fmt.Errorf("rbd image %s is still being used: %v", name, watchers)
	}
	return nil
}

// close closes an image, and its client with the last one. It is bounded: what does not answer is left behind.
func (i *images) close(volumeID string) error {
	i.lock.Lock()
	defer i.lock.Unlock()
	open := i.byID[volumeID]
	if open == nil {
		return nil
	}
	delete(i.byID, volumeID)
	last := i.options.clientPerImage || len(i.byID) == 0
	if last && open.conn == i.shared {
		i.shared = nil
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = open.Close() // a blocklisted client gets an error for it, and is gone all the same
		open.ioctx.Destroy()
		if last {
			open.conn.Shutdown()
		}
	}()
	select {
	case <-done:
	case <-time.After(closeWithin):
	}
	return nil
}

// codedError makes errors.Is(err, syscall.ESHUTDOWN) work on go-ceph's errors.
func codedError(err error) error {
	var coded interface{ ErrorCode() int }
	if errors.As(err, &coded) {
		return errors.Join(err, syscall.Errno(max(coded.ErrorCode(), -coded.ErrorCode())))
	}
	return err
}
