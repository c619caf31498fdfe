package v1alpha1

// Reasons of events and conditions, one list for both. Every reason that asks a person to act is a Warning.
const (
	// ReasonVolumeHeld (Pod): a pod waits for a volume that a failed node still holds.
	ReasonVolumeHeld = "VolumeHeld"
	// ReasonGateClosed (Pod): its gate stays; the note says why, and how a person may open it.
	ReasonGateClosed = "GateClosed"
	// ReasonGateOpened (Pod): nothing holds the pod back any more, it may be scheduled; the note says why.
	ReasonGateOpened = "GateOpened"
	// ReasonFenceStarted (Node, NodeFence): the clients of a failed node are being put on the blocklist.
	ReasonFenceStarted = "FenceStarted"
	// ReasonFenceCancelled (Node, NodeFence): the node came back, or a person deleted it, before anything was done.
	ReasonFenceCancelled = "FenceCancelled"
	// ReasonNodeFenced (Node, NodeFence): the fence is proven on every placement group that serves the volumes (S1).
	ReasonNodeFenced = "NodeFenced"
	// ReasonFenceRefused (Node, NodeFence): no volume of the node can be fenced safely; the note says why.
	ReasonFenceRefused = "FenceRefused"
	// ReasonVolumeRefused (PersistentVolumeClaim, NodeFence): one volume is not released; the note says why.
	ReasonVolumeRefused = "VolumeRefused"
	// ReasonCephUnreachable (Node, NodeFence): Ceph does not answer; nothing is released, and it is tried again.
	ReasonCephUnreachable = "CephUnreachable"
	// ReasonStepFailed (NodeFence): a step was refused by Ceph or by the API; it is tried again.
	ReasonStepFailed = "StepFailed"
	// ReasonFenceUnproven (NodeFence): the entries are listed, but an OSD has not yet confirmed them; also (Node, NodeFence): one
	// that somebody else wrote ends too soon to be relied on.
	ReasonFenceUnproven = "FenceUnproven"
	// ReasonSnapshotTaken (PersistentVolumeClaim, NodeFence): there is a safety snapshot of what the fenced node has left.
	ReasonSnapshotTaken = "SnapshotTaken"
	// ReasonSnapshotFailed (PersistentVolumeClaim, NodeFence): there is none; the note says why, and whether the volume is held for it.
	ReasonSnapshotFailed = "SnapshotFailed"
	// ReasonSnapshotRemoved (NodeFence): a safety snapshot is removed; the note says why.
	ReasonSnapshotRemoved = "SnapshotRemoved"
	// ReasonSnapshotKept (NodeFence): a safety snapshot that should be removed stays; the note says why.
	ReasonSnapshotKept = "SnapshotKept"
	// ReasonPodForceDeleted (Pod, NodeFence): a stuck pod of the fenced node was deleted with no grace period.
	ReasonPodForceDeleted = "PodForceDeleted"
	// ReasonPodDeleted (Pod, NodeFence): a pod of a node that a person had fenced was asked to go.
	ReasonPodDeleted = "PodDeleted"
	// ReasonVolumeReleased (PersistentVolumeClaim, NodeFence, and each Pod that waits for it): the fenced node no longer holds the volume.
	ReasonVolumeReleased = "VolumeReleased"
	// ReasonVolumeRecovered (PersistentVolumeClaim, NodeFence): the volume is attached elsewhere and its pod runs.
	ReasonVolumeRecovered = "VolumeRecovered"
	// ReasonFenceRenewed (NodeFence): entries that were gone are written again (S4).
	ReasonFenceRenewed = "FenceRenewed"
	// ReasonNodeStillFenced (Node, NodeFence): the node is Ready again with the boot that was cut off; it stays fenced (S3).
	ReasonNodeStillFenced = "NodeStillFenced"
	// ReasonFenceLifted (Node, NodeFence): the old boot is over, the entries are removed, the node may hold volumes again.
	ReasonFenceLifted = "FenceLifted"
	// ReasonBreakerOpen (Node, NodeFence): more nodes failed at once than machines die; nothing new is fenced (S7).
	ReasonBreakerOpen = "BreakerOpen"
)

// ReasonFencedAddressTaken (NodeFence, Node): another node reports an address that is cut off as a whole.
const ReasonFencedAddressTaken = "FencedAddressTaken"

// ReasonEntryLeft (NodeFence, Node): a fence is lifted, and an entry that is somebody else's stays on the blocklist.
const ReasonEntryLeft = "EntryLeft"

// ReasonMovedUnfenced (PersistentVolumeClaim, NodeFence): Kubernetes has moved a volume, and the node that failed with it cannot be cut off.
const ReasonMovedUnfenced = "MovedUnfenced"

// ReasonUnknownEntries (Namespace of rbd-rescue): the blocklist has long-lived entries that no NodeFence lists.
const ReasonUnknownEntries = "UnknownEntries"

// ReasonManifestsNotKept (Namespace of rbd-rescue, PersistentVolumeClaim): manifests can't be kept with the image; the note says why.
const ReasonManifestsNotKept = "ManifestsNotKept"

// Reasons that came with a person's word or a person's wish.
const (
	// ReasonPaused (Node, NodeFence): somebody asked that nothing new is fenced.
	ReasonPaused = "Paused"
	// ReasonFenceOverridden (Node, NodeFence): a fence is lifted by a person's word; the note says what that risks.
	ReasonFenceOverridden = "FenceOverridden"
	// ReasonNeighboursCutOff (NodeFence, Node): the fence also cuts off volumes that nobody asked for.
	ReasonNeighboursCutOff = "NeighboursCutOff"
)

// Reasons of refusals and of waiting, in the status of a volume and in conditions.
const (
	// ReasonClientUnknown: nothing says which Ceph client of this boot writes to the image, nor from which address.
	ReasonClientUnknown = "ClientUnknown"
	// ReasonForeignClient: the image is also watched by a client that is not proven to be the failed node's (S2).
	ReasonForeignClient = "ForeignClient"
	// ReasonHealthyClient: the client's address is recorded for, or belongs to, another node or a pod there (S2).
	ReasonHealthyClient = "HealthyClient"
	// ReasonOwnClient: the client's address is rbd-rescue's own (S2).
	ReasonOwnClient = "OwnClient"
	// ReasonSharedAddress: a whole host would have to be fenced, and its address is not this node's alone (S2).
	ReasonSharedAddress = "SharedAddress"
	// ReasonCephDaemonHost: a whole host would have to be fenced, and daemons of Ceph live on it (S2).
	ReasonCephDaemonHost = "CephDaemonHost"
	// ReasonSharedClient: the client also serves volumes that nobody wants elsewhere, and the policy is to refuse then.
	ReasonSharedClient = "SharedClient"
	// ReasonUnknownShape: the PersistentVolume is RBD's, but not of a form that rbd-rescue can read.
	ReasonUnknownShape = "UnknownShape"
	// ReasonUnknownCluster: no Ceph cluster of this clusterID is configured.
	ReasonUnknownCluster = "UnknownCluster"
	// ReasonSharedVolume: Kubernetes would let two nodes attach the volume at once, and not as a ReadWriteMany volume, whose
	// pods can be gated.
	ReasonSharedVolume = "SharedVolume"
	// ReasonUnfencedStorage: a pod that would be force-deleted also writes to storage that cannot be fenced here (S6).
	ReasonUnfencedStorage = "UnfencedStorage"
	// ReasonBarePod: a pod that would be force-deleted has no controller that would make it again.
	ReasonBarePod = "BarePod"
	// ReasonNoDemand: Kubernetes has not decided to move the pods that use the volume.
	ReasonNoDemand = "NoDemand"
	// ReasonWaiting: the step before this one is not done yet.
	ReasonWaiting = "Waiting"
)
