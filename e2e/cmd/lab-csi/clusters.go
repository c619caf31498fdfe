//go:build librados

package main

import (
	"encoding/json"
	"fmt"
	"os"
	"slices"
)

// cluster is how a Ceph cluster is reached, as ceph-csi's ConfigMap and Secrets say it.
type cluster struct {
	ClusterID string `json:"clusterID"`
	Monitors  string `json:"monitors"`
	// KeyFile holds the user's key alone.
	KeyFile string `json:"keyFile"`
}

// cluster reads the file each time: clusters are added while the plugin runs.
func (o options) cluster(id string) (cluster, error) {
	text, err := os.ReadFile(o.clustersFile)
	if err != nil {
		return cluster{}, fmt.Errorf("reading the Ceph clusters: %w", err)
	}
	var clusters []cluster
	if err := json.Unmarshal(text, &clusters); err != nil {
		return cluster{}, fmt.Errorf("decoding the Ceph clusters of %s: %w", o.clustersFile, err)
	}
	at := slices.IndexFunc(clusters, func(c cluster) bool { return c.ClusterID == id })
	if at < 0 {
		return cluster{}, fmt.Errorf("no Ceph cluster %q is in %s", id, o.clustersFile)
	}
	return clusters[at], nil
}
