//go:build librados

package librados

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rbd-rescue/rbd-rescue/ceph"
)

func TestBoundedGivesUpInDoubtAndClosesOnlyAfterTheCall(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newCalls()
		release, closed := make(chan struct{}), false
		ctx, cancel := context.WithCancelCause(t.Context())
		_, err := bounded(ctx, c, "test", func() (int, error) { cancel(context.DeadlineExceeded); <-release; return 1, nil })
		if !errors.Is(err, ceph.ErrInDoubt) || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
		c.close(func() { closed = true })
		synctest.Wait()
		if closed {
			t.Error("closed under a call")
		}
		close(release)
		synctest.Wait()
		if _, err := bounded(t.Context(), c, "test", func() (int, error) { return 1, nil }); !errors.Is(err, errClosed) || !closed {
			t.Errorf("closed is %v, got %v", closed, err)
		}
	})
}

func TestBoundedRefusesACallWhenTooManyHang(t *testing.T) {
	t.Parallel()
	c := newCalls()
	release := make(chan struct{})
	defer close(release)
	late, giveUp := context.WithCancel(context.Background())
	var begun sync.WaitGroup
	begun.Add(callsAtOnce)
	for range callsAtOnce {
		go bounded(late, c, "test", func() (int, error) { begun.Done(); <-release; return 1, nil }) //nolint:errcheck // it hangs
	}
	begun.Wait()
	giveUp()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
	defer cancel()
	_, err := bounded(ctx, c, "test", func() (int, error) { t.Error("ran"); return 1, nil })
	if err == nil || errors.Is(err, ceph.ErrInDoubt) {
		t.Errorf("nothing was asked, got %v", err)
	}
}

func TestDataPoolID(t *testing.T) {
	t.Parallel()
	if got, err := dataPoolID([]byte{2, 1, 0, 0, 0, 0, 0, 0}); err != nil || got != 258 {
		t.Errorf("got %d, %v", got, err)
	}
	for _, value := range [][]byte{nil, {2}, make([]byte, 9)} {
		if got, err := dataPoolID(value); err == nil {
			t.Errorf("took %v for %d", value, got)
		}
	}
}
