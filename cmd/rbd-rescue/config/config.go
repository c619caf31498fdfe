// Package config is the remediator's configuration file: which Ceph clusters there are and how to reach them.
package config

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/yaml"

	"github.com/rbd-rescue/rbd-rescue/remediator/plan"
)

const (
	apiVersion = "config.rbd-rescue.io/v1alpha1"
	kind       = "RemediatorConfiguration"
)

// Configuration is the whole file.
type Configuration struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	// CephClusters are the clusters whose clients may be fenced.
	CephClusters []CephCluster `json:"cephClusters"`
	// What follows is that of plan.Settings; what is left out has its default.
	SharedClients     plan.SharedClients  `json:"sharedClients,omitempty"`
	MaxFailedNodes    *intstr.IntOrString `json:"maxFailedNodes,omitempty"`
	StuckAfter        *metav1.Duration    `json:"stuckAfter,omitempty"`
	SnapshotsKeptFor  *metav1.Duration    `json:"snapshotsKeptFor,omitempty"`
	SnapshotsPerImage *int                `json:"snapshotsPerImage,omitempty"`
}

// Settings are the choices that the file makes, and the defaults of the others.
func (c *Configuration) Settings() plan.Settings {
	settings := plan.DefaultSettings()
	if c.SharedClients != "" {
		settings.SharedClients = c.SharedClients
	}
	if c.MaxFailedNodes != nil {
		settings.MaxFailedNodes = *c.MaxFailedNodes
	}
	if c.StuckAfter != nil {
		settings.StuckAfter = c.StuckAfter.Duration
	}
	if c.SnapshotsKeptFor != nil {
		settings.SnapshotsKeptFor = c.SnapshotsKeptFor.Duration
	}
	if c.SnapshotsPerImage != nil {
		settings.SnapshotsPerImage = *c.SnapshotsPerImage
	}
	return settings
}

// CephCluster is one cluster, as ceph-csi knows it.
type CephCluster struct {
	// ClusterID as in the PersistentVolumes' volumeAttributes.clusterID.
	ClusterID string `json:"clusterID"`
	// Monitors, as in ceph-csi's configuration: "10.0.0.1:6789", "v2:10.0.0.1:3300", … Either these or MonitorsFrom.
	Monitors []string `json:"monitors,omitempty"`
	// MonitorsFrom reads them from ceph-csi's ConfigMap each time a connection is made: monitors move.
	MonitorsFrom *MonitorsSource `json:"monitorsFrom,omitempty"`
	// User is the Ceph user without "client."; its caps are in README.md.
	User string `json:"user"`
	// KeyFile holds the user's key and nothing else; it is read each time a connection is made.
	KeyFile string `json:"keyFile"`
	// MirrorHosts are the IP addresses from which rbd-mirror daemons of other sites use this cluster's mirrored images. Those of
	// its own site are known to Ceph.
	MirrorHosts []string `json:"mirrorHosts,omitempty"`
}

// MonitorsSource is a key of the ConfigMap that ceph-csi reads: ceph-csi-config with key config.json, for Rook
// rook-ceph-csi-config with key csi-cluster-config-json.
type MonitorsSource struct {
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
	Key       string `json:"key"`
}

// Load reads and checks a file. The error names the file and every field that is wrong.
func Load(path string) (*Configuration, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("reading the configuration: %w", err)
	}
	configuration, err := Parse(text)
	if err != nil {
		return nil, fmt.Errorf("configuration %s: %w", path, err)
	}
	return configuration, nil
}

// Parse reads and checks the text of a file. A field that does not exist is an error: a typo must not switch a cluster off.
func Parse(text []byte) (*Configuration, error) {
	configuration := &Configuration{}
	if err := yaml.UnmarshalStrict(text, configuration); err != nil {
		return nil, errors.New(strings.ReplaceAll(err.Error(), "error unmarshaling JSON: while decoding JSON: json: ", ""))
	}
	if err := configuration.validate(); err != nil {
		return nil, err
	}
	return configuration, nil
}

func (c *Configuration) validate() error {
	var problems []error
	if c.APIVersion != apiVersion {
		problems = append(problems, fmt.Errorf("apiVersion: must be %q, not %q", apiVersion, c.APIVersion))
	}
	if c.Kind != kind {
		problems = append(problems, fmt.Errorf("kind: must be %q, not %q", kind, c.Kind))
	}
	if len(c.CephClusters) == 0 {
		problems = append(problems, errors.New("cephClusters: list at least one cluster"))
	}
	seen := map[string]int{}
	for i, cluster := range c.CephClusters {
		field := fmt.Sprintf("cephClusters[%d]", i)
		if first, twice := seen[cluster.ClusterID]; twice {
			problems = append(problems, fmt.Errorf("%s.clusterID: %q is cephClusters[%d] already", field, cluster.ClusterID, first))
		}
		seen[cluster.ClusterID] = i
		problems = append(problems, cluster.validate(field)...)
	}
	return errors.Join(append(problems, c.Settings().Validate())...)
}

func (c CephCluster) validate(field string) []error {
	var problems []error
	require := func(name, value, hint string) {
		if strings.TrimSpace(value) == "" {
			problems = append(problems, fmt.Errorf("%s.%s: is missing; %s", field, name, hint))
		}
	}
	require("clusterID", c.ClusterID, "it is volumeAttributes.clusterID of the PersistentVolumes")
	require("user", c.User, `the Ceph user without "client."`)
	if name, prefixed := strings.CutPrefix(c.User, "client."); prefixed {
		problems = append(problems, fmt.Errorf(`%s.user: write it without "client.": %q`, field, name))
	}
	require("keyFile", c.KeyFile, "a file that holds the user's key")
	switch from := c.MonitorsFrom; {
	case len(c.Monitors) > 0 && from != nil:
		problems = append(problems, fmt.Errorf("%s: give monitors or monitorsFrom, not both", field))
	case from != nil:
		require("monitorsFrom.namespace", from.Namespace, "where ceph-csi's ConfigMap is")
		require("monitorsFrom.name", from.Name, "ceph-csi-config, or rook-ceph-csi-config")
		require("monitorsFrom.key", from.Key, "config.json, or csi-cluster-config-json")
	case len(c.Monitors) == 0:
		problems = append(problems, fmt.Errorf("%s.monitors: is missing; give the monitors' addresses, or monitorsFrom", field))
	}
	for i, monitor := range c.Monitors {
		if err := checkMonitor(monitor); err != nil {
			problems = append(problems, fmt.Errorf("%s.monitors[%d]: %w", field, i, err))
		}
	}
	for i, host := range c.MirrorHosts {
		if ip, err := netip.ParseAddr(host); err != nil || ip.IsUnspecified() {
			problems = append(problems, fmt.Errorf("%s.mirrorHosts[%d]: must be the IP address of a host, as in 10.1.0.6, not %q", field, i, host))
		}
	}
	return problems
}

// checkMonitor takes host:port, with v1: or v2: before it, or several of these in brackets.
func checkMonitor(monitor string) error {
	parts := []string{monitor}
	if rest, is := strings.CutPrefix(monitor, "[v"); is {
		inner, closed := strings.CutSuffix(rest, "]")
		if !closed {
			return fmt.Errorf("%q lacks the bracket at its end, as in [v2:10.0.0.1:3300,v1:10.0.0.1:6789]", monitor)
		}
		parts = strings.Split("v"+inner, ",")
	}
	for _, part := range parts {
		part = strings.TrimPrefix(strings.TrimPrefix(part, "v1:"), "v2:")
		host, port, err := net.SplitHostPort(part)
		if number, notNumber := strconv.ParseUint(port, 10, 16); err != nil || host == "" || notNumber != nil || number == 0 {
			return fmt.Errorf("%q is not an address with a port, as in 10.0.0.1:6789 or v2:10.0.0.1:3300", monitor)
		}
	}
	return nil
}

// Mirrors are the MirrorHosts of a file that was checked.
func (c CephCluster) Mirrors() []netip.Addr {
	var hosts []netip.Addr
	for _, host := range c.MirrorHosts {
		hosts = append(hosts, netip.MustParseAddr(host).Unmap())
	}
	return hosts
}

// Key reads the user's key.
func (c CephCluster) Key() (string, error) {
	text, err := os.ReadFile(c.KeyFile)
	if err != nil {
		return "", fmt.Errorf("reading keyFile of cluster %s: %w", c.ClusterID, err)
	}
	key := strings.TrimSpace(string(text))
	if key == "" || strings.ContainsAny(key, " \t\n[") {
		return "", fmt.Errorf("keyFile %s of cluster %s: must hold the key alone, as `ceph auth get-key client.%s` prints it",
			c.KeyFile, c.ClusterID, c.User)
	}
	return key, nil
}
