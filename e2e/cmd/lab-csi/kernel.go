//go:build librados

package main

import (
	"context"
	"fmt"
	"os"
	"strings"

	"github.com/rbd-rescue/rbd-rescue/e2e/krbd"
)

// kernel has images mapped by the kernel of the node's VM. Which of them share a client is for that kernel to decide.
type kernel struct {
	options options
	machine *krbd.Machine
	library *library
}

// dialKernel waits until the VM is up, or ctx ends.
func dialKernel(ctx context.Context, o options) (*kernel, error) {
	machine, err := krbd.Dial(ctx, o.machine)
	if err != nil {
		return nil, err
	}
	return &kernel{options: o, machine: machine, library: newLibrary(o)}, nil
}

func (k *kernel) open(ctx context.Context, ref imageRef, manyWriters bool) (opened, error) {
	if !manyWriters {
		if err := k.notInUse(ctx, ref); err != nil {
			return nil, err
		}
	}
	at, err := k.options.cluster(ref.clusterID)
	if err != nil {
		return nil, err
	}
	key, err := os.ReadFile(at.KeyFile)
	if err != nil {
		return nil, fmt.Errorf("reading the key: %w", err)
	}
	device, err := k.machine.Map(krbd.Image{
		Monitors: at.Monitors, User: k.options.user, Key: strings.TrimSpace(string(key)), Pool: ref.pool, Name: ref.name,
	})
	if err != nil {
		return nil, err
	}
	return mapped{device, k.options.leaveMapped}, nil
}

// mapped is an image that may be left mapped.
type mapped struct {
	*krbd.Device
	leave string
}

// Unmap implements opened.
func (m mapped) Unmap() error {
	if _, err := os.Stat(m.leave); err == nil {
		return m.LetGo()
	}
	return m.Device.Unmap()
}

// notInUse looks by a client of its own, as ceph-csi does: the kernel does not ask.
func (k *kernel) notInUse(ctx context.Context, ref imageRef) error {
	c, err := k.library.connect(ref.clusterID)
	if err != nil {
		return err
	}
	defer c.Shutdown()
	ioctx, err := c.OpenIOContext(ref.pool)
	if err != nil {
		return fmt.Errorf("opening pool %s: %w", ref.pool, codedError(err))
	}
	defer ioctx.Destroy()
	return notInUse(ctx, ioctx, ref.name)
}
