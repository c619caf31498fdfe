// Package webhook is rbd-rescue's part in the admission of pods: a new pod that wants an RBD volume which a failed node
// still holds gets a label and an annotation that say so; and one of a namespace with failover-after gets tolerations that let it
// leave a failed node sooner. It fails open: whatever goes wrong, the pod is created. It never talks to Ceph, never reads the API
// while a pod waits, holds a pod back only where Kubernetes would let it write to a ReadWriteMany volume beside the failed node, and
// what it writes is a hint for people, proof of nothing (S5). Only pods of opted-in namespaces are touched (S6).
//
// It also refuses annotations of rbd-rescue on a namespace that mean nothing, so that a typo does not leave it unprotected.
package webhook
