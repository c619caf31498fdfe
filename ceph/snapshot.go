package ceph

import (
	"context"
	"errors"
	"fmt"
)

var (
	// ErrSnapshotInUse says that a snapshot is protected, or that there are clones of it.
	ErrSnapshotInUse = errors.New("it is protected, or there are clones of it")
	// ErrLockHeld says that an image's exclusive lock must not be taken from its owner.
	ErrLockHeld = errors.New("its exclusive lock is held by a client that is neither cut off nor answers")
)

// CreateSnapshot takes a snapshot of an image, at a moment of which no more is known than that it lies within this call. That there
// is one of that name is no error. An error that Is ErrInDoubt means that there may be one by now, or later.
//
// An exclusive lock is taken only from a client that is cut off; its owner may else be well (S2): ErrLockHeld.
func (c *Cluster) CreateSnapshot(ctx context.Context, image Image, name string, cutOff []Address) error {
	if err := c.conn.CreateSnapshot(ctx, image, name, cutOff); err != nil {
		return fmt.Errorf("taking snapshot %s of image %s: %w", name, image, err)
	}
	return nil
}

// RemoveSnapshot removes a snapshot of an image, also where the image was moved to the trash meanwhile. That there is none of that
// name is no error. The error Is ErrSnapshotInUse if it must stay.
func (c *Cluster) RemoveSnapshot(ctx context.Context, image Image, name string) error {
	if err := c.conn.RemoveSnapshot(ctx, image, name); err != nil {
		return fmt.Errorf("removing snapshot %s of image %s: %w", name, image, err)
	}
	return nil
}
