package ceph

import "context"

// Conn is the port to one Ceph cluster: what is asked of librados and librbd, and nothing more. Its methods may be called
// from many goroutines, and return by the context's deadline; an error that Is ErrInDoubt says that they gave up waiting.
type Conn interface {
	// MonCommand sends one JSON command to the monitors. The error is a *CommandError if they refused it.
	MonCommand(ctx context.Context, command []byte) ([]byte, error)
	// Watchers of an image. It opens the image read-only, which adds no watcher of its own.
	Watchers(ctx context.Context, image Image) ([]Watcher, error)
	// Probe waits until this client has the cluster's latest OSD map, and then asks for each of the objects in the pool.
	// It returns once every one is answered; that an object does not exist is an answer.
	Probe(ctx context.Context, pool, namespace string, objects []string) error
	// OwnAddresses are those of this client.
	OwnAddresses(ctx context.Context) ([]Address, error)
	// Close ends the connection.
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
}

// Cluster is what is asked of one Ceph cluster.
type Cluster struct {
	conn Conn
}

// NewCluster asks through a connection.
func NewCluster(conn Conn) *Cluster { return &Cluster{conn: conn} }

// Watchers of an image: the clients that have it open for writing now. That there is none proves nothing: a watch ends
// 30 s after its client's last sign of life, and a client that thaws writes without one (facts/krbd.md).
func (c *Cluster) Watchers(ctx context.Context, image Image) ([]Watcher, error) {
	return c.conn.Watchers(ctx, image)
}

// OwnAddresses are those of rbd-rescue itself in this cluster.
func (c *Cluster) OwnAddresses(ctx context.Context) ([]Address, error) {
	return c.conn.OwnAddresses(ctx)
}
