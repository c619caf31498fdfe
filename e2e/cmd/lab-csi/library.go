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

const (
	inUseTries = 5
	inUseWait  = 500 * time.Millisecond
)

// library opens images by librbd in this process. Those of one cluster share one client, as krbd's mappings of one user do
// (facts/krbd.md), unless each is to have its own. A client that is blocklisted serves no new image until all its old ones are
// closed.
type library struct {
	options options

	lock   sync.Mutex
	shared map[string]*client // by clusterID
}

func newLibrary(o options) *library { return &library{options: o, shared: map[string]*client{}} }

// client is a connection to a Ceph cluster.
type client struct {
	*rados.Conn
	clusterID string
	// holders are the images that are open, or being opened, through it.
	holders int
}

// libraryImage is an image that is open through a client.
type libraryImage struct {
	*rbd.Image
	size    int64
	ioctx   *rados.IOContext
	client  *client
	library *library
}

// Size in bytes.
func (i *libraryImage) Size() int64 { return i.size }

// Unmap closes the image, and its client with the last one.
func (i *libraryImage) Unmap() error {
	_ = i.Close() // a blocklisted client gets an error for it, and is gone all the same
	i.ioctx.Destroy()
	i.library.releaseClient(i.client)
	return nil
}

func (l *library) open(ctx context.Context, ref imageRef, manyWriters bool) (opened, error) {
	c, err := l.holdClient(ref.clusterID)
	if err != nil {
		return nil, err
	}
	i, err := c.open(ctx, ref.pool, ref.name, manyWriters)
	if err != nil {
		l.releaseClient(c)
		return nil, err
	}
	i.library = l
	return i, nil
}

func (c *client) open(ctx context.Context, pool, name string, manyWriters bool) (_ *libraryImage, err error) {
	ioctx, err := c.OpenIOContext(pool)
	if err != nil {
		return nil, fmt.Errorf("opening pool %s: %w", pool, codedError(err))
	}
	defer func() {
		if err != nil {
			ioctx.Destroy()
		}
	}()
	if !manyWriters {
		if err := notInUse(ctx, ioctx, name); err != nil {
			return nil, err
		}
	}
	opened, err := rbd.OpenImage(ioctx, name, rbd.NoSnapshot)
	if err != nil {
		return nil, fmt.Errorf("opening image %s/%s: %w", pool, name, codedError(err))
	}
	size, err := opened.GetSize()
	if err != nil {
		return nil, errors.Join(fmt.Errorf("reading the size of image %s/%s: %w", pool, name, codedError(err)), opened.Close())
	}
	return &libraryImage{Image: opened, size: int64(size), ioctx: ioctx, client: c}, nil
}

// holdClient gives the client that the next image is opened through. Nobody waits for the lock meanwhile but others who
// want a client: while there is none, there is no image.
func (l *library) holdClient(clusterID string) (*client, error) {
	if l.options.clientPerImage {
		return l.connect(clusterID)
	}
	l.lock.Lock()
	defer l.lock.Unlock()
	if shared := l.shared[clusterID]; shared != nil {
		shared.holders++
		return shared, nil
	}
	c, err := l.connect(clusterID)
	if err != nil {
		return nil, err
	}
	l.shared[clusterID] = c
	return c, nil
}

// releaseClient ends a client with its last holder, whether that was blocklisted or not.
func (l *library) releaseClient(c *client) {
	l.lock.Lock()
	c.holders--
	last := c.holders == 0
	if last && c == l.shared[c.clusterID] {
		delete(l.shared, c.clusterID)
	}
	l.lock.Unlock()
	if last {
		c.Shutdown()
	}
}

// connect makes a client with one holder.
func (l *library) connect(clusterID string) (*client, error) {
	at, err := l.options.cluster(clusterID)
	if err != nil {
		return nil, err
	}
	key, err := os.ReadFile(at.KeyFile)
	if err != nil {
		return nil, fmt.Errorf("reading the key: %w", err)
	}
	conn, err := rados.NewConnWithUser(l.options.user)
	if err != nil {
		return nil, fmt.Errorf("making a Ceph client: %w", err)
	}
	for _, option := range [][2]string{
		{"mon_host", at.Monitors}, {"key", strings.TrimSpace(string(key))},
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
	return &client{Conn: conn, clusterID: clusterID, holders: 1}, nil
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

// codedError makes errors.Is(err, syscall.ESHUTDOWN) work on go-ceph's errors.
func codedError(err error) error {
	var coded interface{ ErrorCode() int }
	if errors.As(err, &coded) {
		return errors.Join(err, syscall.Errno(max(coded.ErrorCode(), -coded.ErrorCode())))
	}
	return err
}
