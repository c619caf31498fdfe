// Package volume is what Kubernetes knows of RBD volumes: which image a PersistentVolume is, which claims a pod uses,
// which node has failed, and which volumes it holds. Plain functions over API objects: it never reads the API or Ceph.
package volume
