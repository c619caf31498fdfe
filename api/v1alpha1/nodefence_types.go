package v1alpha1

import (
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// NodeFence is one incident: a node that failed while it held RBD volumes. As long as its entries are not lifted, the
// Ceph clients of the boot that failed are cut off.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:scope=Cluster,shortName=nf
// +kubebuilder:printcolumn:name="Node",type=string,JSONPath=`.spec.nodeName`
// +kubebuilder:printcolumn:name="Phase",type=string,JSONPath=`.status.phase`
// +kubebuilder:printcolumn:name="Fenced",type=string,JSONPath=`.status.conditions[?(@.type=="Fenced")].status`
// +kubebuilder:printcolumn:name="Recovered",type=string,JSONPath=`.status.progress`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:printcolumn:name="Message",type=string,JSONPath=`.status.message`
type NodeFence struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec NodeFenceSpec `json:"spec"`
	// +optional
	Status NodeFenceStatus `json:"status,omitempty"`
}

// NodeFenceSpec names the node. It cannot be changed, but for the boot and the machine, which rbd-rescue fills in once: another
// incident is another NodeFence.
//
// +kubebuilder:validation:XValidation:rule="self.nodeName == oldSelf.nodeName && has(self.automatic) == has(oldSelf.automatic) && (!has(self.automatic) || self.automatic == oldSelf.automatic) && has(self.clients) == has(oldSelf.clients) && (!has(self.clients) || self.clients == oldSelf.clients) && has(self.reason) == has(oldSelf.reason) && (!has(self.reason) || self.reason == oldSelf.reason)",message="a NodeFence is one incident: its spec cannot be changed; make another"
// +kubebuilder:validation:XValidation:rule="(!has(oldSelf.bootID) || has(self.bootID) && self.bootID == oldSelf.bootID) && (!has(oldSelf.machineID) || has(self.machineID) && self.machineID == oldSelf.machineID) && (!has(oldSelf.systemUUID) || has(self.systemUUID) && self.systemUUID == oldSelf.systemUUID)",message="a NodeFence is one incident: its spec cannot be changed; make another"
// +kubebuilder:validation:XValidation:rule="self.nodeName.matches('^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$')",message="nodeName is the name of a Node: lower-case letters, digits, dashes and dots"
// +kubebuilder:validation:XValidation:rule="!has(self.bootID) || self.bootID.matches('^[^\\\\s]+$')",message="bootID is that of the node as it is, without blanks (kubectl get node NAME -o jsonpath={.status.nodeInfo.bootID})"
// +kubebuilder:validation:XValidation:rule="!has(self.clients) || self.clients.all(c, c.matches('^(v1:|v2:|any:)?([0-9.]+|\\\\[[0-9A-Fa-f:.]+\\\\]):[0-9]{1,5}/[0-9]{1,10}$'))",message="a client is IP:0/NONCE as rbd status prints it, with brackets around an IPv6 address: 10.0.0.5:0/42, [fd00::7]:0/42; NONCE 0 is the whole host"
// +kubebuilder:validation:XValidation:rule="!has(self.clients) || has(self.bootID)",message="clients are those of one boot: name it in bootID (kubectl get node NAME -o jsonpath={.status.nodeInfo.bootID})"
type NodeFenceSpec struct {
	// NodeName is the node to fence.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	NodeName string `json:"nodeName"`
	// Automatic is true for what rbd-rescue made by itself upon a failure: it ends if the node comes back before anything
	// was done. Another controller that makes one sets it, too. A person leaves it out: theirs fences the node, be it healthy or not.
	// +optional
	Automatic bool `json:"automatic,omitempty"`
	// BootID is the boot to fence: node.status.nodeInfo.bootID as the node last reported it; filled in if left out.
	// Only this boot's clients are fenced, and the fence is lifted once another boot of this machine is Ready (S3).
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=128
	// +optional
	BootID string `json:"bootID,omitempty"`
	// MachineID and SystemUUID are the machine that failed, as the node last reported them. Another machine that takes the
	// node's name is no proof that this one's boot is over (S3).
	// +kubebuilder:validation:MaxLength=128
	// +optional
	MachineID string `json:"machineID,omitempty"`
	// +kubebuilder:validation:MaxLength=128
	// +optional
	SystemUUID string `json:"systemUUID,omitempty"`
	// Clients are all Ceph clients of the node by the word of a person, where rbd-rescue can't tell them: "10.0.0.5:0/42" for
	// one, "10.0.0.5:0/0" for every client of a host. They are fenced besides those that are known; S2 holds for them too.
	// They are those of one boot, so that bootID must be given with them.
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=64
	// +kubebuilder:validation:items:MaxLength=80
	// +listType=set
	// +optional
	Clients []string `json:"clients,omitempty"`
	// Reason says why the node is fenced.
	// +kubebuilder:validation:MaxLength=256
	// +optional
	Reason string `json:"reason,omitempty"`
}

// NodeFencePhase is the state of the whole incident, for people; decisions are taken from the rest of the status.
// +kubebuilder:validation:Enum=Pending;Refused;Fencing;Releasing;Recovering;Recovered;Lifted;Cancelled
type NodeFencePhase string

const (
	// PhasePending: nothing was done yet.
	PhasePending NodeFencePhase = "Pending"
	// PhaseRefused: nothing can be fenced safely; conditions and events say why.
	PhaseRefused NodeFencePhase = "Refused"
	// PhaseFencing: entries are being written and proven.
	PhaseFencing NodeFencePhase = "Fencing"
	// PhaseReleasing: the fence is proven, stuck pods and attachments are being cleared.
	PhaseReleasing NodeFencePhase = "Releasing"
	// PhaseRecovering: the volumes are free, Kubernetes is attaching them elsewhere.
	PhaseRecovering NodeFencePhase = "Recovering"
	// PhaseRecovered: every volume that was wanted runs elsewhere. The node stays fenced.
	PhaseRecovered NodeFencePhase = "Recovered"
	// PhaseLifted: the boot that was cut off is over, the entries are removed.
	PhaseLifted NodeFencePhase = "Lifted"
	// PhaseCancelled: the incident ended before anything was done.
	PhaseCancelled NodeFencePhase = "Cancelled"
)

// Condition types of a NodeFence.
const (
	ConditionFenced    = "Fenced"
	ConditionReleased  = "Released"
	ConditionRecovered = "Recovered"
	ConditionLifted    = "Lifted"
)

// NodeFenceStatus is the incident so far.
type NodeFenceStatus struct {
	// +optional
	Phase NodeFencePhase `json:"phase,omitempty"`
	// Message is one sentence: what is so now, and what comes next.
	// +optional
	Message string `json:"message,omitempty"`
	// Progress is "recovered/wanted" volumes.
	// +optional
	Progress string `json:"progress,omitempty"`
	// +optional
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`
	// Clients are the blocklist entries that this incident asked for. They are stored before they are written to Ceph,
	// so that a crash leaves none that is not known here (S8).
	// +listType=map
	// +listMapKey=clusterID
	// +listMapKey=address
	// +optional
	Clients []FencedClient `json:"clients,omitempty"`
	// Volumes are the RBD volumes of opted-in namespaces that the node held.
	// +listType=map
	// +listMapKey=persistentVolume
	// +optional
	Volumes []FencedVolume `json:"volumes,omitempty"`
	// Discarded are snapshots that were asked for and do not count: they are removed as soon as they are seen, since they may show
	// another node's writes.
	// +listType=map
	// +listMapKey=image
	// +listMapKey=name
	// +optional
	Discarded []DiscardedSnapshot `json:"discarded,omitempty"`
	// Neighbours are the volumes on the node that the fence cuts off as well, and that stay where they are.
	// +listType=map
	// +listMapKey=persistentVolume
	// +optional
	Neighbours []Neighbour `json:"neighbours,omitempty"`
	// Times of the incident's steps.
	// +optional
	Times IncidentTimes `json:"times,omitzero"`
	// +listType=map
	// +listMapKey=type
	// +optional
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}

// FencedClient is one Ceph client of the node that is on the blocklist, or is about to be.
type FencedClient struct {
	// ClusterID is ceph-csi's name of the Ceph cluster.
	ClusterID string `json:"clusterID"`
	// Address is the client as the blocklist names it: IP:0/nonce; with nonce 0 every client of that host.
	Address string `json:"address"`
	// Scope is "client" for one client, "host" for all clients of an IP, which is fenced where a client of this boot may not
	// be known.
	// +optional
	Scope FenceScope `json:"scope,omitempty"`
	// Source says where the address is known from, joined by "+": record, watcher, lock, ceph-csi, node, person.
	// +optional
	Source string `json:"source,omitempty"`
	// Until is when Ceph drops the entry, whatever anybody does (S4); unset while it is not listed.
	// +optional
	Until *metav1.Time `json:"until,omitempty"`
	// Epoch is the OSD map that the fence was proven with (S1); 0 while it is not proven.
	// +optional
	Epoch int64 `json:"epoch,omitempty"`
	// Kept says that the entry was proven once, or that something was released behind it: it stays until the fence is lifted (S4).
	// Another one is written only while a volume that the node holds needs it.
	// +optional
	Kept bool `json:"kept,omitempty"`
	// Foreign says that the entry was there before rbd-rescue asked for it: it is somebody else's, and stays at the lift.
	// +optional
	Foreign bool `json:"foreign,omitempty"`
	// AskedAt is when Ceph was last asked for the entry, until that has arrived: it may for a minute yet, though no answer came.
	// +optional
	AskedAt *metav1.MicroTime `json:"askedAt,omitempty"`
	// AskedAgain says that it was asked for before that, too: when the entry is there, another ask may still be under way.
	// +optional
	AskedAgain bool `json:"askedAgain,omitempty"`
	// RemovalAskedAt is when Ceph was last asked to remove the entry: it may do so for a minute yet, though no answer came. Until
	// then the entry proves nothing, whoever asks for it (S1).
	// +optional
	RemovalAskedAt *metav1.MicroTime `json:"removalAskedAt,omitempty"`
}

// FenceScope says what one entry cuts off.
// +kubebuilder:validation:Enum=client;host
type FenceScope string

const (
	// ScopeClient: one client instance, which ends with its boot or with its last mapping.
	ScopeClient FenceScope = "client"
	// ScopeHost: every client of an IP address, whatever its boot.
	ScopeHost FenceScope = "host"
)

// Neighbour is a volume that a fence cuts off although nobody asked for it: what a node maps shares its
// clients.
type Neighbour struct {
	PersistentVolume string `json:"persistentVolume"`
	// Claim is namespace/name; empty if the PersistentVolume is not bound.
	// +optional
	Claim string `json:"claim,omitempty"`
}

// FencedVolumePhase is the state of one volume.
// +kubebuilder:validation:Enum=Held;Refused;Releasing;Released;Recovered
type FencedVolumePhase string

const (
	// VolumeHeld: the failed node holds the volume.
	VolumeHeld FencedVolumePhase = "Held"
	// VolumeRefused: the volume is not released; the reason says why.
	VolumeRefused FencedVolumePhase = "Refused"
	// VolumeReleasing: pods and attachment are being cleared.
	VolumeReleasing FencedVolumePhase = "Releasing"
	// VolumeReleased: the failed node no longer holds the volume.
	VolumeReleased FencedVolumePhase = "Released"
	// VolumeRecovered: the volume is attached elsewhere, and its pod runs.
	VolumeRecovered FencedVolumePhase = "Recovered"
)

// FencedVolume is one volume of the incident.
type FencedVolume struct {
	PersistentVolume string `json:"persistentVolume"`
	// Claim is namespace/name.
	Claim string `json:"claim"`
	// Image is pool/image or pool/namespace/image.
	// +optional
	Image string            `json:"image,omitempty"`
	Phase FencedVolumePhase `json:"phase"`
	// Reason is from the list of reasons; set where the phase needs one.
	// +optional
	Reason string `json:"reason,omitempty"`
	// Message says in a sentence what holds the volume back and what a person can do.
	// +optional
	Message string `json:"message,omitempty"`
	// Clients are the addresses through which the failed node wrote to the image; each is one of status.clients.
	// They are settled before the release and not looked for again after it: by then a watcher is the new node's (S2).
	// +optional
	Clients []string `json:"clients,omitempty"`
	// Pods are the UIDs of the pods that used the volume on the node when its clients were settled: one that is not among them may
	// have mapped the image through a client that nobody has seen (S1).
	// +optional
	Pods []types.UID `json:"pods,omitempty"`
	// Attachment is the UID of the VolumeAttachment to the node at that time: another one is for what came since.
	// +optional
	Attachment types.UID `json:"attachment,omitempty"`
	// ReadyTurnedAt is when the node's Ready condition had turned last, at that time; unset where the Node object was gone. If it has
	// turned since, the node may have come back, and mapped the image for a pod that is gone by now (S1).
	// +optional
	ReadyTurnedAt *metav1.Time `json:"readyTurnedAt,omitempty"`
	// Snapshot is the safety snapshot of the image, from the moment it is asked for.
	// +optional
	Snapshot *SafetySnapshot `json:"snapshot,omitempty"`
	// RecoveredOn is the node that has the volume now.
	// +optional
	RecoveredOn string `json:"recoveredOn,omitempty"`
	// DemandedAt is when Kubernetes wanted the volume elsewhere, as far as that can be seen.
	// +optional
	DemandedAt *metav1.MicroTime `json:"demandedAt,omitempty"`
	// +optional
	ReleasingAt *metav1.MicroTime `json:"releasingAt,omitempty"`
	// +optional
	ReleasedAt *metav1.MicroTime `json:"releasedAt,omitempty"`
	// AttachedAt is when the volume was seen attached to another node.
	// +optional
	AttachedAt *metav1.MicroTime `json:"attachedAt,omitempty"`
	// +optional
	RecoveredAt *metav1.MicroTime `json:"recoveredAt,omitempty"`
}

// SnapshotState is how far a safety snapshot is.
// +kubebuilder:validation:Enum=Pending;Taken;Failed;Removed
type SnapshotState string

const (
	// SnapshotPending: it is being taken.
	SnapshotPending SnapshotState = "Pending"
	// SnapshotTaken: it is there, and holds what the fenced node has left.
	SnapshotTaken SnapshotState = "Taken"
	// SnapshotFailed: there is none; the message says why. With policy required it is tried again.
	SnapshotFailed SnapshotState = "Failed"
	// SnapshotRemoved: it was there, and is removed.
	SnapshotRemoved SnapshotState = "Removed"
)

// SafetySnapshot is an RBD snapshot of what a fenced node has left in an image, taken before anything is released.
type SafetySnapshot struct {
	// Name of the snapshot. It tells the attachment and the clients that it is for: of others it would be another one. It is stored
	// before Ceph is asked for it, so that a crash leaves none that is not known here (S8).
	Name  string        `json:"name"`
	State SnapshotState `json:"state"`
	// ClusterID is where the image is; the PersistentVolume may be gone when the snapshot is removed.
	ClusterID string `json:"clusterID"`
	// Message says in a sentence why it failed, or was removed.
	// +optional
	Message string `json:"message,omitempty"`
	// AskedAt is when Ceph was first asked for it.
	// +optional
	AskedAt *metav1.MicroTime `json:"askedAt,omitempty"`
	// TakenAt is when it was seen to be there.
	// +optional
	TakenAt *metav1.MicroTime `json:"takenAt,omitempty"`
	// RemovedAt is when it was seen to be gone.
	// +optional
	RemovedAt *metav1.MicroTime `json:"removedAt,omitempty"`
}

// DiscardedSnapshot is one that may be there, or come yet, and does not count.
type DiscardedSnapshot struct {
	ClusterID string `json:"clusterID"`
	// Image is pool/image or pool/namespace/image.
	Image string `json:"image"`
	Name  string `json:"name"`
	// DiscardedAt is since when it does not count. Ceph may still take it for some minutes after that.
	DiscardedAt metav1.MicroTime `json:"discardedAt"`
}

// IncidentTimes are the moments of the incident's steps, as rbd-rescue saw them.
type IncidentTimes struct {
	// NotReadyAt is when the node's Ready condition turned, by Kubernetes' own account (whole seconds).
	// +optional
	NotReadyAt *metav1.MicroTime `json:"notReadyAt,omitempty"`
	// DetectedAt is when the NodeFence was first looked at.
	// +optional
	DetectedAt *metav1.MicroTime `json:"detectedAt,omitempty"`
	// FencingAt is when the first entry was asked for.
	// +optional
	FencingAt *metav1.MicroTime `json:"fencingAt,omitempty"`
	// FencedAt is when the fence was first proven.
	// +optional
	FencedAt *metav1.MicroTime `json:"fencedAt,omitempty"`
	// RecoveredAt is when the last wanted volume ran elsewhere.
	// +optional
	RecoveredAt *metav1.MicroTime `json:"recoveredAt,omitempty"`
	// OverAt is when the boot was proven to be over, since the same machine was Ready with another one: what that one does later
	// changes nothing of it (S3).
	// +optional
	OverAt *metav1.MicroTime `json:"overAt,omitempty"`
	// ClearedAt is when the node itself, in the boot that was cut off, was found to have no mapping of the fenced clients left: those
	// clients have ended for good (S3).
	// +optional
	ClearedAt *metav1.MicroTime `json:"clearedAt,omitempty"`
	// LiftedAt is when the entries were removed.
	// +optional
	LiftedAt *metav1.MicroTime `json:"liftedAt,omitempty"`
}

// NodeFenceList is a list of incidents.
//
// +kubebuilder:object:root=true
type NodeFenceList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []NodeFence `json:"items"`
}

// Active tells whether the incident may still have entries in Ceph or work to do.
func (nf *NodeFence) Active() bool {
	return nf.Status.Phase != PhaseLifted && nf.Status.Phase != PhaseCancelled
}

// HeldVolume is one entry of AnnotationHeldVolumes.
type HeldVolume struct {
	Claim  string `json:"claim"`
	Volume string `json:"volume"`
	Node   string `json:"node"`
	// Shared says that Kubernetes lets several nodes have it at once: a pod that waits for it is held back by the gate.
	Shared bool `json:"shared,omitempty"`
}

// ClientRecord is the record on a PersistentVolume: the Ceph clients last seen on its image, by node name.
type ClientRecord map[string]NodeClients

// NodeClients are the clients of one boot of one node.
type NodeClients struct {
	// NodeUID and BootID say which node object and boot the clients belong to.
	NodeUID types.UID `json:"nodeUID,omitempty"`
	BootID  string    `json:"bootID"`
	// MachineID and SystemUUID of the node, to tell its machine when the Node object is gone.
	MachineID  string `json:"machineID,omitempty"`
	SystemUUID string `json:"systemUUID,omitempty"`
	// Addresses are the IP addresses that the node reported as its own, for when the Node object is gone.
	Addresses []string `json:"addresses,omitempty"`
	// Clients are addresses as in "10.0.0.5:0/42", all that were seen in this boot, oldest first; none until its first one is.
	Clients []string `json:"clients"`
	// Before are the clients of earlier boots. Their watches outlive the boot for a while; and they tell from which address the
	// node reaches the cluster.
	Before []string `json:"before,omitempty"`
	// Replaced are those among Before whose boot nothing has ended: the last ones of another machine that had the node's name.
	Replaced []string `json:"replaced,omitempty"`
	// Pods are the UIDs of the pods that ran with the volume on the node when its clients were last looked at. A pod that is
	// not among them may have mapped the image through a client that nobody has seen.
	Pods []types.UID `json:"pods,omitempty"`
}

// Covers tells whether the clients were looked at since a pod runs with the volume.
func (c NodeClients) Covers(pod types.UID) bool { return slices.Contains(c.Pods, pod) }
