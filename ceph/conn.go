package ceph

import "context"

// Conn is the port to one Ceph cluster: what is asked of librados and librbd, and nothing more. Its methods may be called
// from many goroutines, and return by the context's deadline; an error that Is ErrInDoubt says that they gave up waiting.
type Conn interface {
	// MonCommand sends one JSON command to the monitors. The error is a *CommandError if they refused it.
	MonCommand(ctx context.Context, command []byte) ([]byte, error)
	// Watchers of an image. It opens the image read-only, which adds no watcher of its own.
	Watchers(ctx context.Context, image Image) ([]Watcher, error)
	// DataPool is the pool that holds the image's data, where that is another one than the image's own; else "".
	DataPool(ctx context.Context, image Image) (string, error)
	// Probe waits until this client has the cluster's latest OSD map, and then asks for each of the objects in the pool.
	// It returns once every one is answered by the primary OSD of its placement group; that an object does not exist is
	// an answer. Nothing is written.
	Probe(ctx context.Context, pool, namespace string, objects []string) error
	// OwnAddresses are those of this client.
	OwnAddresses(ctx context.Context) ([]Address, error)
	// Close ends the connection once the calls under way have ended. It does not wait for them.
	Close()
}

// Image names an RBD image.
type Image struct {
	Pool string
	// Namespace is RADOS's, often empty.
	Namespace string
	Name      string
}

func (i Image) String() string {
	if i.Namespace == "" {
		return i.Pool + "/" + i.Name
	}
	return i.Pool + "/" + i.Namespace + "/" + i.Name
}

// Watcher is a client that has an image open for writing.
type Watcher struct {
	Address Address
	// ID of the client's session with Ceph, as in "client.4123".
	ID int64
	// Cookie tells the watches of one client apart.
	Cookie uint64
}

// Cluster is what is asked of one Ceph cluster.
type Cluster struct {
	conn Conn
}

// NewCluster asks through a connection.
func NewCluster(conn Conn) *Cluster { return &Cluster{conn: conn} }

// Watchers of an image: the clients that have it open for writing now. That there is none proves nothing: a watch ends
// 30 s after its client's last sign of life (osd_client_watch_timeout), and a client that thaws writes without one.
// The error IsNotFound if there is no such image or pool.
func (c *Cluster) Watchers(ctx context.Context, image Image) ([]Watcher, error) {
	return c.conn.Watchers(ctx, image)
}

// DataPool is the pool that holds an image's data, where that is another one than the image's own, as with an
// erasure-coded data pool; else "". A fence is proven only if Barrier was asked about it as well.
func (c *Cluster) DataPool(ctx context.Context, image Image) (string, error) {
	return c.conn.DataPool(ctx, image)
}

// OwnAddresses are those of rbd-rescue itself in this cluster.
func (c *Cluster) OwnAddresses(ctx context.Context) ([]Address, error) {
	return c.conn.OwnAddresses(ctx)
}
