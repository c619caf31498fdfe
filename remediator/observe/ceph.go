package observe

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/rbd-rescue/rbd-rescue/api/v1alpha1"
	"github.com/rbd-rescue/rbd-rescue/ceph"
	"github.com/rbd-rescue/rbd-rescue/remediator/plan"
)

const (
	// readTimeout bounds each read of Ceph; a mon that is down must not hang the loop.
	readTimeout = 10 * time.Second
	// imageTimeout bounds what is asked of one image: it answers within milliseconds, or, where the placement group of its header is
	// down, not at all. The other volumes of the incident wait that long in each look.
	imageTimeout = 4 * time.Second
	// imagesTimeout bounds what is asked of all images of a cluster: with very many that hang, the proof must still have its time
	// within the rescuer's minute.
	imagesTimeout = 15 * time.Second
	// imagesAtOnce is how many images are asked at the same time.
	imagesAtOnce = 16
)

// ceph asks the Ceph clusters of the snapshot's volumes, all at once.
func (o *Observer) ceph(ctx context.Context, s *plan.Snapshot) {
	s.Clusters = map[string]plan.Cluster{}
	var ids []string
	for _, v := range s.Volumes {
		ids = append(ids, v.ClusterID)
	}
	for _, c := range s.Fence.Status.Clients {
		ids = append(ids, c.ClusterID)
	}
	slices.Sort(ids)
	var group sync.WaitGroup
	var lock sync.Mutex
	for _, id := range slices.Compact(ids) {
		group.Go(func() {
			cluster := o.cluster(ctx, id, s)
			lock.Lock()
			defer lock.Unlock()
			s.Clusters[id] = cluster
		})
	}
	group.Wait()
}

// daemons asks for the hosts of Ceph's own daemons where something may have to be fenced that is one of theirs.
func (o *Observer) daemons(ctx context.Context, s *plan.Snapshot) {
	for id, cluster := range s.Clusters {
		if cluster.Error == nil && (plan.MayFenceHost(*s, id) || plan.MayFenceElsewhere(*s, id)) {
			cluster.Daemons, cluster.DaemonsError = o.daemonHosts(ctx, id)
			s.Clusters[id] = cluster
		}
	}
}

func (o *Observer) daemonHosts(ctx context.Context, id string) (map[netip.Addr]ceph.Daemon, error) {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	conn, err := o.Clusters.Get(ctx, id)
	if err != nil {
		return nil, err
	}
	return conn.DaemonHosts(ctx)
}

// cluster reads one Ceph cluster, and who uses its images into the snapshot's volumes. Each read has a bound of its own, so that
// what hangs takes no time from what follows.
func (o *Observer) cluster(ctx context.Context, id string, s *plan.Snapshot) plan.Cluster {
	conn, c := o.open(ctx, id)
	if c.Error != nil {
		o.setUseError(id, s, c.Error)
		return c
	}
	o.use(ctx, conn, id, s)
	c.Mirrors = mirrors(ctx, conn, id, s)
	if plan.NeedsBarrier(s.Fence) && entriesListed(s.Fence, id, c.Map) {
		prove(ctx, conn, &c, id, s)
	}
	return c
}

// open connects, and reads what tells that the cluster answers: its map, and rbd-rescue's own addresses in it.
func (o *Observer) open(ctx context.Context, id string) (*ceph.Cluster, plan.Cluster) {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	known := o.Clusters.Known(id)
	conn, err := o.Clusters.Get(ctx, id)
	if err != nil {
		return nil, plan.Cluster{Known: known, Error: err}
	}
	c := plan.Cluster{Known: true}
	if c.Map, err = conn.ReadOSDMap(ctx); err != nil {
		return nil, plan.Cluster{Known: true, Error: err}
	}
	if c.Own, err = conn.OwnAddresses(ctx); err != nil {
		return nil, plan.Cluster{Known: true, Error: err}
	}
	return conn, c
}

// use asks who uses the images.
func (o *Observer) use(ctx context.Context, conn *ceph.Cluster, id string, s *plan.Snapshot) {
	_ = forEach(ctx, s, id, func(ctx context.Context, v *plan.Volume) error {
		if asked(s, v) {
			v.Use, v.UseError = inspect(ctx, conn, *v)
			v.Pools = poolsOf(*v, v.Use, v.UseError)
		}
		return nil // what went wrong is the volume's own
	})
}

// mirrors are the hosts of rbd-mirror daemons, if an image is mirrored: where they cannot be told, nor can who uses it.
func mirrors(ctx context.Context, conn *ceph.Cluster, id string, s *plan.Snapshot) map[netip.Addr]bool {
	var mirrored []*plan.Volume
	for i := range s.Volumes {
		if v := &s.Volumes[i]; v.ClusterID == id && v.Use.Mirrored {
			mirrored = append(mirrored, v)
		}
	}
	if len(mirrored) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	hosts, err := conn.MirrorHosts(ctx)
	for _, v := range mirrored {
		v.UseError = err
	}
	return hosts
}

// asked tells whether it matters who uses an image: before the fence for all that the node has, since it may cut off
// neighbours; then for those that are not on their way yet, whose clients are not settled for good, or that the node has anew.
func asked(s *plan.Snapshot, v *plan.Volume) bool {
	if len(s.Fence.Status.Clients) == 0 {
		return true
	}
	return s.Policies[v.Claim.Namespace].Mode == v1alpha1.ModeRescue && (!onItsWay(s.Fence, v.Name) || plan.HeldAnew(*s, *v))
}

func (o *Observer) setUseError(id string, s *plan.Snapshot, err error) {
	for i := range s.Volumes {
		if s.Volumes[i].ClusterID == id {
			s.Volumes[i].UseError = err
		}
	}
}

func onItsWay(nf *v1alpha1.NodeFence, name string) bool {
	return slices.ContainsFunc(nf.Status.Volumes, func(e v1alpha1.FencedVolume) bool {
		return e.PersistentVolume == name && e.Phase != v1alpha1.VolumeHeld && e.Phase != v1alpha1.VolumeRefused
	})
}

// released tells whether a volume has left the node by the incident.
func released(nf *v1alpha1.NodeFence, name string) bool {
	return slices.ContainsFunc(nf.Status.Volumes, func(e v1alpha1.FencedVolume) bool {
		return e.PersistentVolume == name && (e.Phase == v1alpha1.VolumeReleased || e.Phase == v1alpha1.VolumeRecovered)
	})
}

func entriesListed(nf *v1alpha1.NodeFence, id string, m ceph.OSDMap) bool {
	return !slices.ContainsFunc(nf.Status.Clients, func(c v1alpha1.FencedClient) bool {
		if c.ClusterID != id {
			return false
		}
		address, err := ceph.ParseAddress(c.Address)
		_, listed := m.Blocklist[address]
		return err != nil || !listed
	})
}

// prove asks every placement group that the incident's images keep their data in for the map, pool by pool: a pool that does
// not answer must not hold up volumes of another.
func prove(ctx context.Context, conn *ceph.Cluster, c *plan.Cluster, id string, s *plan.Snapshot) {
	refs, missing := pools(ctx, conn, id, s)
	if len(refs) == 0 && missing == nil {
		missing = errors.New("no image tells in which pools it is")
	}
	confirm(ctx, conn, c, refs, missing)
}

// confirm asks every placement group of pools for the cluster's map, and notes what they answer.
func confirm(ctx context.Context, conn *ceph.Cluster, c *plan.Cluster, refs []ceph.PoolRef, missing error) {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	failed := make([]error, len(refs))
	var group sync.WaitGroup
	for i, ref := range refs {
		group.Go(func() { failed[i] = conn.Barrier(ctx, c.Map, []ceph.PoolRef{ref}) })
	}
	group.Wait()
	c.Proven = map[string]uint32{}
	for i, ref := range refs {
		if failed[i] == nil {
			c.Proven[ref.Pool] = c.Map.Epoch
		}
	}
	if c.BarrierError = errors.Join(append(failed, missing)...); c.BarrierError == nil {
		c.Barrier = c.Map.Epoch
	}
}

// pools are those of the incident's images, in any one of the namespaces that are used: placement groups are the pool's. The
// data pool is asked of the image: a static PersistentVolume may not tell it.
func pools(ctx context.Context, conn *ceph.Cluster, id string, s *plan.Snapshot) ([]ceph.PoolRef, error) {
	var lock sync.Mutex
	refs := map[string]ceph.PoolRef{}
	err := forEach(ctx, s, id, func(ctx context.Context, v *plan.Volume) error {
		if !fencedFor(s.Fence, v.Name) {
			return nil
		}
		err := v.UseError
		if !asked(s, v) {
			var use ceph.ImageUse
			if use, err = inspect(ctx, conn, *v); ceph.IsNotFound(err) && released(s.Fence, v.Name) {
				use, err = ceph.ImageUse{}, nil // its new owner has removed it: there is no data left to prove it for
			}
			v.Pools = poolsOf(*v, use, err)
		}
		if err != nil {
			return fmt.Errorf("finding the data pool: %w", err)
		}
		lock.Lock()
		defer lock.Unlock()
		for _, pool := range v.Pools {
			refs[pool] = ceph.PoolRef{Pool: pool, Namespace: v.Namespace}
		}
		return nil
	})
	return slices.Collect(maps.Values(refs)), err
}

// poolsOf are the pools that an image keeps its data in, as it says itself; nil if it did not.
func poolsOf(v plan.Volume, use ceph.ImageUse, err error) []string {
	switch {
	case err != nil:
		return nil
	case use.DataPool == "" || use.DataPool == v.Pool:
		return []string{v.Pool}
	default:
		return []string{v.Pool, use.DataPool}
	}
}

// fencedFor tells whether the incident has settled clients for a volume.
func fencedFor(nf *v1alpha1.NodeFence, name string) bool {
	return slices.ContainsFunc(nf.Status.Volumes, func(e v1alpha1.FencedVolume) bool {
		return e.PersistentVolume == name && len(e.Clients) > 0
	})
}

// forEach calls do for each volume of known form in a cluster, some at once, and joins what went wrong.
func forEach(ctx context.Context, s *plan.Snapshot, id string, do func(context.Context, *plan.Volume) error) error {
	ctx, cancel := context.WithTimeout(ctx, imagesTimeout)
	defer cancel()
	slots := make(chan struct{}, imagesAtOnce)
	failed := make([]error, len(s.Volumes))
	var group sync.WaitGroup
	for i := range s.Volumes {
		v := &s.Volumes[i]
		if v.ClusterID != id || v.FormError != nil {
			continue
		}
		slots <- struct{}{}
		group.Go(func() {
			defer func() { <-slots }()
			failed[i] = do(ctx, v)
		})
	}
	group.Wait()
	return errors.Join(failed...)
}

// inspect asks who uses an image, and where its data is.
func inspect(ctx context.Context, conn *ceph.Cluster, v plan.Volume) (ceph.ImageUse, error) {
	ctx, cancel := context.WithTimeout(ctx, imageTimeout)
	defer cancel()
	return conn.Inspect(ctx, ceph.Image{Pool: v.Pool, Namespace: v.Namespace, Name: v.Image})
}
