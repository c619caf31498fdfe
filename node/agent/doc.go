// Package agent is `rbd-rescue node agent`, one on every node (the chart's DaemonSet). When its node is fenced and comes back without a
// reboot, it lets go the mappings of volumes that were moved away, and writes on the NodeFence which mappings of the fenced clients are
// left: that none is left is the node's own proof, with which the remediator lifts the fence (S3). If asked to, it also lets go all
// mappings of opted-in namespaces when the node has been cut off from the API for long.
//
// It writes nothing but that one annotation, on NodeFences of its own node; a policy holds it to that by the node in its token.
package agent
