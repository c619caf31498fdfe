package config

import (
	"context"
	"encoding/json"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// ResolveMonitors gives the cluster's monitors: those of the file, or those that ceph-csi's ConfigMap has now.
func (c CephCluster) ResolveMonitors(ctx context.Context, reader client.Reader) ([]string, error) {
	if c.MonitorsFrom == nil {
		return c.Monitors, nil
	}
	from := *c.MonitorsFrom
	configMap := &corev1.ConfigMap{}
	if err := reader.Get(ctx, client.ObjectKey{Namespace: from.Namespace, Name: from.Name}, configMap); err != nil {
		return nil, fmt.Errorf("reading the monitors of cluster %s: %w", c.ClusterID, err)
	}
	text, ok := configMap.Data[from.Key]
	if !ok {
		return nil, fmt.Errorf("reading the monitors of cluster %s: ConfigMap %s/%s has no key %q", c.ClusterID, from.Namespace, from.Name, from.Key)
	}
	monitors, err := monitorsOf(c.ClusterID, text)
	if err != nil {
		return nil, fmt.Errorf("reading the monitors of cluster %s from ConfigMap %s/%s, key %s: %w", c.ClusterID, from.Namespace, from.Name, from.Key, err)
	}
	return monitors, nil
}

// monitorsOf reads ceph-csi's list of clusters (facts/field.md §3).
func monitorsOf(clusterID, text string) ([]string, error) {
	var clusters []struct {
		ClusterID string   `json:"clusterID"`
		Monitors  []string `json:"monitors"`
	}
	if err := json.Unmarshal([]byte(text), &clusters); err != nil {
		return nil, err
	}
	for _, cluster := range clusters {
		if cluster.ClusterID == clusterID {
			if len(cluster.Monitors) == 0 {
				return nil, fmt.Errorf("clusterID %q has no monitors there", clusterID)
			}
			return cluster.Monitors, nil
		}
	}
	return nil, fmt.Errorf("clusterID %q is not listed there", clusterID)
}
