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
	// CreateSnapshot of an image; that there is one of that name is no error. An exclusive lock is taken only from one of the
	// clients that are given, which must be cut off.
	CreateSnapshot(ctx context.Context, image Image, name string, cutOff []Address) error
	// RemoveSnapshot of an image, be that in its place or in the trash; that there is none of that name is no error. The error
	// Is ErrSnapshotInUse if it is protected or has clones.
	RemoveSnapshot(ctx context.Context, image Image, name string) error
	// Probe waits until this client has the cluster's latest OSD map, and then asks for each of the objects in the pool.
	// It returns once every one is answered by the primary OSD of its placement group; that an object does not exist is
	// an answer. Nothing is written.
	Probe(ctx context.Context, pool, namespace string, objects []string) error
	// Images are the names of the images in a pool, or in a namespace of it, in no order.
	Images(ctx context.Context, pool, namespace string) ([]string, error)
	// Describe an image: what of it does not change with its use. It opens the image read-only.
	Describe(ctx context.Context, image Image) (ImageDescription, error)
	// SetMetadata of an image that exists, without opening it: there is no watcher, and the exclusive lock stays where it is.
	SetMetadata(ctx context.Context, image Image, key, value string) error
	// Clone makes an image of a snapshot of another one in the same pool, with the metadata and the features of that. If flat,
	// all data is copied, and nothing ties the two together.
	Clone(ctx context.Context, image Image, snapshot, name string, flat bool) error
	// Rollback overwrites an image with a snapshot of it. It opens the image for writing, and takes its exclusive lock.
	Rollback(ctx context.Context, image Image, snapshot string) error
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
