package cephtest

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"syscall"

	"github.com/rbd-rescue/rbd-rescue/ceph"
)

var _ ceph.Conn = (*Cluster)(nil)

// begin notes a call and gives the error that was asked for.
func (c *Cluster) begin(ctx context.Context, call string) error {
	c.calls = append(c.calls, call)
	if ctx.Err() != nil {
		return fmt.Errorf("%s: %w (%w)", call, ceph.ErrInDoubt, context.Cause(ctx))
	}
	if next := c.failNext[call]; len(next) > 0 {
		c.failNext[call] = next[1:]
		return next[0]
	}
	if c.fail != nil {
		return c.fail(call)
	}
	return nil
}

// Inspect implements ceph.Conn.
func (c *Cluster) Inspect(ctx context.Context, image ceph.Image) (ceph.ImageState, error) {
	c.lock.Lock()
	defer c.lock.Unlock()
	if err := c.begin(ctx, "inspect"); err != nil {
		return ceph.ImageState{}, err
	}
	for c.hung[image] {
		if err := c.wait(ctx); err != nil {
			return ceph.ImageState{}, fmt.Errorf("reading who uses image %s: %w", image, err)
		}
	}
	if c.gone[image] {
		return ceph.ImageState{}, fmt.Errorf("reading who uses image %s: %w", image, notFound("inspect image"))
	}
	state := ceph.ImageState{Snapshots: slices.Clone(c.snapshots[image]), DataPool: c.dataPools[image], Metadata: maps.Clone(c.metadata[image]), Mirrored: c.mirrored[image]}
	for _, client := range c.watchers[image] {
		if !c.cutOff(client) {
			state.Watchers = append(state.Watchers, ceph.Watcher{Address: client, Cookie: 1})
		}
	}
	if owner, locked := c.locks[image]; locked {
		state.LockOwners = []ceph.Address{owner}
	}
	return state, nil
}

// CreateSnapshot implements ceph.Conn.
func (c *Cluster) CreateSnapshot(ctx context.Context, image ceph.Image, name string, cutOff []ceph.Address) error {
	const call = "create snapshot"
	c.lock.Lock()
	defer c.lock.Unlock()
	if err := c.begin(ctx, call); err != nil {
		return err
	}
	for c.hung[image] {
		if err := c.wait(ctx); err != nil {
			return fmt.Errorf("%s: %w", call, err)
		}
	}
	if owner, locked := c.locks[image]; locked && !slices.Contains(cutOff, owner) && !slices.Contains(cutOff, owner.Host()) {
		return ceph.ErrLockHeld
	}
	switch {
	case c.gone[image]:
		return notFound(call)
	case !slices.Contains(c.snapshots[image], name):
		c.snapshots[image] = append(c.snapshots[image], name)
	}
	return nil
}

// RemoveSnapshot implements ceph.Conn. An image that is gone has none.
func (c *Cluster) RemoveSnapshot(ctx context.Context, image ceph.Image, name string) error {
	c.lock.Lock()
	defer c.lock.Unlock()
	if err := c.begin(ctx, "remove snapshot"); err != nil {
		return err
	}
	if c.inUse[name] {
		return ceph.ErrSnapshotInUse
	}
	c.snapshots[image] = slices.DeleteFunc(slices.Clone(c.snapshots[image]), func(n string) bool { return n == name })
	return nil
}

// Probe implements ceph.Conn.
func (c *Cluster) Probe(ctx context.Context, pool, namespace string, objects []string) error {
	c.lock.Lock()
	defer c.lock.Unlock()
	if err := c.begin(ctx, "probe"); err != nil {
		return err
	}
	for {
		p, ok := c.pools[pool]
		if !ok {
			return fmt.Errorf("opening pool %s: %w", pool, notFound("stat"))
		}
		late, lagging := p.firstLagging(namespace, objects)
		if !lagging {
			return nil
		}
		if !c.Hang {
			return fmt.Errorf("asking for an object in placement group %d of pool %s: %w", late, pool, ceph.ErrInDoubt)
		}
		if err := c.wait(ctx); err != nil {
			return fmt.Errorf("asking for an object in placement group %d of pool %s: %w", late, pool, err)
		}
	}
}

// TryWrite implements ceph.Conn; no object is there.
func (c *Cluster) TryWrite(ctx context.Context, pool, _, _ string) error {
	c.lock.Lock()
	defer c.lock.Unlock()
	if err := c.begin(ctx, "write"); err != nil {
		return err
	}
	if c.pools[pool] == nil {
		return fmt.Errorf("opening pool %s: %w", pool, notFound("write"))
	}
	return nil
}

// OwnAddresses implements ceph.Conn.
func (c *Cluster) OwnAddresses(ctx context.Context) ([]ceph.Address, error) {
	c.lock.Lock()
	defer c.lock.Unlock()
	if err := c.begin(ctx, "own addresses"); err != nil {
		return nil, err
	}
	return []ceph.Address{Own}, nil
}

// Close implements ceph.Conn.
func (c *Cluster) Close() {}

func notFound(command string) error {
	return &ceph.CommandError{Command: command, Errno: syscall.ENOENT}
}
