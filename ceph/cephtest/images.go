package cephtest

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"syscall"

	"github.com/rbd-rescue/rbd-rescue/ceph"
)

// AddImage makes an image that is listed and can be described, with these snapshots.
func (c *Cluster) AddImage(image ceph.Image, size uint64, snapshots ...ceph.Snapshot) {
	c.lock.Lock()
	defer c.lock.Unlock()
	c.images[image] = ceph.ImageDescription{Size: size, Snapshots: snapshots}
}

// Metadata of an image; empty if it has none of this key.
func (c *Cluster) Metadata(image ceph.Image, key string) string {
	c.lock.Lock()
	defer c.lock.Unlock()
	return c.metadata[image][key]
}

// RolledBackTo is the snapshot that an image was last overwritten with; empty for none.
func (c *Cluster) RolledBackTo(image ceph.Image) string {
	c.lock.Lock()
	defer c.lock.Unlock()
	return c.rolledBack[image]
}

// Images implements ceph.Conn.
func (c *Cluster) Images(ctx context.Context, pool, namespace string) ([]string, error) {
	c.lock.Lock()
	defer c.lock.Unlock()
	if err := c.begin(ctx, "list images"); err != nil {
		return nil, err
	}
	if c.pools[pool] == nil {
		return nil, fmt.Errorf("listing the images of pool %s: %w", pool, notFound("list images"))
	}
	var names []string
	for image := range c.images {
		if image.Pool == pool && image.Namespace == namespace {
			names = append(names, image.Name)
		}
	}
	return names, nil
}

// Describe implements ceph.Conn.
func (c *Cluster) Describe(ctx context.Context, image ceph.Image) (ceph.ImageDescription, error) {
	c.lock.Lock()
	defer c.lock.Unlock()
	if err := c.begin(ctx, "describe image"); err != nil {
		return ceph.ImageDescription{}, err
	}
	if c.gone[image] {
		return ceph.ImageDescription{}, fmt.Errorf("reading the snapshots of image %s: %w", image, notFound("describe image"))
	}
	return c.images[image], nil
}

// SetMetadata implements ceph.Conn.
func (c *Cluster) SetMetadata(ctx context.Context, image ceph.Image, key, value string) error {
	c.lock.Lock()
	defer c.lock.Unlock()
	if err := c.begin(ctx, "set image metadata"); err != nil {
		return err
	}
	if c.gone[image] {
		return fmt.Errorf("writing metadata %s of image %s: %w", key, image, notFound("set image metadata"))
	}
	if c.metadata[image] == nil {
		c.metadata[image] = map[string]string{}
	}
	c.metadata[image][key] = value
	return nil
}

// Clone implements ceph.Conn.
func (c *Cluster) Clone(ctx context.Context, image ceph.Image, snapshot, name string, _ bool) error {
	c.lock.Lock()
	defer c.lock.Unlock()
	if err := c.begin(ctx, "clone image"); err != nil {
		return err
	}
	from, err := c.snapshot(image, snapshot)
	if err != nil {
		return err
	}
	clone := ceph.Image{Pool: image.Pool, Namespace: image.Namespace, Name: name}
	if _, exists := c.images[clone]; exists {
		return &ceph.CommandError{Command: "clone image", Errno: syscall.EEXIST}
	}
	c.images[clone], c.metadata[clone] = ceph.ImageDescription{Size: from.Size}, maps.Clone(c.metadata[image])
	return nil
}

// Rollback implements ceph.Conn.
func (c *Cluster) Rollback(ctx context.Context, image ceph.Image, snapshot string) error {
	c.lock.Lock()
	defer c.lock.Unlock()
	if err := c.begin(ctx, "roll image back"); err != nil {
		return err
	}
	if _, err := c.snapshot(image, snapshot); err != nil {
		return err
	}
	c.rolledBack[image] = snapshot
	return nil
}

func (c *Cluster) snapshot(image ceph.Image, name string) (ceph.Snapshot, error) {
	snapshots := c.images[image].Snapshots
	at := slices.IndexFunc(snapshots, func(s ceph.Snapshot) bool { return s.Name == name })
	if at < 0 {
		return ceph.Snapshot{}, notFound("find snapshot")
	}
	return snapshots[at], nil
}
