//go:build librados

package librados

import (
	"context"
	"encoding/binary"
	"fmt"
	"syscall"

	"github.com/ceph/go-ceph/rados"
	"github.com/ceph/go-ceph/rbd"

	"github.com/rbd-rescue/rbd-rescue/ceph"
)

// Watchers implements ceph.Conn.
func (c *Conn) Watchers(ctx context.Context, image ceph.Image) ([]ceph.Watcher, error) {
	watchers, err := withImage(ctx, c, "list watchers", image, watchersOf)
	if err != nil {
		return nil, fmt.Errorf("reading the watchers of image %s: %w", image, err)
	}
	return watchers, nil
}

func watchersOf(_ *rados.IOContext, opened *rbd.Image) ([]ceph.Watcher, error) {
	list, err := opened.ListWatchers()
	if err != nil {
		return nil, err
	}
	var watchers []ceph.Watcher
	for _, w := range list {
		addresses, err := ceph.ParseAddresses(w.Addr)
		if err != nil {
			return nil, fmt.Errorf("reading a watcher: %w", err)
		}
		for _, address := range addresses {
			watchers = append(watchers, ceph.Watcher{Address: address, ID: w.Id, Cookie: w.Cookie})
		}
	}
	return watchers, nil
}

// DataPool implements ceph.Conn. The image's header says it, under a key that is there only if the pool is another one.
// (rbd_get_data_pool_id is in go-ceph's preview only, and the prefix of the data objects' names does not tell.)
func (c *Conn) DataPool(ctx context.Context, image ceph.Image) (string, error) {
	pool, err := withImage(ctx, c, "read data pool", image, func(ioctx *rados.IOContext, opened *rbd.Image) (string, error) {
		id, err := opened.GetId()
		if errno, _ := errnoOf(err); errno == syscall.EINVAL {
			return "", nil // an image of format 1 has no id, and no data pool
		}
		if err != nil {
			return "", err
		}
		values, err := ioctx.GetOmapValues("rbd_header."+id, "", dataPoolKey, 1)
		if err != nil {
			return "", err
		}
		value, there := values[dataPoolKey]
		if !there {
			return "", nil
		}
		pool, err := dataPoolID(value)
		if err != nil {
			return "", err
		}
		return c.rados.GetPoolByID(pool)
	})
	if err != nil {
		return "", fmt.Errorf("reading the data pool of image %s: %w", image, err)
	}
	return pool, nil
}

const dataPoolKey = "data_pool_id"

// dataPoolID decodes an int64 as Ceph stores it.
func dataPoolID(value []byte) (int64, error) {
	if len(value) != 8 {
		return 0, fmt.Errorf("a data pool's id has 8 bytes, not %d", len(value))
	}
	return int64(binary.LittleEndian.Uint64(value)), nil //nolint:gosec // a small number
}

// withImage opens the image read-only, which adds no watcher.
func withImage[T any](ctx context.Context, c *Conn, command string, image ceph.Image, read func(*rados.IOContext, *rbd.Image) (T, error)) (T, error) {
	return bounded(ctx, c.calls, command, func() (T, error) {
		var none T
		ioctx, err := c.open(image.Pool, image.Namespace)
		if err != nil {
			return none, err
		}
		defer ioctx.Destroy()
		opened, err := rbd.OpenImageReadOnly(ioctx, image.Name, rbd.NoSnapshot)
		if err != nil {
			return none, err
		}
		defer opened.Close() //nolint:errcheck // read-only: nothing can be lost
		return read(ioctx, opened)
	})
}
