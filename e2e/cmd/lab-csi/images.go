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
	node, user, ackDir string
	// clustersFile lists the Ceph clusters.
	clustersFile   string
	clientPerImage bool
}

const (
	inUseTries = 5
	inUseWait  = 500 * time.Millisecond
	// closeWithin bounds the wait for a close: a client that is cut off from Ceph gets no answer.
	closeWithin = 5 * time.Second
)

// image is one open image, and the client that holds it open.
type image struct {
	*rbd.Image
	name   string
	size   int64
	ioctx  *rados.IOContext
	client *client
	// writers are at work; one whose write hangs stays.
	writers sync.WaitGroup
	// closing is set once, under the lock of images; closed is closed when nothing of the image can reach Ceph any more.
	closing bool
	closed  chan struct{}
}

// client is a connection to a Ceph cluster.
type client struct {
	*rados.Conn
	clusterID string
	// holders are the images that are open, or being opened, through it.
	holders int
}

// images are the node's open images. Those of one cluster share one client, as krbd's mappings of one user do
// (facts/krbd.md), unless each is to have its own. A client that is blocklisted serves no new image until all its old ones are closed.
type images struct {
	options options

	lock   sync.Mutex
	shared map[string]*client // by clusterID
	byID   map[string]*image
}

func newImages(o options) *images {
	return &images{options: o, shared: map[string]*client{}, byID: map[string]*image{}}
}

// get gives an open image; nil if it is not.
func (i *images) get(volumeID string) (*image, error) {
	i.lock.Lock()
	defer i.lock.Unlock()
	open := i.byID[volumeID]
	if open != nil && open.closing {
		return nil, fmt.Errorf("image %s is being closed, and Ceph does not answer", open.name)
	}
	return open, nil
}

// imageRef names an image.
type imageRef struct{ clusterID, pool, name string }

// open opens an image for writing. Unless it is to have many writers, it refuses one that somebody else has open, as
// ceph-csi does. It may hang for as long as Ceph can't be reached.
func (i *images) open(ctx context.Context, volumeID string, ref imageRef, manyWriters bool) error {
	if open, err := i.get(volumeID); open != nil || err != nil {
		return err
	}
	c, err := i.holdClient(ref.clusterID)
	if err != nil {
		return err
	}
	opened, err := c.open(ctx, ref.pool, ref.name, manyWriters)
	if err != nil {
		i.releaseClient(c)
		return err
	}
	i.lock.Lock()
	defer i.lock.Unlock()
	i.byID[volumeID] = opened
	return nil
}

func (c *client) open(ctx context.Context, pool, name string, manyWriters bool) (_ *image, err error) {
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
	return &image{Image: opened, name: name, size: int64(size), ioctx: ioctx, client: c, closed: make(chan struct{})}, nil
}

// holdClient gives the client that the next image is opened through. Nobody waits for the lock meanwhile but others who
// want a client: while there is none, there is no image.
func (i *images) holdClient(clusterID string) (*client, error) {
	if i.options.clientPerImage {
		return i.connect(clusterID)
	}
	i.lock.Lock()
	defer i.lock.Unlock()
	if shared := i.shared[clusterID]; shared != nil {
		shared.holders++
		return shared, nil
	}
	c, err := i.connect(clusterID)
	if err != nil {
		return nil, err
	}
	i.shared[clusterID] = c
	return c, nil
}

// releaseClient ends a client with its last holder, whether that was blocklisted or not.
func (i *images) releaseClient(c *client) {
	i.lock.Lock()
	c.holders--
	last := c.holders == 0
	if last && c == i.shared[c.clusterID] {
		delete(i.shared, c.clusterID)
	}
	i.lock.Unlock()
	if last {
		c.Shutdown()
	}
}

// connect makes a client with one holder.
func (i *images) connect(clusterID string) (*client, error) {
	at, err := i.options.cluster(clusterID)
	if err != nil {
		return nil, err
	}
	key, err := os.ReadFile(at.KeyFile)
	if err != nil {
		return nil, fmt.Errorf("reading the key: %w", err)
	}
	conn, err := rados.NewConnWithUser(i.options.user)
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

// close closes an image, and its client with the last one. It returns by closeWithin: a client that is cut off from Ceph, as
// krbd's would, keeps the image, and what it still has to write, until it is answered; closing goes on meanwhile. A client
// that is blocklisted is answered.
func (i *images) close(volumeID string) error {
	i.lock.Lock()
	open := i.byID[volumeID]
	if open == nil {
		i.lock.Unlock()
		return nil
	}
	if !open.closing {
		open.closing = true
		go i.finish(volumeID, open)
	}
	i.lock.Unlock()
	select {
	case <-open.closed:
		return nil
	case <-time.After(closeWithin):
		return fmt.Errorf("closing image %s: Ceph does not answer", open.name)
	}
}

func (i *images) finish(volumeID string, open *image) {
	open.writers.Wait()
	_ = open.Close() // a blocklisted client gets an error for it, and is gone all the same
	open.ioctx.Destroy()
	i.releaseClient(open.client)
	i.lock.Lock()
	delete(i.byID, volumeID)
	i.lock.Unlock()
	close(open.closed)
}

// codedError makes errors.Is(err, syscall.ESHUTDOWN) work on go-ceph's errors.
func codedError(err error) error {
	var coded interface{ ErrorCode() int }
	if errors.As(err, &coded) {
		return errors.Join(err, syscall.Errno(max(coded.ErrorCode(), -coded.ErrorCode())))
	}
	return err
}
