package ceph

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
)

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

// ParseImage reads pool/image or pool/namespace/image.
func ParseImage(text string) (Image, error) {
	parts := strings.Split(text, "/")
	switch {
	case strings.ContainsAny(text, "@ ") || len(parts) < 2 || len(parts) > 3 || parts[0] == "" || parts[len(parts)-1] == "":
		return Image{}, fmt.Errorf("%q is not an image: write POOL/IMAGE or POOL/NAMESPACE/IMAGE", text)
	case len(parts) == 2:
		return Image{Pool: parts[0], Name: parts[1]}, nil
	default:
		return Image{Pool: parts[0], Namespace: parts[1], Name: parts[2]}, nil
	}
}

// Watcher is a client that has an image open for writing.
type Watcher struct {
	Address Address
	// ID of the client's session with Ceph, as in "client.4123".
	ID int64
	// Cookie tells the watches of one client apart.
	Cookie uint64
}

// ImageState is what an image's header says.
type ImageState struct {
	// Watchers are the clients that have it open for writing now. That there is none proves nothing: a watch ends 30 s after
	// its client's last sign of life (osd_client_watch_timeout), and a client that thaws writes without one.
	Watchers []Watcher
	// LockOwners hold the exclusive lock. It outlives the watch (facts/ceph.md), and is no fence: clients hand it on.
	LockOwners []Address
	// Metadata of the image, as `rbd image-meta list` prints it.
	Metadata map[string]string
	// DataPool is the pool that holds the image's data, where that is another one than the image's own, as with an
	// erasure-coded data pool; else "". A fence is proven only if Barrier was asked about it as well.
	DataPool string
	// Snapshots are the names of the image's snapshots.
	Snapshots []string
	// Mirrored tells whether rbd-mirror copies the image to or from another site: then a watcher may be a mirror daemon's.
	Mirrored bool
}

// ImageUse is who uses an image, and where its data is.
type ImageUse struct {
	ImageState
	// Staged are the hosts from which ceph-csi says that its nodes use the image, by the node's name.
	Staged map[string]netip.Addr
}

// Inspect tells who uses an image. The error IsNotFound if there is no such image or pool.
func (c *Cluster) Inspect(ctx context.Context, image Image) (ImageUse, error) {
	state, err := c.conn.Inspect(ctx, image)
	if err != nil {
		return ImageUse{}, err
	}
	return ImageUse{ImageState: state, Staged: stagedOn(state.Metadata)}, nil
}

// stagedOn reads what ceph-csi keeps for its own fence: under ".rbd.csi.ceph.com/clientaddress/<volume handle>/<node>"
// (before: ".rbd.csi.ceph.com/clientAddress/<node>") the IP address of the node's client, without a nonce, written when
// the volume is staged there (ceph-csi pull requests 5429 and 5828). What is no address is left out.
func stagedOn(metadata map[string]string) map[string]netip.Addr {
	staged := map[string]netip.Addr{}
	for key, value := range metadata {
		rest, ok := strings.CutPrefix(strings.ToLower(key), cephCSIClient)
		if !ok {
			continue
		}
		node := rest[strings.LastIndexByte(rest, '/')+1:]
		ip, err := netip.ParseAddr(strings.Trim(value, "[]"))
		if node != "" && err == nil && ip.Zone() == "" {
			staged[node] = ip.Unmap()
		}
	}
	return staged
}

// cephCSIClient in lower case, as node names are; ceph-csi's own spelling has changed.
const cephCSIClient = ".rbd.csi.ceph.com/clientaddress/"
