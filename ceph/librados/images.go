//go:build librados

package librados

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"syscall"
	"time"

	"github.com/ceph/go-ceph/rados"
	"github.com/ceph/go-ceph/rbd"

	"github.com/rbd-rescue/rbd-rescue/ceph"
)

// withPool runs a call in a pool and a namespace.
func withPool[T any](ctx context.Context, c *Conn, command string, image ceph.Image, call func(*rados.IOContext) (T, error)) (T, error) {
	return bounded(ctx, c.calls, command, func() (T, error) {
		ioctx, err := c.open(image.Pool, image.Namespace)
		if err != nil {
			var none T
			return none, err
		}
		defer ioctx.Destroy()
		return call(ioctx)
	})
}

// Images implements ceph.Conn.
func (c *Conn) Images(ctx context.Context, pool, namespace string) ([]string, error) {
	names, err := withPool(ctx, c, "list images", ceph.Image{Pool: pool, Namespace: namespace}, rbd.GetImageNames)
	if err != nil {
		return nil, fmt.Errorf("listing the images of pool %s: %w", pool, err)
	}
	return names, nil
}

// Describe implements ceph.Conn.
func (c *Conn) Describe(ctx context.Context, image ceph.Image) (ceph.ImageDescription, error) {
	description, err := withPool(ctx, c, "describe image", image, func(ioctx *rados.IOContext) (ceph.ImageDescription, error) {
		opened, err := rbd.OpenImageReadOnly(ioctx, image.Name, rbd.NoSnapshot)
		if err != nil {
			return ceph.ImageDescription{}, err
		}
		defer opened.Close() //nolint:errcheck // read-only: nothing can be lost
		return describe(opened)
	})
	if err != nil {
		return ceph.ImageDescription{}, fmt.Errorf("reading the snapshots of image %s: %w", image, err)
	}
	return description, nil
}

func describe(image *rbd.Image) (description ceph.ImageDescription, err error) {
	if description.Size, err = image.GetSize(); err != nil {
		return description, err
	}
	snapshots, err := image.GetSnapshotNames()
	if err != nil {
		return description, err
	}
	for _, s := range snapshots {
		kind, err := image.GetSnapNamespaceType(s.Id)
		if err != nil {
			return description, err
		}
		if kind != rbd.SnapNamespaceTypeUser {
			continue
		}
		taken, err := image.GetSnapTimestamp(s.Id)
		if err != nil {
			return description, err
		}
		description.Snapshots = append(description.Snapshots, ceph.Snapshot{Name: s.Name, Size: s.Size, TakenAt: time.Unix(taken.Sec, taken.Nsec).UTC()})
	}
	return description, nil
}

// SetMetadata implements ceph.Conn. librbd would open the image for writing, and would take the exclusive lock from whoever has it;
// what it then asks of the image's header is asked here at once.
func (c *Conn) SetMetadata(ctx context.Context, image ceph.Image, key, value string) error {
	_, err := withPool(ctx, c, "set image metadata", image, func(ioctx *rados.IOContext) (struct{}, error) {
		id, err := idOf(ioctx, image.Name)
		if err != nil {
			return struct{}{}, err
		}
		return struct{}{}, setMetadata(ioctx, id, key, value)
	})
	if err != nil {
		return fmt.Errorf("writing metadata %s of image %s: %w", key, image, err)
	}
	return nil
}

// noSnapshot is CEPH_NOSNAP, encoded.
var noSnapshot = binary.LittleEndian.AppendUint64(nil, ^uint64(1))

// setMetadata of an image with this id. An image that was removed meanwhile must not get a new header: the size that is asked for is
// thrown away, and fails where there is none. (Asking whether the object is there would need a right to read in the very grant that
// has the right to write.)
func setMetadata(ioctx *rados.IOContext, id, key, value string) error {
	op := rados.CreateWriteOp()
	defer op.Release()
	op.Exec("rbd", "get_size", noSnapshot)
	op.Exec("rbd", "metadata_set", encodeMetadata(key, value))
	return causeOf(op.Operate(ioctx, "rbd_header."+id, rados.OperationNoFlag))
}

// causeOf is the OSD's own answer to a write: go-ceph wraps it in one that has no number.
func causeOf(err error) error {
	if failed, ok := errors.AsType[rados.OperationError](err); ok && failed.OpError != nil {
		return failed.OpError
	}
	return err
}

func idOf(ioctx *rados.IOContext, name string) (string, error) {
	opened, err := rbd.OpenImageReadOnly(ioctx, name, rbd.NoSnapshot)
	if err != nil {
		return "", err
	}
	defer opened.Close() //nolint:errcheck // read-only: nothing can be lost
	id, err := opened.GetId()
	if errno, _ := errnoOf(err); errno == syscall.EINVAL {
		return "", errors.New("the image is of format 1, which has no metadata")
	}
	return id, err
}

// encodeMetadata is a map<string, bufferlist> as Ceph encodes it.
func encodeMetadata(key, value string) []byte {
	text := func(to []byte, text string) []byte {
		return append(binary.LittleEndian.AppendUint32(to, uint32(len(text))), text...) //nolint:gosec // bounded by the caller
	}
	return text(text(binary.LittleEndian.AppendUint32(nil, 1), key), value)
}

// inherited are the features that a clone takes from its parent; the others say how the parent is used, or are set by themselves.
const inherited = rbd.FeatureLayering | rbd.FeatureExclusiveLock | rbd.FeatureObjectMap | rbd.FeatureFastDiff | rbd.FeatureDeepFlatten

// Clone implements ceph.Conn. It is a clone of format 2, for which the snapshot need not be protected, whatever the cluster has for
// a default: old clients and kernels can't open it.
func (c *Conn) Clone(ctx context.Context, image ceph.Image, snapshot, name string, flat bool) error {
	_, err := withPool(ctx, c, "clone image", image, func(ioctx *rados.IOContext) (struct{}, error) {
		return struct{}{}, c.clone(ioctx, image, snapshot, name, flat)
	})
	if err != nil {
		return fmt.Errorf("cloning snapshot %s of image %s as %s: %w", snapshot, image, name, err)
	}
	return nil
}

func (c *Conn) clone(ioctx *rados.IOContext, image ceph.Image, snapshot, name string, flat bool) error {
	options, err := c.cloneOptions(ioctx, image, snapshot)
	if err != nil {
		return err
	}
	defer options.Destroy()
	if err := rbd.CloneImage(ioctx, image.Name, snapshot, ioctx, name, options); err != nil || !flat {
		return err
	}
	opened, err := rbd.OpenImage(ioctx, name, rbd.NoSnapshot)
	if err != nil {
		return err
	}
	return errors.Join(opened.Flatten(), opened.Close())
}

func (c *Conn) cloneOptions(ioctx *rados.IOContext, image ceph.Image, snapshot string) (*rbd.ImageOptions, error) {
	parent, err := rbd.OpenImageReadOnly(ioctx, image.Name, snapshot)
	if err != nil {
		return nil, err
	}
	defer parent.Close() //nolint:errcheck // read-only: nothing can be lost
	features, err := parent.GetFeatures()
	if err != nil {
		return nil, err
	}
	dataPool, err := c.dataPoolOf(ioctx, parent)
	if err != nil {
		return nil, err
	}
	options := rbd.NewRbdImageOptions()
	err = errors.Join(options.SetUint64(rbd.ImageOptionCloneFormat, 2), options.SetUint64(rbd.ImageOptionFeatures, features&inherited))
	if dataPool != "" {
		err = errors.Join(err, options.SetString(rbd.ImageOptionDataPool, dataPool))
	}
	if err != nil {
		options.Destroy()
		return nil, err
	}
	return options, nil
}

// Rollback implements ceph.Conn.
func (c *Conn) Rollback(ctx context.Context, image ceph.Image, snapshot string) error {
	_, err := withPool(ctx, c, "roll image back", image, func(ioctx *rados.IOContext) (struct{}, error) {
		opened, err := rbd.OpenImage(ioctx, image.Name, rbd.NoSnapshot)
		if err != nil {
			return struct{}{}, err
		}
		return struct{}{}, errors.Join(opened.GetSnapshot(snapshot).Rollback(), opened.Close())
	})
	if err != nil {
		return fmt.Errorf("rolling image %s back to snapshot %s: %w", image, snapshot, err)
	}
	return nil
}
