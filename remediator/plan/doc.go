// Package plan takes every decision about a failed node, as pure functions over a Snapshot: when to fence (Detect), what
// to do next about a NodeFence (Next), which clients to cut off, when a fence is proven, what may be released, when to
// lift. No client, no clock, no logger: a decision can be read, printed and tested without a cluster.
//
// To audit the safety rules read this package alone: breaker.go keeps S7, clients.go S2, verify.go and release.go S1 and
// S6, renew.go S4, lift.go S3, gate.go S9; next.go puts them in order. S5 holds because no pod annotation is in the Snapshot's reach.
package plan
