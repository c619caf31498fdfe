package v1alpha1

// What a user writes on a Namespace.
const (
	// AnnotationMode opts a namespace in: see Mode.
	AnnotationMode = "rbd-rescue.io/mode"
)

// What rbd-rescue writes. All of it is a hint for people, never proof for a decision (S5).
const (
	// LabelHeld marks a pod that waits for a volume which a failed node still holds; its value is "true".
	LabelHeld = "rbd-rescue.io/held"
	// AnnotationHeldVolumes says which volumes a flagged pod waits for: JSON, a list of HeldVolume.
	AnnotationHeldVolumes = "rbd-rescue.io/held-volumes"
	// AnnotationClients is the record on a PersistentVolume: JSON, a ClientRecord.
	AnnotationClients = "rbd-rescue.io/clients"
	// TaintFenced keeps new pods off a fenced node until the fence is lifted; its effect is NoSchedule.
	TaintFenced = "rbd-rescue.io/fenced"
	// FinalizerFence keeps a NodeFence until its entries are lifted: deleting the object is not a lift (S3).
	FinalizerFence = "rbd-rescue.io/fence"
	// FieldManager is rbd-rescue's name in managedFields.
	FieldManager = "rbd-rescue"
	// MetricPrefix begins the name of every metric.
	MetricPrefix = "rbd_rescue"
)
