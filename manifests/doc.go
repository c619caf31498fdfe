// Package manifests is what is kept of a volume with its image itself, so that it outlives the Kubernetes cluster: the
// PersistentVolume and the claim, cleaned of what only that cluster can mean, and the record of who had the image last; and how the
// two objects are built again from it. Plain values: it reads neither the API nor Ceph.
package manifests
