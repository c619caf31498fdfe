package ceph_test

import (
	"context"
	"errors"
	"slices"
	"syscall"
	"testing"
	"time"

	clocktesting "k8s.io/utils/clock/testing"

	"github.com/rbd-rescue/rbd-rescue/ceph"
	"github.com/rbd-rescue/rbd-rescue/ceph/cephtest"
)

var (
	start   = time.Date(2026, 11, 23, 3, 0, 0, 0, time.UTC)
	clients = []ceph.Address{ceph.MustParseAddress("10.0.0.1:0/42"), ceph.MustParseAddress("[fd98::7]:0/7")}
	pools   = []ceph.PoolRef{{Pool: "rbd"}}
)

func newCluster(t *testing.T) (*cephtest.Cluster, *clocktesting.FakePassiveClock, *ceph.Cluster) {
	t.Helper()
	clock := clocktesting.NewFakePassiveClock(start)
	fake := cephtest.New(clock)
	return fake, clock, ceph.NewCluster(fake)
}

func TestBlocklist(t *testing.T) {
	t.Parallel()
	for name, old := range map[string]bool{"by today's word": false, "by the old word, where the cluster knows only that": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx := context.Background()
			fake, _, cluster := newCluster(t)
			fake.Old = old
			if err := cluster.AddToBlocklist(ctx, clients, time.Hour); err != nil {
				t.Fatal(err)
			}
			m, err := cluster.ReadOSDMap(ctx)
			if err != nil {
				t.Fatal(err)
			}
			for _, client := range clients {
				if until := m.Blocklist[client]; !until.Equal(start.Add(time.Hour)) {
					t.Errorf("%s is cut off until %v", client, until)
				}
			}
			if err := cluster.RemoveFromBlocklist(ctx, clients[:1]); err != nil {
				t.Fatal(err)
			}
			if got, want := fake.Blocklist(), []string{clients[1].String()}; !slices.Equal(got, want) {
				t.Errorf("cut off are %v, want %v", got, want)
			}
		})
	}
}

func TestBlocklistTellsEveryFailure(t *testing.T) {
	t.Parallel()
	fake, _, cluster := newCluster(t)
	refused := &ceph.CommandError{Command: "osd blocklist", Errno: syscall.EACCES}
	fake.FailWith(func(string) error { return refused })
	err := cluster.AddToBlocklist(context.Background(), clients, time.Hour)
	if !errors.Is(err, syscall.EACCES) {
		t.Fatalf("got %v", err)
	}
	fake.FailWith(func(string) error { return ceph.ErrInDoubt })
	if err := cluster.RemoveFromBlocklist(context.Background(), clients); !errors.Is(err, ceph.ErrInDoubt) {
		t.Fatalf("got %v", err)
	}
}

func TestBarrierIsNotProvenWhileAPlacementGroupLags(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	fake, _, cluster := newCluster(t)
	m, err := cluster.ReadOSDMap(ctx)
	if err != nil {
		t.Fatal(err)
	}
	fake.Lag(true)
	if err := cluster.Barrier(ctx, m, pools); !errors.Is(err, ceph.ErrInDoubt) {
		t.Errorf("got %v", err)
	}
	fake.Lag(false)
	if err := cluster.Barrier(ctx, m, pools); err != nil {
		t.Error(err)
	}
	if err := cluster.Barrier(ctx, m, []ceph.PoolRef{{Pool: "gone"}}); err == nil {
		t.Error("took a pool that the map does not have as proven")
	}
}

func TestClustersDialAgainAfterAFailure(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	fake := cephtest.New(clocktesting.NewFakePassiveClock(start))
	dials := 0
	clusters := ceph.NewClusters(map[string]ceph.Dial{"c1": func(context.Context) (ceph.Conn, error) {
		if dials++; dials == 1 {
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
	if second, _ := clusters.Get(ctx, "c1"); second != first || dials != 2 {
		t.Errorf("dialled %d times", dials)
	}
	if _, err := clusters.Get(ctx, "c2"); !errors.Is(err, ceph.ErrUnknownCluster) {
		t.Errorf("got %v", err)
	}
}
