package ceph

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"
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

type lazyCluster struct {
	dial    Dial
	mirrors []netip.Addr
	// dialling holds the one token that allows to dial; a caller whose deadline passes does not wait for it.
	dialling chan struct{}

	lock    sync.Mutex
	cluster *Cluster
}

// NewClusters makes the set of configured clusters.
func NewClusters(dials map[string]Dial) *Clusters {
	c := &Clusters{byID: map[string]*lazyCluster{}}
	for id, dial := range dials {
		c.byID[id] = &lazyCluster{dial: dial, dialling: make(chan struct{}, 1)}
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

// Get gives a connected cluster. The error Is ErrUnknownCluster if none is configured.
func (c *Clusters) Get(ctx context.Context, clusterID string) (*Cluster, error) {
	lazy, known := c.byID[clusterID]
	if !known {
		return nil, fmt.Errorf("clusterID %q: %w", clusterID, ErrUnknownCluster)
	}
	if cluster := lazy.connected(); cluster != nil {
		return cluster, nil
	}
	select {
	case lazy.dialling <- struct{}{}:
		defer func() { <-lazy.dialling }()
	case <-ctx.Done():
		return nil, fmt.Errorf("connecting to Ceph cluster %s: %w", clusterID, context.Cause(ctx))
	}
	if cluster := lazy.connected(); cluster != nil {
		return cluster, nil
	}
	conn, err := lazy.dial(ctx)
	if err != nil {
		return nil, fmt.Errorf("connecting to Ceph cluster %s: %w", clusterID, err)
	}
	lazy.lock.Lock()
	defer lazy.lock.Unlock()
	lazy.cluster = NewCluster(conn)
	lazy.cluster.mirrors = lazy.mirrors
	return lazy.cluster, nil
}

func (l *lazyCluster) connected() *Cluster {
	l.lock.Lock()
	defer l.lock.Unlock()
	return l.cluster
}
