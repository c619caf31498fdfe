//go:build librados

package librados

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/ceph/go-ceph/rados"
)

// probesAtOnce bounds the threads of one Probe.
const probesAtOnce = 32

// Probe implements ceph.Conn.
func (c *Conn) Probe(ctx context.Context, pool, namespace string, objects []string) error {
	if _, err := bounded(ctx, c.calls, "wait for the latest OSD map", func() (struct{}, error) {
		return struct{}{}, c.rados.WaitForLatestOSDMap()
	}); err != nil {
		return err
	}
	_, err := bounded(ctx, c.calls, "stat", func() (struct{}, error) {
		ioctx, err := c.open(pool, namespace)
		if err != nil {
			return struct{}{}, err
		}
		defer ioctx.Destroy()
		return struct{}{}, askForEach(ctx, ioctx, objects)
	})
	return err
}

// TryWrite implements ceph.Conn. The OSD looks at the caps before it looks for the object.
func (c *Conn) TryWrite(ctx context.Context, pool, namespace, object string) error {
	_, err := bounded(ctx, c.calls, "write", func() (struct{}, error) {
		ioctx, err := c.open(pool, namespace)
		if err != nil {
			return struct{}{}, err
		}
		defer ioctx.Destroy()
		write := rados.CreateWriteOp()
		defer write.Release()
		write.AssertExists() // the whole operation is void if it does not
		write.WriteFull([]byte{0})
		err = write.Operate(ioctx, object, rados.OperationNoFlag)
		if failed, is := errors.AsType[rados.OperationError](err); is {
			err = failed.OpError // it does not unwrap
		}
		if errors.Is(err, rados.ErrNotFound) {
			err = nil
		}
		return struct{}{}, err
	})
	return err
}

// askForEach ends with the first error, and when the context does.
func askForEach(ctx context.Context, ioctx *rados.IOContext, objects []string) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	next := make(chan string, len(objects))
	for _, object := range objects {
		next <- object
	}
	close(next)
	var group sync.WaitGroup
	for range min(probesAtOnce, len(objects)) {
		group.Go(func() {
			for object := range next {
				if ctx.Err() != nil {
					return
				}
				if _, err := ioctx.Stat(object); err != nil && !errors.Is(err, rados.ErrNotFound) {
					cancel(fmt.Errorf("asking for object %s: %w", object, err))
					return
				}
			}
		})
	}
	group.Wait()
	return context.Cause(ctx)
}
