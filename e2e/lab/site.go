package lab

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"

	"github.com/rbd-rescue/rbd-rescue/e2e/lab/ceph"
)

// Site is a Ceph cluster with the users that ceph-csi and rbd-rescue have in it.
type Site struct {
	*ceph.Cluster
	ClusterID string

	csiKey, rescueKey string // files
}

func (l *Lab) startSite(ctx context.Context, clusterID string, ip netip.Addr, monitors int) (*Site, error) {
	cluster, err := ceph.Start(ctx, l.Supervisor, ceph.Options{
		Name: "ceph-" + clusterID, Dir: filepath.Join(Dir, "ceph-"+clusterID), IP: ip, Monitors: monitors, OSDs: 3,
	})
	if err != nil {
		return nil, fmt.Errorf("starting Ceph cluster %s: %w", clusterID, err)
	}
	site := &Site{Cluster: cluster, ClusterID: clusterID}
	if site.csiKey, err = cluster.CreateUser(ctx, csiUser, map[string]string{
		"mon": "profile rbd", "osd": "profile rbd pool=" + Pool,
	}); err != nil {
		return nil, fmt.Errorf("making the CSI plugin's Ceph user: %w", err)
	}
	if site.rescueKey, err = cluster.CreateUser(ctx, rescueUser, ceph.Installed().LeastRights(Pool)); err != nil {
		return nil, fmt.Errorf("making rbd-rescue's Ceph user: %w", err)
	}
	return site, nil
}

// sites are the lab's Ceph clusters.
func (l *Lab) sites() []*Site {
	if l.SecondCeph == nil {
		return []*Site{l.Ceph}
	}
	return []*Site{l.Ceph, l.SecondCeph}
}

// Configuration is the site in the remediator's configuration, under its own clusterID or another.
func (s *Site) Configuration(clusterID string) map[string]any {
	return map[string]any{"clusterID": clusterID, "monitors": s.Monitors(), "user": rescueUser, "keyFile": s.rescueKey}
}

// writeClusters writes the file that the CSI plugins read, as ceph-csi's plugins have a ConfigMap.
func (l *Lab) writeClusters() error {
	var clusters []map[string]string
	for _, site := range l.sites() {
		clusters = append(clusters, map[string]string{"clusterID": site.ClusterID, "monitors": strings.Join(site.Monitors(), ","), "keyFile": site.csiKey})
	}
	text, err := json.Marshal(clusters)
	if err != nil {
		return fmt.Errorf("encoding the Ceph clusters: %w", err)
	}
	next := clustersFile() + ".next"
	if err := os.WriteFile(next, text, 0o600); err != nil {
		return fmt.Errorf("writing the Ceph clusters: %w", err)
	}
	if err := os.Rename(next, clustersFile()); err != nil { // no plugin reads half of it
		return fmt.Errorf("writing the Ceph clusters: %w", err)
	}
	return nil
}

func clustersFile() string { return filepath.Join(Dir, "ceph-clusters.json") }
