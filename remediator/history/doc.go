// Package history plays random histories of machines, kubelets, Kubernetes' controllers, Ceph and people against the real
// controllers of the remediator, whose caches are old, whose process crashes at any write, and whose Ceph may hang; after
// every write it checks S1 to S8 against what is true in that world, and at the end that everything recovers.
// It has tests only.
package history
