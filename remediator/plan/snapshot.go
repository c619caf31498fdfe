package plan

import (
	"net/netip"
	"time"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/rbd-rescue/rbd-rescue/api/v1alpha1"
	"github.com/rbd-rescue/rbd-rescue/ceph"
	"github.com/rbd-rescue/rbd-rescue/volume"
)

// Snapshot is everything that a decision about one node is taken from, read at one time. Objects in it are shared with
// the informer cache: they are read, never changed.
type Snapshot struct {
	Now time.Time
	// NodeName is the node that the decision is about, be there such a node or not.
	NodeName string
	// Fence is the node's NodeFence; nil in Detect while there is none.
	Fence *v1alpha1.NodeFence
	// Node is nil when the API has no such node any more.
	Node *corev1.Node
	// Pods are all pods bound to the node.
	Pods []*corev1.Pod
	// Volumes are the RBD volumes that are attached to the node, that the node says it uses, or that the NodeFence lists.
	Volumes []Volume
	// Policies of the namespaces of these pods and claims. A namespace whose annotations mean nothing has the zero policy.
	Policies map[string]v1alpha1.Policy
	// UnfencedClaims are the claims of the node's pods whose storage can be written to and cannot be fenced here, with
	// what they are (S6).
	UnfencedClaims map[types.NamespacedName]string
	// OtherNodes are the addresses that other nodes report as their own.
	OtherNodes map[netip.Addr]string
	// OtherClients are the clients that a record names for the current boot of another node, on the addresses that a decision may come to.
	OtherClients map[ceph.Address]string
	// Clusters by clusterID; only clusters that Volumes or the NodeFence name. Not filled for Detect.
	Clusters map[string]Cluster
	// OtherHosts are those addresses on which there is one.
	OtherHosts map[netip.Addr]string
	// OtherPods are the IP addresses, none of them a node's, of pods that live on other nodes: a CSI provisioner opens images itself, to
	// take a snapshot or for a resize.
	OtherPods map[netip.Addr]string
	// NodeAddressed are the clusters, by clusterID, whose recorded clients all lie on an address that their node reports: only
	// there an unknown client of a node can be taken to lie on one of its addresses, too.
	NodeAddressed map[string]bool
	// Unlocated are, by clusterID, other nodes of which nothing tells from which address they reach the cluster; filled where a
	// whole host may have to be fenced.
	Unlocated map[string]Unlocated
	// OtherFences are the other active NodeFences: what they ask for is not this one's to remove.
	OtherFences []*v1alpha1.NodeFence
	// Health of all nodes, for the breaker.
	Health Health
	// Paused says who asked that nothing new is fenced; empty for nobody.
	Paused   string
	Settings Settings
}

// Volume is one RBD volume and who has to do with it.
type Volume struct {
	volume.Volume
	// FormError says why the PersistentVolume's image cannot be told; nil if it can.
	FormError error
	// Attachments of the volume, to any node.
	Attachments []*storagev1.VolumeAttachment
	// Users are the pods that name the claim, on any node or on none.
	Users []*corev1.Pod
	// Record are the clients recorded for the failed node; nil if there is no record.
	Record *v1alpha1.NodeClients
	// RecordError says why the record cannot be read.
	RecordError error
	// Use is what Ceph says about who uses the image now. Not filled for Detect.
	Use ceph.ImageUse
	// UseError says why Ceph did not tell.
	UseError error
	// AttachedAfter is the VolumeAttachment to the node by the API's own word, read after Use was; empty for none. It is read where Use
	// shows the safety snapshot that was asked for.
	AttachedAfter types.UID
	// SnapshotTried is how the last ask for the safety snapshot went, as far as this process knows.
	SnapshotTried SnapshotAttempt
	// Pools hold the image's data, as the image itself said in this look; nil if it did not. A static PersistentVolume may not
	// tell its data pool.
	Pools []string
}

// SnapshotAttempt is one ask for a safety snapshot; the zero value is none.
type SnapshotAttempt struct {
	Name string
	At   time.Time
	// Err says why there was no answer, or which; nil if it was taken.
	Err error
}

// Unlocated names one node of each kind; empty for none.
type Unlocated struct {
	// Node is any other node.
	Node string
	// WithVolumes is one that volumes of the cluster are attached to.
	WithVolumes string
}

// Cluster is what one Ceph cluster says.
type Cluster struct {
	// Known is false when no cluster of this clusterID is configured.
	Known bool
	// Error says why Ceph could not be read; the rest is then zero.
	Error error
	Map   ceph.OSDMap
	// Own are rbd-rescue's own addresses in this cluster.
	Own []ceph.Address
	// Mirrors are the hosts of rbd-mirror daemons, of this site and of others; read only where an image is mirrored.
	Mirrors map[netip.Addr]bool
	// Barrier is the epoch that every placement group of all pools that were asked is proven to have reached; 0 if none.
	Barrier uint32
	// Proven is the epoch that every placement group of a pool is proven, in this look, to have reached. A pool that is not
	// there was not asked, or did not answer.
	Proven map[string]uint32
	// BarrierError says which proof is missing.
	BarrierError error
	// Daemons are the hosts of the cluster's own daemons; read only where a whole host may have to be fenced, or a client that is
	// not on the node's own address.
	Daemons map[netip.Addr]ceph.Daemon
	// DaemonsError says why they could not be read.
	DaemonsError error
}
