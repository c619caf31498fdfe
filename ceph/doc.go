// Package ceph is what rbd-rescue asks of Ceph, as plain values over one port, Conn: addresses of clients, the blocklist,
// the OSD map, the watchers of an image, and the barrier that proves a fence (S1). Only ceph/librados knows go-ceph;
// ceph/cephtest is the port in memory.
package ceph
