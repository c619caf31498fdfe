// Package cephtest is the port ceph.Conn in memory, for tests: a cluster with a clock, a blocklist that expires, watchers
// that vanish when they are cut off, placement groups that lag behind, and any error on any call. It answers in the words
// of a recorded Ceph 16.2.15, and refuses what that refused.
package cephtest
