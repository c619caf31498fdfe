// Package v1alpha1 holds every name that a user of rbd-rescue types or reads: the NodeFence kind, the annotations and
// labels, the taint, the event reasons and the metric prefix. It never acts. See docs/architecture.md for what uses it.
//
// +kubebuilder:object:generate=true
// +groupName=rbd-rescue.io
package v1alpha1
