//go:build librados

package main

import (
	"context"
	"log"
	"time"

	"github.com/rbd-rescue/rbd-rescue/e2e/workload"
)

const stopWithin = 2 * time.Second

// writer is a running workload.Writer.
type writer struct {
	cancel context.CancelFunc
	done   chan struct{}
}

func startWriter(i *image, o options) *writer {
	ctx, cancel := context.WithCancel(context.Background())
	w := &writer{cancel: cancel, done: make(chan struct{})}
	i.writers.Go(func() {
		defer close(w.done)
		if err := (&workload.Writer{Image: i, Name: i.name, Size: i.Size(), Node: o.node, AckDir: o.ackDir}).Run(ctx); err != nil {
			log.Printf("the writer of image %s ended: %v", i.name, err)
		}
	})
	return w
}

// stop waits a moment for the write that is under way, and tells whether it has ended.
func (w *writer) stop() bool {
	w.cancel()
	select {
	case <-w.done:
		return true
	case <-time.After(stopWithin):
		return false
	}
}
