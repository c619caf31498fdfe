package ceph_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/rbd-rescue/rbd-rescue/ceph"
)

func TestBarrierIsNotProvenWhileAnyPlacementGroupLags(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	fake, _, cluster := newCluster(t)
	fake.AddPool("data", 7)
	m, err := cluster.ReadOSDMap(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for name, refs := range map[string][]ceph.PoolRef{
		"in the pool":               {{Pool: "data"}},
		"whatever the namespace":    {{Pool: "data", Namespace: "tenant"}},
		"beside one that is proven": {{Pool: "rbd"}, {Pool: "data"}},
	} {
		for pg := range m.Pools["data"].PlacementGroups {
			fake.LagPlacementGroup("data", pg, true)
			if err := cluster.Barrier(ctx, m, refs); !errors.Is(err, ceph.ErrInDoubt) {
				t.Errorf("%s: placement group %d lags, got %v", name, pg, err)
			}
			fake.LagPlacementGroup("data", pg, false)
			if err := cluster.Barrier(ctx, m, refs); err != nil {
				t.Errorf("%s: none lags, got %v", name, err)
			}
		}
	}
}

func TestBarrierWaitsForAPlacementGroupUpToTheDeadline(t *testing.T) {
	t.Parallel()
	fake, _, cluster := newCluster(t)
	fake.Hang = true
	m, err := cluster.ReadOSDMap(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	fake.LagPlacementGroup("rbd", 3, true)
	short, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
	defer cancel()
	if err := cluster.Barrier(short, m, pools); !errors.Is(err, ceph.ErrInDoubt) {
		t.Errorf("got %v", err)
	}
	proven := make(chan error)
	go func() { proven <- cluster.Barrier(context.Background(), m, pools) }()
	fake.LagPlacementGroup("rbd", 3, false)
	if err := <-proven; err != nil {
		t.Error(err)
	}
}

func TestBarrierAsksOncePerPool(t *testing.T) {
	t.Parallel()
	fake, _, cluster := newCluster(t)
	m, err := cluster.ReadOSDMap(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	if err := cluster.Barrier(context.Background(), m, []ceph.PoolRef{{Pool: "rbd", Namespace: "a"}, {Pool: "rbd", Namespace: "b"}}); err != nil {
		t.Fatal(err)
	}
	if calls := fake.Calls(); len(calls) != 2 {
		t.Errorf("called %v", calls)
	}
}

func TestBarrierRefusesWhatItCannotProve(t *testing.T) {
	t.Parallel()
	fake, _, cluster := newCluster(t)
	fake.AddPool("cached", 8)
	fake.AddTier("cached")
	m, err := cluster.ReadOSDMap(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	m.Pools["other hash"] = ceph.Pool{Name: "other hash", PlacementGroups: 8, Hash: 1}
	m.Pools["no size"] = ceph.Pool{Name: "no size", Hash: 2}
	for name, refs := range map[string][]ceph.PoolRef{
		"no pool":                       nil,
		"a pool that is not in the map": {{Pool: "gone"}},
		"a pool of another hash":        {{Pool: "other hash"}},
		"a pool without its pg_num":     {{Pool: "no size"}},
		"a pool under a cache tier":     {{Pool: "cached"}},
		"one of two":                    {{Pool: "rbd"}, {Pool: "gone"}},
	} {
		if err := cluster.Barrier(context.Background(), m, refs); err == nil {
			t.Errorf("took %s for proven", name)
		}
	}
	if err := cluster.Barrier(context.Background(), ceph.OSDMap{}, pools); err == nil {
		t.Error("took no map for proven")
	}
}
