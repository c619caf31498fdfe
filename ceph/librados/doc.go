// Package librados is the port ceph.Conn by go-ceph: the only package of the product with cgo (build tag librados; on the
// headers of Ceph 16 also pacific). It decides nothing.
package librados
