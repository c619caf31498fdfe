package ceph_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	clocktesting "k8s.io/utils/clock/testing"

	"github.com/rbd-rescue/rbd-rescue/ceph"
	"github.com/rbd-rescue/rbd-rescue/ceph/cephtest"
)

func TestClustersDialAgainAfterAFailure(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx := t.Context()
		fake := cephtest.New(clocktesting.NewFakePassiveClock(start))
		var dials []time.Time
		clusters := ceph.NewClusters(map[string]ceph.Dial{"c1": func(context.Context) (ceph.Conn, error) {
			if dials = append(dials, time.Now()); len(dials) == 1 {
				return nil, errors.New("no route")
			}
			return fake, nil
		}})
		if _, err := clusters.Get(ctx, "c1"); err == nil {
			t.Error("connected to nothing")
		}
		first, err := clusters.Get(ctx, "c1")
		if err != nil {
			t.Fatal(err)
		}
		if second, _ := clusters.Get(ctx, "c1"); second != first || len(dials) != 2 {
			t.Errorf("dialled %d times", len(dials))
		}
		if apart := dials[1].Sub(dials[0]); apart != 5*time.Second {
			t.Errorf("dialled again after %s", apart)
		}
		if _, err := clusters.Get(ctx, "c2"); !errors.Is(err, ceph.ErrUnknownCluster) {
			t.Errorf("got %v", err)
		}
	})
}

// Each dial of a cluster that does not answer keeps threads and 25 MiB until librados gives up.
func TestAClusterThatDoesNotAnswerIsDialledOnceForAllWhoAsk(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		dials := 0
		clusters := ceph.NewClusters(map[string]ceph.Dial{"c1": func(ctx context.Context) (ceph.Conn, error) {
			dials++
			<-ctx.Done()
			return nil, ctx.Err()
		}})
		began := time.Now()
		var callers sync.WaitGroup
		for range 8 {
			callers.Go(func() {
				ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
				defer cancel()
				if _, err := clusters.Get(ctx, "c1"); !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("got %v", err)
				}
			})
		}
		callers.Wait()
		if waited := time.Since(began); waited != 10*time.Second {
			t.Errorf("who has 10 s waited for %s", waited)
		}
		if _, err := clusters.Get(t.Context(), "c1"); err == nil || time.Since(began) != 30*time.Second {
			t.Errorf("who waits for the end of the dial got %v after %s", err, time.Since(began))
		}
		if dials != 1 {
			t.Errorf("dialled %d times", dials)
		}
	})
}

func TestADialThatItsCallerGaveUpServesTheNextOne(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		fake := cephtest.New(clocktesting.NewFakePassiveClock(start))
		clusters := ceph.NewClusters(map[string]ceph.Dial{"c1": func(context.Context) (ceph.Conn, error) {
			time.Sleep(15 * time.Second)
			return fake, nil
		}})
		hasty, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := clusters.Get(hasty, "c1"); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
		if _, err := clusters.Get(t.Context(), "c1"); err != nil {
			t.Error(err)
		}
	})
}
