// Package node is what can be done on the machine itself: find the RBD images that its kernel has mapped, who uses them, and let
// them go in the right order (`rbd-rescue node`). It asks the kernel (sysfs, /proc), the kubelet's folders and the container
// runtime; neither Ceph nor the API server needs to answer.
//
// What it never does: take what it could not read for "nothing is mapped" (S3); unmount what is not Kubernetes'; wait for ever
// (unmount and unmap hang while Ceph does not answer, so that each is a process of its own); take a lazy unmount for an end.
//
// Decisions are in release.go and fenced.go, over plain data. Package agent runs them on every node.
package node
