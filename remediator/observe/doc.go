// Package observe reads the cluster (from informer caches) and Ceph into a plan.Snapshot. It never writes and never decides.
package observe
