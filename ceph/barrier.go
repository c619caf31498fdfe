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
// the clients that m's blocklist holds. It needs no rights but to read the pools. The pools must be all that the fenced
// clients can write to and somebody else is to use: of an image, its own and its DataPool.
//
// It asks for one object in each placement group, after this client has a map as new as m: an operation carries its
// client's epoch, and a placement group keeps it back until it has that map itself. The blocklist is checked against the
// placement group's own map, so that this is a closer proof than an OSD's newest map, for which the right to `tell` the
// OSDs would be needed. What was accepted before is ordered before whatever comes after. Reasons and limits:
// docs/decisions/0001-osd-map-barrier.md.
//
// A placement group that does not answer, because its OSD hangs or it is inactive, holds the barrier up to the context's
// deadline; the fence is then not proven. With any error nothing is proven of any of the pools.
func (c *Cluster) Barrier(ctx context.Context, m OSDMap, pools []PoolRef) error {
	if m.Epoch == 0 || len(pools) == 0 {
		return errors.New("proving the fence: there is no OSD map or no pool to prove it of")
	}
	refs := onePerPool(pools)
	failed := make([]error, len(refs))
	var group sync.WaitGroup
	for i, ref := range refs {
		group.Go(func() { failed[i] = c.barrier(ctx, m, ref) })
	}
	group.Wait()
	return errors.Join(failed...)
}

// onePerPool keeps the first namespace of each pool: placement groups are the pool's, whatever the namespace.
func onePerPool(pools []PoolRef) []PoolRef {
	var refs []PoolRef
	seen := map[string]bool{}
	for _, ref := range pools {
		if !seen[ref.Pool] {
			seen[ref.Pool] = true
			refs = append(refs, ref)
		}
	}
	return refs
}

func (c *Cluster) barrier(ctx context.Context, m OSDMap, ref PoolRef) error {
	pool, ok := m.Pools[ref.Pool]
	switch {
	case !ok:
		return fmt.Errorf("proving the fence on pool %s: OSD map %d has no such pool", ref.Pool, m.Epoch)
	case pool.Hash != hashRJenkins:
		return fmt.Errorf("proving the fence on pool %s: its object hash %d is not known, only rjenkins (%d) is", ref.Pool, pool.Hash, hashRJenkins)
	case pool.Tiered:
		return fmt.Errorf("proving the fence on pool %s: its operations go through a cache tier, which may write for a client that is cut off", ref.Pool)
	}
	objects, err := ObjectPerPlacementGroup(pool.PlacementGroups, ref.Namespace)
	if err != nil {
		return fmt.Errorf("proving the fence on pool %s: %w", ref.Pool, err)
	}
	if err := c.conn.Probe(ctx, ref.Pool, ref.Namespace, objects); err != nil {
		return fmt.Errorf("proving OSD map %d on the %d placement groups of pool %s: %w", m.Epoch, pool.PlacementGroups, ref.Pool, err)
	}
	return nil
}
