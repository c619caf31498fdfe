//go:build librados

package librados

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"syscall"

	"github.com/rbd-rescue/rbd-rescue/ceph"
)

// callsAtOnce bounds the calls under way in one connection, those that were given up included: each holds a thread until
// Ceph's own limit ends it, and waiting for the latest OSD map has none while no monitor answers.
const callsAtOnce = 128

// calls are the calls of one connection. The library takes no context and must not be closed under a call.
type calls struct {
	slots chan struct{}
	lock  sync.Mutex
	// underWay counts the calls, closed says that no more may begin, and idle is run once, after the last one.
	underWay int
	closed   bool
	idle     func()
}

func newCalls() *calls { return &calls{slots: make(chan struct{}, callsAtOnce)} }

// errClosed says that a call came after Close.
var errClosed = errors.New("the connection to Ceph is closed")

func (c *calls) begin(ctx context.Context) error {
	if ctx.Err() != nil {
		return fmt.Errorf("not asked: %w", context.Cause(ctx))
	}
	select {
	case c.slots <- struct{}{}:
	case <-ctx.Done():
		return fmt.Errorf("not asked, because %d earlier calls have not ended: %w", callsAtOnce, context.Cause(ctx))
	}
	c.lock.Lock()
	defer c.lock.Unlock()
	if c.closed {
		<-c.slots
		return errClosed
	}
	c.underWay++
	return nil
}

func (c *calls) end() {
	<-c.slots
	c.lock.Lock()
	defer c.lock.Unlock()
	c.underWay--
	c.closeIfIdle()
}

// close runs idle once no call is under way any more. It does not wait for that.
func (c *calls) close(idle func()) {
	c.lock.Lock()
	defer c.lock.Unlock()
	if c.closed {
		return
	}
	c.closed, c.idle = true, idle
	c.closeIfIdle()
}

func (c *calls) closeIfIdle() {
	if c.closed && c.underWay == 0 && c.idle != nil {
		go c.idle()
		c.idle = nil
	}
}

// bounded runs a call of the library and gives up waiting at the deadline; the call then ends by Ceph's own limits. A
// deadline missed while the call runs, Ceph's or ours, is in doubt: it may have had its effect, or have it yet.
// A call that could not begin has failed.
func bounded[T any](ctx context.Context, c *calls, command string, call func() (T, error)) (T, error) {
	type result struct {
		value T
		err   error
	}
	var none T
	if err := c.begin(ctx); err != nil {
		return none, fmt.Errorf("ceph %s: %w", command, err)
	}
	done := make(chan result, 1)
	go func() {
		defer c.end()
		value, err := call()
		done <- result{value, translate(command, err)}
	}()
	select {
	case r := <-done:
		return r.value, r.err
	case <-ctx.Done():
		return none, fmt.Errorf("ceph %s: no answer in time: %w (%w)", command, ceph.ErrInDoubt, context.Cause(ctx))
	}
}

// translate gives a go-ceph error our type.
func translate(command string, err error) error {
	errno, ok := errnoOf(err)
	if !ok {
		return err
	}
	switch errno {
	case syscall.ETIMEDOUT, syscall.ECANCELED, syscall.EINTR, syscall.ECONNRESET, syscall.ECONNABORTED, syscall.EPIPE:
		return fmt.Errorf("ceph %s: %w (%w)", command, ceph.ErrInDoubt, errno)
	default:
		return &ceph.CommandError{Command: command, Errno: errno}
	}
}

func errnoOf(err error) (syscall.Errno, bool) {
	var coded interface{ ErrorCode() int }
	if err == nil || !errors.As(err, &coded) {
		return 0, false
	}
	code := coded.ErrorCode()
	return syscall.Errno(max(code, -code)), true //nolint:gosec // a small number
}
