// Package kube runs a real Kubernetes cluster on one machine: etcd, kube-apiserver, kube-controller-manager, kube-scheduler and csi-attacher as
// processes, and nodes that are a real kubelet above a fake container runtime with a real CSI plugin, each in its own network namespace. Any of
// them can be killed, frozen or started again, and a node can be rebooted.
package kube
