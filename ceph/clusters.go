package ceph

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"time"
)

// ErrUnknownCluster says that no cluster of a clusterID is configured.
var ErrUnknownCluster = errors.New("no Ceph cluster of this clusterID is configured")

// Dial connects to one configured cluster.
type Dial func(ctx context.Context) (Conn, error)

// Clusters are the configured Ceph clusters by clusterID, connected when first needed and kept: librados reconnects by
// itself, and a warm connection is what makes a fence quick.
type Clusters struct {
	byID map[string]*lazyCluster
}

const (
	// dialTimeout bounds one dial. It is the dial's own and not a caller's: each that is given up leaves its threads and 25 MiB
	// behind until librados gives up, too.
	dialTimeout = 30 * time.Second
	// dialEvery is how soon after a dial the next one begins if it fails.
	dialEvery = 5 * time.Second
)

type lazyCluster struct {
	dial    Dial
	mirrors []netip.Addr

	lock    sync.Mutex
	cluster *Cluster
	// last is the dial that is under way, or the last one that failed; nil before the first.
	last *attempt
}

// attempt is one dial, for all who ask while it is under way.
type attempt struct {
	began time.Time
	done  chan struct{} // err is to be read after it is closed
	err   error
}

// NewClusters makes the set of configured clusters.
func NewClusters(dials map[string]Dial) *Clusters {
	c := &Clusters{byID: map[string]*lazyCluster{}}
	for id, dial := range dials {
		c.byID[id] = &lazyCluster{dial: dial}
	}
	return c
}

// SetMirrors names, before the cluster is used, hosts of rbd-mirror daemons that the cluster does not list: those of other sites
// register with their own.
func (c *Clusters) SetMirrors(clusterID string, hosts []netip.Addr) {
	if lazy, known := c.byID[clusterID]; known {
		lazy.mirrors = hosts
	}
}

// Known tells whether a cluster of this clusterID is configured.
func (c *Clusters) Known(clusterID string) bool {
	_, known := c.byID[clusterID]
	return known
}

// IDs of the configured clusters, in no order.
func (c *Clusters) IDs() []string {
	ids := make([]string, 0, len(c.byID))
	for id := range c.byID {
		ids = append(ids, id)
	}
	return ids
}

// Get gives a connected cluster. All who ask before it is connected wait for one dial, within ctx, be it under way or soon to begin.
// The error Is ErrUnknownCluster if none is configured.
func (c *Clusters) Get(ctx context.Context, clusterID string) (*Cluster, error) {
	lazy, known := c.byID[clusterID]
	if !known {
		return nil, fmt.Errorf("clusterID %q: %w", clusterID, ErrUnknownCluster)
	}
	cluster, dialling := lazy.connected(ctx)
	if cluster != nil {
		return cluster, nil
	}
	select {
	case <-dialling.done:
	case <-ctx.Done():
		return nil, fmt.Errorf("connecting to Ceph cluster %s: %w", clusterID, context.Cause(ctx))
	}
	if dialling.err != nil {
		return nil, fmt.Errorf("connecting to Ceph cluster %s: %w", clusterID, dialling.err)
	}
	cluster, _ = lazy.connected(ctx)
	return cluster, nil
}

// connected is the cluster, or the attempt to connect to it that counts now.
func (l *lazyCluster) connected(ctx context.Context) (*Cluster, *attempt) {
	l.lock.Lock()
	defer l.lock.Unlock()
	if l.cluster != nil {
		return l.cluster, l.last
	}
	begin := time.Now()
	if l.last != nil {
		select {
		case <-l.last.done:
			begin = l.last.began.Add(max(dialEvery, begin.Sub(l.last.began)))
		default:
			return nil, l.last
		}
	}
	l.last = &attempt{began: begin, done: make(chan struct{})}
	go l.connect(context.WithoutCancel(ctx), l.last)
	return nil, l.last
}

func (l *lazyCluster) connect(ctx context.Context, a *attempt) {
	defer close(a.done)
	time.Sleep(time.Until(a.began))
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	conn, err := l.dial(ctx)
	if err != nil {
		a.err = err
		return
	}
	cluster := NewCluster(conn)
	cluster.mirrors = l.mirrors
	l.lock.Lock()
	defer l.lock.Unlock()
	l.cluster = cluster
}
