package ceph

import (
	"context"
	"errors"
	"fmt"
	"sync"
)

// PoolRef is a pool, and the RADOS namespace in it that the user may read.
type PoolRef struct {
	Pool, Namespace string
}

// Barrier proves that every placement group of the pools has the OSD map m or a newer one, so that each of them refuses
// the clients that m's blocklist holds. It needs no rights but to read the pools.
//
// It asks for one object in each placement group, after this client has a map as new as m: an operation carries its
// client's epoch, and a placement group keeps it back until it has that map itself. The blocklist is checked against the
// placement group's own map, so that this is a closer proof than an OSD's newest map, for which the right to `tell` the
// OSDs would be needed. Reasons and limits: docs/decisions/0001-osd-map-barrier.md.
//
// An OSD that is up but does not answer holds it up to the context's deadline; the fence is then not proven.
func (c *Cluster) Barrier(ctx context.Context, m OSDMap, pools []PoolRef) error {
	failed := make([]error, len(pools))
	var group sync.WaitGroup
	for i, ref := range pools {
		group.Go(func() { failed[i] = c.barrier(ctx, m, ref) })
	}
	group.Wait()
	return errors.Join(failed...)
}

func (c *Cluster) barrier(ctx context.Context, m OSDMap, ref PoolRef) error {
	pool, ok := m.Pools[ref.Pool]
	if !ok {
		return fmt.Errorf("proving the fence on pool %s: OSD map %d has no such pool", ref.Pool, m.Epoch)
	}
	if pool.Hash != hashRJenkins {
		return fmt.Errorf("proving the fence on pool %s: its object hash %d is not known, only rjenkins (%d) is", ref.Pool, pool.Hash, hashRJenkins)
	}
	if err := c.conn.Probe(ctx, ref.Pool, ref.Namespace, objectPerPlacementGroup(pool.PlacementGroups, ref.Namespace)); err != nil {
		return fmt.Errorf("proving OSD map %d on the %d placement groups of pool %s: %w", m.Epoch, pool.PlacementGroups, ref.Pool, err)
	}
	return nil
}
