package cephtest

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"k8s.io/utils/clock"

	"github.com/rbd-rescue/rbd-rescue/ceph"
)

// Own is the address of the connection itself.
var Own = ceph.MustParseAddress("10.0.0.100:0/1")

// Cluster is one Ceph cluster in memory.
type Cluster struct {
	// Clock says when entries expire.
	Clock clock.PassiveClock
	// Old makes the cluster know only the word "blacklist", as Ceph before 16.
	Old bool
	// Hang makes a probe of a placement group that lags wait until it lags no more or the context ends, as with real
	// OSDs; otherwise it fails at once, in doubt.
	Hang bool

	lock      sync.Mutex
	epoch     uint32
	pools     map[string]*pool
	blocklist map[ceph.Address]time.Time
	watchers  map[ceph.Image][]ceph.Address
	gone      map[ceph.Image]bool
	hung      map[ceph.Image]bool
	dataPools map[ceph.Image]string
	mirrored  map[ceph.Image]bool
	mirrors   []string
	locks     map[ceph.Image]ceph.Address
	metadata  map[ceph.Image]map[string]string
	images    map[ceph.Image]ceph.ImageDescription
	// rolledBack has the snapshot that an image was last overwritten with.
	rolledBack map[ceph.Image]string
	snapshots  map[ceph.Image][]string
	// inUse are snapshots that are protected or have clones.
	inUse    map[string]bool
	daemons  []string
	manager  string
	fsid     string
	calls    []string
	fail     func(call string) error
	failNext map[string][]error
	// changed is closed, and made anew, when a placement group catches up, or an image hangs no more.
	changed chan struct{}
}

type pool struct {
	id              int
	placementGroups uint32
	tiered          bool
	lagging         map[uint32]bool
}

// New makes a cluster with one pool, "rbd", of 8 placement groups.
func New(clock clock.PassiveClock) *Cluster {
	c := &Cluster{
		Clock: clock, epoch: 10, pools: map[string]*pool{}, blocklist: map[ceph.Address]time.Time{}, watchers: map[ceph.Image][]ceph.Address{},
		gone: map[ceph.Image]bool{}, hung: map[ceph.Image]bool{}, dataPools: map[ceph.Image]string{}, mirrored: map[ceph.Image]bool{},
		locks: map[ceph.Image]ceph.Address{}, metadata: map[ceph.Image]map[string]string{}, snapshots: map[ceph.Image][]string{}, inUse: map[string]bool{},
		images: map[ceph.Image]ceph.ImageDescription{}, rolledBack: map[ceph.Image]string{},
		daemons: []string{"10.0.0.101:6789/0"}, fsid: "f51d", failNext: map[string][]error{}, changed: make(chan struct{}),
	}
	c.AddPool("rbd", 8)
	return c
}

// AddPool makes a pool.
func (c *Cluster) AddPool(name string, placementGroups uint32) {
	c.lock.Lock()
	defer c.lock.Unlock()
	c.epoch++
	c.pools[name] = &pool{id: len(c.pools) + 1, placementGroups: placementGroups, lagging: map[uint32]bool{}}
}

// AddTier lays a cache tier over a pool.
func (c *Cluster) AddTier(name string) {
	c.lock.Lock()
	defer c.lock.Unlock()
	c.epoch++
	c.pools[name].tiered = true
}

// Watch makes clients watch an image.
func (c *Cluster) Watch(image ceph.Image, clients ...string) {
	c.lock.Lock()
	defer c.lock.Unlock()
	c.watchers[image] = nil
	for _, text := range clients {
		c.watchers[image] = append(c.watchers[image], ceph.MustParseAddress(text))
	}
}

// RemoveImage makes an image not found.
func (c *Cluster) RemoveImage(image ceph.Image) {
	c.lock.Lock()
	defer c.lock.Unlock()
	c.gone[image] = true
}

// HangImage makes whoever inspects an image wait until it hangs no more or the context ends, as where the placement group of
// its header is down.
func (c *Cluster) HangImage(image ceph.Image, is bool) {
	c.lock.Lock()
	defer c.lock.Unlock()
	c.hung[image] = is
	c.wake()
}

// SetDataPool makes an image keep its data in another pool.
func (c *Cluster) SetDataPool(image ceph.Image, pool string) {
	c.lock.Lock()
	defer c.lock.Unlock()
	c.dataPools[image] = pool
}

// Mirror makes rbd-mirror copy an image; the daemons of this cluster's own site live at these addresses, as in "10.0.0.6:0/77".
func (c *Cluster) Mirror(image ceph.Image, daemons ...string) {
	c.lock.Lock()
	defer c.lock.Unlock()
	c.mirrored[image], c.mirrors = true, daemons
}

// Lock gives the exclusive lock of an image to a client; its watch may end, the lock stays.
func (c *Cluster) Lock(image ceph.Image, client string) {
	c.lock.Lock()
	defer c.lock.Unlock()
	c.locks[image] = ceph.MustParseAddress(client)
}

// Snapshots are the names of an image's snapshots.
func (c *Cluster) Snapshots(image ceph.Image) []string {
	c.lock.Lock()
	defer c.lock.Unlock()
	return slices.Clone(c.snapshots[image])
}

// AddSnapshot makes one as somebody else would, or as a call whose caller has given up.
func (c *Cluster) AddSnapshot(image ceph.Image, name string) {
	c.lock.Lock()
	defer c.lock.Unlock()
	c.snapshots[image] = append(c.snapshots[image], name)
}

// UseSnapshot protects every snapshot of that name, or lets it go.
func (c *Cluster) UseSnapshot(name string, is bool) {
	c.lock.Lock()
	defer c.lock.Unlock()
	c.inUse[name] = is
}

// SetDaemons says at which addresses the cluster's monitors live, as in "10.0.0.5:6789/0".
func (c *Cluster) SetDaemons(addresses ...string) {
	c.lock.Lock()
	defer c.lock.Unlock()
	c.daemons = addresses
}

// SetManager says at which address the cluster's manager lives, as in "10.0.0.5:6800/7"; without it it has none.
func (c *Cluster) SetManager(address string) {
	c.lock.Lock()
	defer c.lock.Unlock()
	c.manager = address
}

// SetFSID tells this cluster from another.
func (c *Cluster) SetFSID(fsid string) {
	c.lock.Lock()
	defer c.lock.Unlock()
	c.fsid = fsid
}

// FailWith is asked before each call; its error is the call's. nil for none. The call is named by its command's prefix,
// or "inspect", "probe", "own addresses", "create snapshot", "remove snapshot". It must not use the cluster.
func (c *Cluster) FailWith(fail func(call string) error) {
	c.lock.Lock()
	defer c.lock.Unlock()
	c.fail = fail
}

// FailNext gives the next call of that name an error; several are used up one after the other.
func (c *Cluster) FailNext(call string, err error) {
	c.lock.Lock()
	defer c.lock.Unlock()
	c.failNext[call] = append(c.failNext[call], err)
}

// Lag makes every placement group stay behind the latest map, or catch up: while they lag, probes are not answered.
func (c *Cluster) Lag(is bool) {
	c.lock.Lock()
	defer c.lock.Unlock()
	for _, p := range c.pools {
		for pg := range p.placementGroups {
			p.lagging[pg] = is
		}
	}
	c.wake()
}

// LagPlacementGroup makes one placement group of a pool stay behind, or catch up.
func (c *Cluster) LagPlacementGroup(pool string, placementGroup uint32, is bool) {
	c.lock.Lock()
	defer c.lock.Unlock()
	c.pools[pool].lagging[placementGroup] = is
	c.wake()
}

func (c *Cluster) wake() {
	close(c.changed)
	c.changed = make(chan struct{})
}

// wait lets the lock go until something has changed, or gives the end of the context.
func (c *Cluster) wait(ctx context.Context) error {
	changed := c.changed
	c.lock.Unlock()
	defer c.lock.Lock()
	select {
	case <-changed:
	case <-ctx.Done():
	}
	if ctx.Err() != nil {
		return fmt.Errorf("%w (%w)", ceph.ErrInDoubt, context.Cause(ctx))
	}
	return nil
}

func (p *pool) firstLagging(namespace string, objects []string) (uint32, bool) {
	for _, object := range objects {
		if pg := ceph.PlacementGroup(object, namespace, p.placementGroups); p.lagging[pg] {
			return pg, true
		}
	}
	return 0, false
}

// Blocklist are the clients that are cut off now, sorted.
func (c *Cluster) Blocklist() []string {
	c.lock.Lock()
	defer c.lock.Unlock()
	c.expire()
	var clients []string
	for client := range c.blocklist {
		clients = append(clients, client.String())
	}
	slices.Sort(clients)
	return clients
}

// Until is when a client may write again: the end of its own entry or of its host's, whichever is later; zero if it may now.
func (c *Cluster) Until(client ceph.Address) time.Time {
	c.lock.Lock()
	defer c.lock.Unlock()
	c.expire()
	until := c.blocklist[client]
	if host := c.blocklist[client.Host()]; host.After(until) {
		until = host
	}
	return until
}

// Tamper changes an entry as an administrator would by hand; a time that has come removes it.
func (c *Cluster) Tamper(client ceph.Address, until time.Time) {
	c.lock.Lock()
	defer c.lock.Unlock()
	c.blocklist[client] = until
	c.epoch++
	c.expire()
}

// Epoch of the latest OSD map.
func (c *Cluster) Epoch() uint32 {
	c.lock.Lock()
	defer c.lock.Unlock()
	c.expire()
	return c.epoch
}

// Calls are the names of all calls so far.
func (c *Cluster) Calls() []string {
	c.lock.Lock()
	defer c.lock.Unlock()
	return slices.Clone(c.calls)
}

// cutOff asks for the client's own entry and its host's, as OSDs do.
func (c *Cluster) cutOff(client ceph.Address) bool {
	c.expire()
	_, listed := c.blocklist[client]
	_, host := c.blocklist[client.Host()]
	return listed || host
}

// expire drops the entries whose end has come, in a new map, as the monitors do.
func (c *Cluster) expire() {
	before := len(c.blocklist)
	for client, until := range c.blocklist {
		if !until.After(c.Clock.Now()) {
			delete(c.blocklist, client)
		}
	}
	if len(c.blocklist) < before {
		c.epoch++
	}
}
