// Package krbd lets a node's CSI plugin map images by the kernel of the node's microVM: a few calls over TCP, served by the
// VM's init. What an application was told is logged by the plugin, outside the VM: an answer counts once it is there.
package krbd
