package look

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/rbd-rescue/rbd-rescue/ceph"
	"github.com/rbd-rescue/rbd-rescue/doctor"
)

const (
	// connectTimeout and askTimeout bound what is asked of one cluster; proveTimeout, one pool.
	connectTimeout, askTimeout, proveTimeout = 15 * time.Second, 15 * time.Second, 20 * time.Second
	// poolsAtOnce bounds the pools that are tried at the same time.
	poolsAtOnce = 4
)

// clusters asks all configured clusters at the same time.
func (p Pod) clusters(ctx context.Context, volumes []doctor.Volume) []doctor.Cluster {
	all := make([]doctor.Cluster, len(p.IDs))
	var group sync.WaitGroup
	for i, id := range p.IDs {
		group.Go(func() {
			var own []doctor.Volume
			for _, v := range volumes {
				if v.FormError == nil && v.ClusterID == id {
					own = append(own, v)
				}
			}
			all[i] = p.cluster(ctx, id, own)
		})
	}
	group.Wait()
	return all
}

func (p Pod) cluster(ctx context.Context, id string, volumes []doctor.Volume) doctor.Cluster {
	c := doctor.Cluster{ID: id, User: p.Users[id], Pools: poolsOf(volumes)}
	cluster, m, err := p.connect(ctx, id)
	if err != nil {
		c.Unreachable, c.Pools = err, nil
		return c
	}
	c.Epoch, c.MirrorsNamed = m.Epoch, cluster.MirrorsNamed()
	asking, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	c.Rights = cluster.TryBlocklist(asking)
	before := time.Now()
	if theirs, err := cluster.Time(asking); err == nil && !theirs.IsZero() {
		c.Time, c.Now = theirs, before
	}
	c.Daemons, c.DaemonsError = cluster.DaemonHosts(asking)

	c.Pools = eachPool(c.Pools, func(pool doctor.Pool) (doctor.Pool, string) { return provePool(ctx, cluster, m, pool) })
	return c
}

func (p Pod) connect(ctx context.Context, id string) (*ceph.Cluster, ceph.OSDMap, error) {
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	cluster, err := p.Clusters.Get(ctx, id)
	if err != nil {
		return nil, ceph.OSDMap{}, err
	}
	m, err := cluster.ReadOSDMap(ctx)
	return cluster, m, err
}

// poolsOf are the pools of volumes and of their data, with an image of each: one that is in use, if there is one.
func poolsOf(volumes []doctor.Volume) []doctor.Pool {
	pools := map[ceph.PoolRef]*doctor.Pool{}
	pool := func(ref ceph.PoolRef) *doctor.Pool {
		if pools[ref] == nil {
			pools[ref] = &doctor.Pool{PoolRef: ref}
		}
		pools[ref].Volumes++
		return pools[ref]
	}
	inUse := map[ceph.PoolRef]bool{}
	for _, v := range volumes {
		ref := ceph.PoolRef{Pool: v.Pool, Namespace: v.Namespace}
		if p := pool(ref); p.Image == "" || len(v.Nodes) > 0 && !inUse[ref] {
			p.Image, inUse[ref] = v.Image, len(v.Nodes) > 0
		}
		if v.DataPool != "" && v.DataPool != v.Pool {
			pool(ceph.PoolRef{Pool: v.DataPool, Namespace: v.Namespace})
		}
	}
	var all []doctor.Pool
	for _, ref := range slices.SortedFunc(maps.Keys(pools), func(a, b ceph.PoolRef) int {
		return cmp.Or(cmp.Compare(a.Pool, b.Pool), cmp.Compare(a.Namespace, b.Namespace))
	}) {
		all = append(all, *pools[ref])
	}
	return all
}

// eachPool tries some pools at a time. A try may tell of a data pool that no PersistentVolume names: that is tried as well.
func eachPool(pools []doctor.Pool, try func(doctor.Pool) (tried doctor.Pool, dataPool string)) []doctor.Pool {
	slots := make(chan struct{}, poolsAtOnce)
	dataPools := make([]string, len(pools))
	var group sync.WaitGroup
	for i := range pools {
		slots <- struct{}{}
		group.Go(func() {
			defer func() { <-slots }()
			pools[i], dataPools[i] = try(pools[i])
		})
	}
	group.Wait()
	var more []doctor.Pool
	for i, name := range dataPools {
		ref := ceph.PoolRef{Pool: name, Namespace: pools[i].Namespace}
		same := func(p doctor.Pool) bool { return p.PoolRef == ref }
		if name != "" && !slices.ContainsFunc(pools, same) && !slices.ContainsFunc(more, same) {
			more = append(more, doctor.Pool{PoolRef: ref, Volumes: pools[i].Volumes})
		}
	}
	if len(more) == 0 {
		return pools
	}
	return append(pools, eachPool(more, try)...)
}

// provePool proves the map that is there on each placement group of a pool, as a fence would be, and looks at one image.
func provePool(ctx context.Context, cluster *ceph.Cluster, m ceph.OSDMap, pool doctor.Pool) (tried doctor.Pool, dataPool string) {
	ctx, cancel := context.WithTimeout(ctx, proveTimeout)
	defer cancel()
	pool.Unproven = cluster.Barrier(ctx, m, []ceph.PoolRef{pool.PoolRef})
	if _, there := m.Pools[pool.Pool]; !there || pool.Image == "" {
		return pool, ""
	}
	use, err := cluster.Inspect(ctx, ceph.Image{Pool: pool.Pool, Namespace: pool.Namespace, Name: pool.Image})
	if err != nil {
		pool.Unseen = err
		return pool, ""
	}
	pool.Mirrored, pool.NoSnapshots = use.Mirrored, cluster.TrySnapshots(ctx, pool.PoolRef)
	return pool, use.DataPool
}
