//go:build librados

package main

import (
	"context"
	"fmt"
	"log"
	"sync"
	"time"

	"github.com/rbd-rescue/rbd-rescue/e2e/workload"
)

// options say how the plugin reaches Ceph.
type options struct {
	node, user, ackDir string
	// clustersFile lists the Ceph clusters.
	clustersFile   string
	clientPerImage bool
	// machine is the address of the VM whose kernel maps the images; empty for librbd.
	machine string
	// leaveMapped is a file: while it is there, what is unstaged stays mapped in the VM, as where a plugin ends in between.
	leaveMapped string
}

// closeWithin bounds the wait for a close: a client that is cut off from Ceph gets no answer.
const closeWithin = 5 * time.Second

// imageRef names an image.
type imageRef struct{ clusterID, pool, name string }

// mapper opens images.
type mapper interface {
	// open opens an image for writing. Unless it is to have many writers, it refuses one that somebody else has open, as
	// ceph-csi does. It may hang for as long as Ceph can't be reached.
	open(ctx context.Context, ref imageRef, manyWriters bool) (opened, error)
}

// opened is what a mapper gives.
type opened interface {
	workload.Image
	Size() int64
	// Unmap is called once, when no writer is at work. It hangs until a client that is cut off is answered.
	Unmap() error
}

// image is one open image.
type image struct {
	opened
	name string
	// writers are at work; one whose write hangs stays.
	writers sync.WaitGroup
	// closing is set once, under the lock of images; closed is closed when nothing of the image can reach Ceph any more.
	closing bool
	closed  chan struct{}
}

// images are the node's open images.
type images struct {
	mapper mapper

	lock sync.Mutex
	byID map[string]*image
}

func newImages(m mapper) *images { return &images{mapper: m, byID: map[string]*image{}} }

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

// open opens an image for writing, as its mapper does. An open image is no error.
func (i *images) open(ctx context.Context, volumeID string, ref imageRef, manyWriters bool) error {
	if open, err := i.get(volumeID); open != nil || err != nil {
		return err
	}
	o, err := i.mapper.open(ctx, ref, manyWriters)
	if err != nil {
		return err
	}
	i.lock.Lock()
	defer i.lock.Unlock()
	i.byID[volumeID] = &image{opened: o, name: ref.name, closed: make(chan struct{})}
	return nil
}

// close closes an image. It returns by closeWithin: a client that is cut off from Ceph keeps the image, and what it still has
// to write, until it is answered; closing goes on meanwhile. A client that is blocklisted is answered.
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
	if err := open.Unmap(); err != nil {
		log.Printf("closing image %s: %v", open.name, err)
		return // it stays as it is for whoever reads the log
	}
	i.lock.Lock()
	delete(i.byID, volumeID)
	i.lock.Unlock()
	close(open.closed)
}
