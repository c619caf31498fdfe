package v1alpha1

// AnnotationPrefix begins every annotation of rbd-rescue.
const AnnotationPrefix = "rbd-rescue.io/"

// NamespaceAnnotations are all that a user may write on a Namespace.
var NamespaceAnnotations = []string{AnnotationMode, AnnotationAllow, AnnotationFailoverAfter, AnnotationSnapshot}

// What a user writes on a Namespace.
const (
	// AnnotationMode opts a namespace in: see Mode.
	AnnotationMode = "rbd-rescue.io/mode"
	// AnnotationAllow lets pods be force-deleted that are else refused: see Policy.
	AnnotationAllow = "rbd-rescue.io/allow"
	// AnnotationFailoverAfter says after which time new pods leave a node that is not Ready: see Policy.
	AnnotationFailoverAfter = "rbd-rescue.io/failover-after"
	// AnnotationSnapshot says whether a volume is released without a safety snapshot of it: see SnapshotPolicy.
	AnnotationSnapshot = "rbd-rescue.io/snapshot"
)

// What an administrator of the cluster writes.
const (
	// AnnotationPaused on the Namespace of rbd-rescue, or on a Node, with the value "true": nothing new is fenced, there or
	// of that node. What was begun is finished.
	AnnotationPaused = "rbd-rescue.io/paused"
	// AnnotationPausedBy and AnnotationPausedReason say who paused it and why, for people.
	AnnotationPausedBy     = "rbd-rescue.io/paused-by"
	AnnotationPausedReason = "rbd-rescue.io/paused-reason"
	// AnnotationLift on a NodeFence, with its bootID as the value: lift it on this person's word that the boot is over (S3).
	AnnotationLift = "rbd-rescue.io/lift"
	// AnnotationLiftReason says why the person lifts it, for people.
	AnnotationLiftReason = "rbd-rescue.io/lift-reason"
)

// AnnotationCleared on a NodeFence is the node's own word on which mappings of the clients that are cut off it has left: JSON, a Cleared.
// The agent on that very node writes it, and a policy keeps it from everybody else. It may end a fence (S3).
const AnnotationCleared = "rbd-rescue.io/cleared"

// What rbd-rescue writes. All of it is a hint for people, never proof for a decision (S5).
const (
	// LabelHeld marks a pod that waits for a volume which a failed node still holds; its value is "true".
	LabelHeld = "rbd-rescue.io/held"
	// GateHeld keeps a pod from being scheduled as long as a failed node that is not fenced holds a volume of it which
	// Kubernetes would let both have: ReadWriteMany, or of a driver that needs no attachment.
	GateHeld = "rbd-rescue.io/held"
	// AnnotationHeldVolumes says which volumes a flagged pod waits for: JSON, a list of HeldVolume.
	AnnotationHeldVolumes = "rbd-rescue.io/held-volumes"
	// AnnotationClients is the record on a PersistentVolume: JSON, a ClientRecord.
	AnnotationClients = "rbd-rescue.io/clients"
	// TaintFenced keeps new pods off a fenced node until the fence is lifted; its effect is NoSchedule.
	TaintFenced = "rbd-rescue.io/fenced"
	// FinalizerFence keeps a NodeFence until its entries are lifted: deleting the object is not a lift (S3).
	FinalizerFence = "rbd-rescue.io/fence"
	// SnapshotPrefix begins the name of every safety snapshot: one of that name is rbd-rescue's.
	SnapshotPrefix = "rbd-rescue-"
	// FieldManager is rbd-rescue's name in managedFields.
	FieldManager = "rbd-rescue"
	// MetricPrefix begins the name of every metric.
	MetricPrefix = "rbd_rescue"
)
