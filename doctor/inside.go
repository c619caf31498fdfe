package doctor

import (
	"net/netip"
	"time"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"

	"github.com/rbd-rescue/rbd-rescue/api/v1alpha1"
	"github.com/rbd-rescue/rbd-rescue/ceph"
	"github.com/rbd-rescue/rbd-rescue/volume"
)

// Inside is what the remediator's own rights and its way to Ceph show.
type Inside struct {
	// Now is the pod's clock, and APITime the API server's at that moment; zero if it did not tell.
	Now, APITime time.Time
	// Namespace is rbd-rescue's own.
	Namespace string
	Clusters  []Cluster
	Nodes     []corev1.Node
	Volumes   []Volume
	Drivers   []storagev1.CSIDriver
	Caches    []Cache
	Unread    Unread
}

// Cluster is one configured Ceph cluster.
type Cluster struct {
	// ID is the clusterID, User without "client.".
	ID, User string
	// Unreachable says why nothing could be asked; all else is zero then.
	Unreachable error
	// Epoch of the OSD map.
	Epoch uint32
	// Now is this pod's clock when Ceph told its Time; both zero where Ceph did not tell.
	Now, Time time.Time
	Rights    ceph.BlocklistRights
	// Pools that hold images of PersistentVolumes, or their data.
	Pools []Pool
	// Daemons are the hosts of Ceph's own; DaemonsError says why they are not known.
	Daemons      map[netip.Addr]ceph.Daemon
	DaemonsError error
	// MirrorsNamed tells whether mirrorHosts are configured.
	MirrorsNamed bool
}

// Pool is one pool, and RADOS namespace, as far as PersistentVolumes are in it.
type Pool struct {
	ceph.PoolRef
	// Volumes is how many there are.
	Volumes int
	// Unproven says why a fence could not be proven there now.
	Unproven error
	// Image was looked at; empty where there are only data objects. Unseen says why who uses it cannot be told.
	Image    string
	Unseen   error
	Mirrored bool
	// NoSnapshots says why no snapshot could be taken of the images there.
	NoSnapshots error
}

// Volume is one RBD PersistentVolume.
type Volume struct {
	volume.Volume
	// FormError says why its image can't be told.
	FormError error
	// Driver that serves it; empty for Kubernetes' own old one.
	Driver string
	// DataPool as ceph-csi notes it; empty for the image's own.
	DataPool string
	// ReadOnly tells whether it can only be read.
	ReadOnly bool
	// Record of its clients; RecordError says why it can't be read.
	Record      v1alpha1.ClientRecord
	RecordError error
	// Nodes that have it.
	Nodes []Use
}

// Use of a volume by one node.
type Use struct {
	Node string
	// Since when: of the newest attachment or pod.
	Since time.Time
	// Pods that run there with the volume.
	Pods []*corev1.Pod
}

// Cache is what the remediator keeps of one kind.
type Cache struct {
	Kind string
	// Live is the newest resourceVersion that the API showed, Cached the one that the remediator had been told of when it had been
	// given Waited to hear of it.
	Live, Cached uint64
	Waited       time.Duration
}

// Findings of all checks that are made inside.
func (f Inside) Findings() []Finding {
	return findings(f, f.Unread, []look[Inside]{
		{CheckCeph, reachable},
		{CheckCephCaps, blocklistCaps},
		{CheckPools, pools},
		{CheckSnapshots, snapshots},
		{CheckClusterIDs, clusterIDs},
		{CheckVolumes, shapes},
		{CheckRecords, records},
		{CheckAddresses, addresses},
		{CheckClocks, clocks},
		{CheckCaches, caches},
	})
}

func (f Inside) node(name string) *corev1.Node {
	for i := range f.Nodes {
		if f.Nodes[i].Name == name {
			return &f.Nodes[i]
		}
	}
	return nil
}

// cluster of a clusterID; nil if none is configured.
func (f Inside) cluster(id string) *Cluster {
	for i := range f.Clusters {
		if f.Clusters[i].ID == id {
			return &f.Clusters[i]
		}
	}
	return nil
}
