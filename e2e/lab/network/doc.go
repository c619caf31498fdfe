// Package network is the lab's wiring on one machine: a bridge, and for every node a network namespace with an address of its own, so that
// Ceph and Kubernetes see nodes that differ by IP and a node can be cut off from one, the other or both. It changes nothing outside names
// that start with rbdlab. Only one lab can run on a machine at a time: New waits for the other one to end.
package network
