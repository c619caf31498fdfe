package ceph

import (
	"context"
	"net/netip"
)

// Conn is the port to one Ceph cluster: what is asked of librados and librbd, and nothing more. Its methods may be called
// from many goroutines, and return by the context's deadline; an error that Is ErrInDoubt says that they gave up waiting.
type Conn interface {
	// MonCommand sends one JSON command to the monitors. The error is a *CommandError if they refused it.
	MonCommand(ctx context.Context, command []byte) ([]byte, error)
	// Inspect an image: who uses it, and where its data is. It opens the image read-only, which adds no watcher of its own.
	Inspect(ctx context.Context, image Image) (ImageState, error)
	// Probe waits until this client has the cluster's latest OSD map, and then asks for each of the objects in the pool.
	// It returns once every one is answered by the primary OSD of its placement group; that an object does not exist is
	// an answer. Nothing is written.
	Probe(ctx context.Context, pool, namespace string, objects []string) error
	// TryWrite asks to write to an object, on condition that it is there. That it is not is no error: the user may write there, and
	// nothing was written.
	TryWrite(ctx context.Context, pool, namespace, object string) error
	// OwnAddresses are those of this client.
	OwnAddresses(ctx context.Context) ([]Address, error)
	// Close ends the connection once the calls under way have ended. It does not wait for them.
	Close()
}

// Cluster is what is asked of one Ceph cluster.
type Cluster struct {
	conn Conn
	// mirrors are hosts of rbd-mirror daemons that the cluster itself does not list.
	mirrors []netip.Addr
}

// NewCluster asks through a connection.
func NewCluster(conn Conn) *Cluster { return &Cluster{conn: conn} }

// OwnAddresses are those of rbd-rescue itself in this cluster.
func (c *Cluster) OwnAddresses(ctx context.Context) ([]Address, error) {
	return c.conn.OwnAddresses(ctx)
}
