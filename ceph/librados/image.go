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

// Inspect implements ceph.Conn. It opens the image read-only, which adds no watcher.
func (c *Conn) Inspect(ctx context.Context, image ceph.Image) (ceph.ImageState, error) {
	state, err := bounded(ctx, c.calls, "inspect image", func() (ceph.ImageState, error) {
		ioctx, err := c.open(image.Pool, image.Namespace)
		if err != nil {
			return ceph.ImageState{}, err
		}
		defer ioctx.Destroy()
		opened, err := rbd.OpenImageReadOnly(ioctx, image.Name, rbd.NoSnapshot)
		if err != nil {
			return ceph.ImageState{}, err
		}
		defer opened.Close() //nolint:errcheck // read-only: nothing can be lost
		return c.stateOf(ioctx, opened)
	})
	if err != nil {
		return ceph.ImageState{}, fmt.Errorf("reading who uses image %s: %w", image, err)
	}
	return state, nil
}

func (c *Conn) stateOf(ioctx *rados.IOContext, image *rbd.Image) (state ceph.ImageState, err error) {
	if state.Watchers, err = watchersOf(image); err != nil {
		return state, err
	}
	if state.LockOwners, err = lockOwnersOf(image); err != nil {
		return state, err
	}
	if state.Metadata, err = image.ListMetadata(); err != nil {
		return state, err
	}
	if state.Snapshots, err = snapshotsOf(image); err != nil {
		return state, err
	}
	if state.Mirrored, err = mirrored(image); err != nil {
		return state, err
	}
	state.DataPool, err = c.dataPoolOf(ioctx, image)
	return state, err
}

// mirrored: an image that mirroring is being switched off for still has its mirror daemons.
func mirrored(image *rbd.Image) (bool, error) {
	info, err := image.GetMirrorImageInfo()
	if err != nil {
		return false, fmt.Errorf("reading whether it is mirrored: %w", err)
	}
	return info.State != rbd.MirrorImageDisabled, nil
}

func watchersOf(image *rbd.Image) ([]ceph.Watcher, error) {
	list, err := image.ListWatchers()
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

// autoLock begins the cookie of the exclusive lock that clients take by themselves. Other locks are made by hand, and say
// nothing about who writes.
const autoLock = "auto "

func lockOwnersOf(image *rbd.Image) ([]ceph.Address, error) {
	var owners []ceph.Address
	err := forEachLock(image, func(_ rbd.Locker, owner ceph.Address) error {
		owners = append(owners, owner)
		return nil
	})
	return owners, err
}

// dataPoolOf: the image's header says it, under a key that is there only if the pool is another one.
// (rbd_get_data_pool_id is in go-ceph's preview only, and the prefix of the data objects' names does not tell.)
func (c *Conn) dataPoolOf(ioctx *rados.IOContext, image *rbd.Image) (string, error) {
	id, err := image.GetId()
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
}

const dataPoolKey = "data_pool_id"

// dataPoolID decodes an int64 as Ceph stores it.
func dataPoolID(value []byte) (int64, error) {
	if len(value) != 8 {
		return 0, fmt.Errorf("a data pool's id has 8 bytes, not %d", len(value))
	}
	return int64(binary.LittleEndian.Uint64(value)), nil //nolint:gosec // a small number
}
