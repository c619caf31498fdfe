package ceph

import (
	"context"
	"time"
)

// ImageDescription is what of an image does not change with its use.
type ImageDescription struct {
	// Size in bytes.
	Size uint64
	// Snapshots that somebody has made, oldest first; not those of mirroring, groups or the trash.
	Snapshots []Snapshot
}

// Snapshot of an image.
type Snapshot struct {
	Name string `json:"name"`
	// Size of the image in bytes when it was taken.
	Size    uint64    `json:"size"`
	TakenAt time.Time `json:"takenAt"`
}

// Images are the names of the images in a pool, or in a namespace of it, in no order.
func (c *Cluster) Images(ctx context.Context, pool, namespace string) ([]string, error) {
	return c.conn.Images(ctx, pool, namespace)
}

// Describe tells the size and the snapshots of an image.
func (c *Cluster) Describe(ctx context.Context, image Image) (ImageDescription, error) {
	return c.conn.Describe(ctx, image)
}

// SetMetadata of an image that exists. It disturbs nobody who uses the image. It needs osd 'allow class rbd metadata_set'
// on the image's header.
func (c *Cluster) SetMetadata(ctx context.Context, image Image, key, value string) error {
	return c.conn.SetMetadata(ctx, image, key, value)
}

// Clone makes an image of a snapshot of another one in the same pool; it has the other's metadata. It needs osd 'profile rbd'.
func (c *Cluster) Clone(ctx context.Context, image Image, snapshot, name string, flat bool) error {
	return c.conn.Clone(ctx, image, snapshot, name, flat)
}

// Rollback overwrites an image with a snapshot of it. Nobody may use the image: it is for the caller to see to that. It needs
// osd 'profile rbd'.
func (c *Cluster) Rollback(ctx context.Context, image Image, snapshot string) error {
	return c.conn.Rollback(ctx, image, snapshot)
}
