// Package webhook is rbd-rescue's part in the admission of pods: a new pod that wants an RBD volume which a failed node
// still holds gets a label and an annotation that say so. It fails open: whatever goes wrong, the pod is created. It never
// talks to Ceph, never reads the API while a pod waits, never holds a pod back, and what it writes is a hint for people,
// proof of nothing (S5). Only pods of opted-in namespaces are touched (S6).
package webhook
