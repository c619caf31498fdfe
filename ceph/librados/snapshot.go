//go:build librados

package librados

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"

	"github.com/ceph/go-ceph/rados"
	"github.com/ceph/go-ceph/rbd"

	"github.com/rbd-rescue/rbd-rescue/ceph"
)

// CreateSnapshot implements ceph.Conn. It opens the image for writing, so that for as long as it takes this client is a watcher.
// One call that its caller has given up keeps further ones for the image from being made beside it.
func (c *Conn) CreateSnapshot(ctx context.Context, image ceph.Image, name string, cutOff []ceph.Address) error {
	const command = "create snapshot"
	if _, underWay := c.snapshots.LoadOrStore(image, true); underWay {
		return fmt.Errorf("ceph %s: an earlier call has not ended: %w", command, ceph.ErrInDoubt)
	}
	var begun atomic.Bool
	_, err := bounded(ctx, c.calls, command, func() (struct{}, error) {
		defer c.snapshots.Delete(image)
		begun.Store(true)
		return struct{}{}, c.onImage(image, func(_ *rados.IOContext, opened *rbd.Image) error {
			if err := breakLock(opened, cutOff); err != nil {
				return err
			}
			if err := ctx.Err(); err != nil { // nobody waits for it any more, so that none is made
				return err
			}
			if _, err := opened.CreateSnapshot(name); !errors.Is(err, rbd.ErrExist) {
				return err
			}
			return nil
		})
	})
	if !begun.Load() {
		c.snapshots.Delete(image)
	}
	return err
}

// onImage does something with an image that is open for writing.
func (c *Conn) onImage(image ceph.Image, do func(*rados.IOContext, *rbd.Image) error) error {
	ioctx, err := c.open(image.Pool, image.Namespace)
	if err != nil {
		return err
	}
	defer ioctx.Destroy()
	opened, err := rbd.OpenImage(ioctx, image.Name, rbd.NoSnapshot)
	if err != nil {
		return err
	}
	return errors.Join(do(ioctx, opened), opened.Close())
}

// breakLock takes the exclusive lock from owners that are cut off. librbd would do so as well, but from whoever does not answer.
func breakLock(image *rbd.Image, cutOff []ceph.Address) error {
	return forEachLock(image, func(locker rbd.Locker, owner ceph.Address) error {
		if !slices.Contains(cutOff, owner) && !slices.Contains(cutOff, owner.Host()) {
			return fmt.Errorf("%w (%s)", ceph.ErrLockHeld, owner)
		}
		if err := image.BreakLock(locker.Client, locker.Cookie); !errors.Is(err, rbd.ErrNotFound) {
			return err
		}
		return nil
	})
}

// forEachLock calls do for each owner of the lock that clients take by themselves.
func forEachLock(image *rbd.Image, do func(rbd.Locker, ceph.Address) error) error {
	_, lockers, err := image.ListLockers()
	if err != nil && !errors.Is(err, rbd.ErrNotFound) {
		return err
	}
	for _, locker := range lockers {
		if !strings.HasPrefix(locker.Cookie, autoLock) {
			continue
		}
		addresses, err := ceph.ParseAddresses(locker.Addr)
		if err != nil {
			return fmt.Errorf("reading a lock's owner: %w", err)
		}
		for _, owner := range addresses {
			if err := do(locker, owner); err != nil {
				return err
			}
		}
	}
	return nil
}

// RemoveSnapshot implements ceph.Conn.
func (c *Conn) RemoveSnapshot(ctx context.Context, image ceph.Image, name string) error {
	_, err := bounded(ctx, c.calls, "remove snapshot", func() (struct{}, error) {
		remove := func(ioctx *rados.IOContext, opened *rbd.Image) error { return removeSnapshot(ctx, ioctx, opened, name) }
		there, err := c.hasSnapshot(image, name)
		if err == nil && there {
			err = c.onImage(image, remove)
		}
		if errors.Is(err, rbd.ErrNotFound) {
			err = c.inTrash(image, remove)
		}
		return struct{}{}, err
	})
	if ceph.IsNotFound(err) { // nor is there such a pool
		return nil
	}
	return err
}

// hasSnapshot opens the image read-only, which adds no watcher: somebody else has it in use.
func (c *Conn) hasSnapshot(image ceph.Image, name string) (bool, error) {
	ioctx, err := c.open(image.Pool, image.Namespace)
	if err != nil {
		return false, err
	}
	defer ioctx.Destroy()
	opened, err := rbd.OpenImageReadOnly(ioctx, image.Name, rbd.NoSnapshot)
	if err != nil {
		return false, err
	}
	defer opened.Close() //nolint:errcheck // read-only: nothing can be lost
	names, err := snapshotsOf(opened)
	return slices.Contains(names, name), err
}

// inTrash does something with every image of that name in the trash, where ceph-csi leaves what is deleted to a manager of Ceph, which
// removes no image that has snapshots.
func (c *Conn) inTrash(image ceph.Image, do func(*rados.IOContext, *rbd.Image) error) error {
	ioctx, err := c.open(image.Pool, image.Namespace)
	if err != nil {
		return err
	}
	defer ioctx.Destroy()
	list, err := rbd.GetTrashList(ioctx)
	if err != nil {
		return err
	}
	var failed []error
	for _, trashed := range list {
		if trashed.Name != image.Name {
			continue
		}
		opened, err := rbd.OpenImageById(ioctx, trashed.Id, rbd.NoSnapshot)
		if err == nil {
			err = errors.Join(do(ioctx, opened), opened.Close())
		}
		if !errors.Is(err, rbd.ErrNotFound) {
			failed = append(failed, err)
		}
	}
	return errors.Join(failed...)
}

func removeSnapshot(ctx context.Context, ioctx *rados.IOContext, image *rbd.Image, name string) error {
	list, err := image.GetSnapshotNames()
	if err != nil {
		return err
	}
	at := slices.IndexFunc(list, func(s rbd.SnapInfo) bool { return s.Name == name })
	if at < 0 {
		return nil
	}
	snapshot := image.GetSnapshot(name)
	protected, err := snapshot.IsProtected()
	if err != nil {
		return err
	}
	cloned, err := hasClones(ioctx, image, list[at].Id)
	if err != nil {
		return err
	}
	if protected || cloned {
		return ceph.ErrSnapshotInUse
	}
	if err := ownersAnswer(image); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := snapshot.Remove(); !errors.Is(err, rbd.ErrNotFound) {
		return err
	}
	return nil
}

// hasClones: a snapshot need not be protected to be cloned since Ceph 13; then the image's header lists the clones. (rbd_list_children
// also looks for older ones, which need a protected snapshot, in all pools, and fails without a right to do so.)
func hasClones(ioctx *rados.IOContext, image *rbd.Image, snapshot uint64) (bool, error) {
	id, err := image.GetId()
	if errno, _ := errnoOf(err); errno == syscall.EINVAL {
		return false, nil // an image of format 1 has no clones
	}
	if err != nil {
		return false, err
	}
	values, err := ioctx.GetOmapValues("rbd_header."+id, "", fmt.Sprintf("snap_children_%016x", snapshot), 1)
	return len(values) > 0, err
}

// ownersAnswer: librbd would take the exclusive lock from an owner that does not, and that may be well all the same (S2).
func ownersAnswer(image *rbd.Image) error {
	watchers, err := watchersOf(image)
	if err != nil {
		return err
	}
	return forEachLock(image, func(_ rbd.Locker, owner ceph.Address) error {
		if !slices.ContainsFunc(watchers, func(w ceph.Watcher) bool { return w.Address == owner }) {
			return fmt.Errorf("%w (%s)", ceph.ErrLockHeld, owner)
		}
		return nil
	})
}

func snapshotsOf(image *rbd.Image) ([]string, error) {
	list, err := image.GetSnapshotNames()
	if err != nil {
		return nil, fmt.Errorf("listing its snapshots: %w", err)
	}
	var names []string
	for _, snapshot := range list {
		if snapshot.Name != "" {
			names = append(names, snapshot.Name)
		}
	}
	return names, nil
}
