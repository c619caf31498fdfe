// Package microvm boots a small machine with a real Linux kernel in qemu, without KVM: what a node of the lab needs to have
// the kernel's own RBD client. The kernel is Debian's, and so is the container runtime that
// e2e/machine runs in it; e2e/install-vm gets them and qemu, or notes why it could not.
package microvm
