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
	fake.FailNext("osd blocklist", refused)
	err := cluster.AddToBlocklist(context.Background(), clients, time.Hour)
	if !errors.Is(err, syscall.EACCES) {
		t.Fatalf("got %v", err)
	}
	if got := fake.Blocklist(); len(got) != 1 {
		t.Errorf("of two clients one was refused, cut off are %v", got)
	}
	fake.FailWith(func(string) error { return ceph.ErrInDoubt })
	if err := cluster.RemoveFromBlocklist(context.Background(), clients); !errors.Is(err, ceph.ErrInDoubt) {
		t.Fatalf("got %v", err)
	}
}

func TestAddToBlocklistSendsNothingForAClientThatCannotBeMeant(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		client ceph.Address
		ttl    time.Duration
	}{
		"S2: rbd-rescue itself":        {cephtest.Own, time.Hour},
		"S2: rbd-rescue's own host":    {cephtest.Own.Host(), time.Hour},
		"a daemon":                     {ceph.MustParseAddress("10.0.0.1:6800/42"), time.Hour},
		"no address":                   {ceph.Address{}, time.Hour},
		"every address":                {ceph.MustParseAddress("0.0.0.0:0/0"), time.Hour},
		"an entry that has ended":      {clients[0], 0},
		"an entry that has long ended": {clients[0], -time.Hour},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			fake, _, cluster := newCluster(t)
			if err := cluster.AddToBlocklist(context.Background(), []ceph.Address{clients[1], c.client}, c.ttl); err == nil {
				t.Error("took it")
			}
			if got := fake.Blocklist(); len(got) != 0 {
				t.Errorf("cut off are %v", got)
			}
		})
	}
}

func TestEntriesExpireInANewMap(t *testing.T) {
	t.Parallel()
	fake, clock, cluster := newCluster(t)
	image := ceph.Image{Pool: "rbd", Name: "a"}
	fake.Watch(image, clients[0].String())
	if err := cluster.AddToBlocklist(context.Background(), []ceph.Address{clients[0].Host()}, time.Hour); err != nil {
		t.Fatal(err)
	}
	before := fake.Epoch()
	if use, err := cluster.Inspect(context.Background(), image); err != nil || len(use.Watchers) != 0 {
		t.Errorf("its host is cut off, but it watches: %v, %v", use.Watchers, err)
	}
	clock.SetTime(start.Add(time.Hour))
	if fake.Epoch() <= before || len(fake.Blocklist()) != 0 {
		t.Errorf("map %d after %d holds %v", fake.Epoch(), before, fake.Blocklist())
	}
}

func TestInspectAnImageThatIsGone(t *testing.T) {
	t.Parallel()
	fake, _, cluster := newCluster(t)
	image := ceph.Image{Pool: "rbd", Name: "gone"}
	fake.RemoveImage(image)
	if _, err := cluster.Inspect(context.Background(), image); !ceph.IsNotFound(err) {
		t.Errorf("got %v", err)
	}
}
