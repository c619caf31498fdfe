package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/rbd-rescue/rbd-rescue/remediator/plan"
)

const head = "apiVersion: config.rbd-rescue.io/v1alpha1\nkind: RemediatorConfiguration\n"

const one = "cephClusters: [{clusterID: a, user: u, keyFile: /k, monitors: ['1.2.3.4:1']}]\n"

func TestSettings(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		text string
		want plan.Settings
	}{
		"all default": {"", plan.DefaultSettings()},
		"all given": {"sharedClients: refuse\nmaxFailedNodes: 3\nstuckAfter: 5m\nsnapshotsKeptFor: 24h\nsnapshotsPerImage: 1\n", plan.Settings{
			SharedClients: plan.SharedRefuse, MaxFailedNodes: intstr.FromInt32(3), StuckAfter: 5 * time.Minute, SnapshotsKeptFor: 24 * time.Hour, SnapshotsPerImage: 1,
		}},
		"a share of the nodes": {`maxFailedNodes: 50%`, plan.Settings{
			SharedClients: plan.SharedFence, MaxFailedNodes: intstr.FromString("50%"), StuckAfter: 2 * time.Minute, SnapshotsKeptFor: 72 * time.Hour, SnapshotsPerImage: 3,
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			configuration, err := Parse([]byte(head + one + test.text))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, configuration.Settings()); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestParseTakes(t *testing.T) {
	t.Parallel()
	for name, text := range map[string]string{
		"monitors of every form": head + `cephClusters:
- {clusterID: a, user: rbd-rescue, keyFile: /k, monitors: ["10.0.0.1:6789", "v2:10.0.0.1:3300", "[v2:10.0.0.1:3300,v1:10.0.0.1:6789]", "[fd00::1]:6789", "mon.example:3300"]}
`,
		"hosts of rbd-mirror": head + `cephClusters:
- {clusterID: a, user: rbd-rescue, keyFile: /k, monitors: ["10.0.0.1:6789"], mirrorHosts: [10.1.0.6, "fd00::6"]}
`,
		"monitors from ceph-csi's ConfigMap": head + `cephClusters:
- {clusterID: a, user: rbd-rescue, keyFile: /k, monitorsFrom: {namespace: rook-ceph, name: rook-ceph-csi-config, key: csi-cluster-config-json}}
`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if _, err := Parse([]byte(text)); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestParseSaysWhichFieldIsWrong(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct{ text, want string }{
		"an empty file":               {"", `apiVersion: must be`},
		"another kind":                {strings.Replace(head, "Remediator", "Webhook", 1), `kind: must be "RemediatorConfiguration"`},
		"no cluster":                  {head, "cephClusters: list at least one"},
		"a field that is unknown":     {head + "cephCluster: []\n", `unknown field "cephCluster"`},
		"a typo in a cluster":         {head + "cephClusters: [{clusterIdentity: a}]\n", `unknown field "clusterIdentity"`},
		"a wrong type":                {head + "cephClusters: yes\n", "cephClusters"},
		"a policy that there is not":  {head + one + "sharedClients: maybe\n", `sharedClients: must be "fence" or "refuse", not "maybe"`},
		"a share that is no number":   {head + one + "maxFailedNodes: half\n", `maxFailedNodes: must be a number of nodes or a percentage`},
		"a snapshot kept for no time": {head + one + "snapshotsKeptFor: 0s\n", `snapshotsKeptFor: must be more than 0`},
		"no snapshot of an image":     {head + one + "snapshotsPerImage: 0\n", `snapshotsPerImage: must be 1 or more`},
		"a time that is none":         {head + one + "stuckAfter: -1m\n", `stuckAfter: must be more than 0`},
		"no clusterID":                {head + "cephClusters: [{user: u, keyFile: /k, monitors: ['1.2.3.4:1']}]\n", "cephClusters[0].clusterID: is missing"},
		"no user":                     {head + "cephClusters: [{clusterID: a, keyFile: /k, monitors: ['1.2.3.4:1']}]\n", "cephClusters[0].user: is missing"},
		"a user with client.":         {head + "cephClusters: [{clusterID: a, user: client.u, keyFile: /k, monitors: ['1.2.3.4:1']}]\n", `write it without "client.": "u"`},
		"a mirror without an address": {head + "cephClusters: [{clusterID: a, user: u, keyFile: /k, monitors: ['1.2.3.4:1'], mirrorHosts: [site-b]}]\n", `cephClusters[0].mirrorHosts[0]: must be the IP address of a host, as in 10.1.0.6, not "site-b"`},
		"a mirror with any address":   {head + "cephClusters: [{clusterID: a, user: u, keyFile: /k, monitors: ['1.2.3.4:1'], mirrorHosts: ['0.0.0.0']}]\n", `cephClusters[0].mirrorHosts[0]: must be the IP address`},
		"no key file":                 {head + "cephClusters: [{clusterID: a, user: u, monitors: ['1.2.3.4:1']}]\n", "cephClusters[0].keyFile: is missing"},
		"no monitors":                 {head + "cephClusters: [{clusterID: a, user: u, keyFile: /k}]\n", "cephClusters[0].monitors: is missing"},
		"monitors twice": {
			head + "cephClusters: [{clusterID: a, user: u, keyFile: /k, monitors: ['1.2.3.4:1'], monitorsFrom: {namespace: n, name: c, key: k}}]\n",
			"cephClusters[0]: give monitors or monitorsFrom, not both",
		},
		"half a ConfigMap": {
			head + "cephClusters: [{clusterID: a, user: u, keyFile: /k, monitorsFrom: {name: c}}]\n", "cephClusters[0].monitorsFrom.namespace: is missing",
		},
		"a monitor without a port": {
			head + "cephClusters: [{clusterID: a, user: u, keyFile: /k, monitors: ['1.2.3.4']}]\n", `cephClusters[0].monitors[0]: "1.2.3.4" is not an address with a port`,
		},
		"a monitor with a port that is a word": {
			head + "cephClusters: [{clusterID: a, user: u, keyFile: /k, monitors: ['10.0.0.1:mon']}]\n", `cephClusters[0].monitors[0]: "10.0.0.1:mon" is not an address with a port`,
		},
		"a monitor with port 0": {
			head + "cephClusters: [{clusterID: a, user: u, keyFile: /k, monitors: ['10.0.0.1:0']}]\n", `cephClusters[0].monitors[0]: "10.0.0.1:0" is not an address with a port`,
		},
		"monitors without the bracket at the end": {
			head + "cephClusters: [{clusterID: a, user: u, keyFile: /k, monitors: ['[v2:10.0.0.1:3300,v1:10.0.0.1:6789']}]\n", "lacks the bracket at its end",
		},
		"one cluster twice": {
			head + "cephClusters: [{clusterID: a, user: u, keyFile: /k, monitors: ['1.2.3.4:1']}, {clusterID: a, user: u, keyFile: /k, monitors: ['1.2.3.4:1']}]\n",
			`cephClusters[1].clusterID: "a" is cephClusters[0] already`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := Parse([]byte(test.text))
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want %q in it", err, test.want)
			}
		})
	}
}

func TestLoadNamesTheFile(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "config.yaml")
	if _, err := Load(path); err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("got %v", err)
	}
	if err := os.WriteFile(path, []byte(head), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(path); err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("got %v", err)
	}
}

func TestKeyFile(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		text string
		ok   bool
	}{
		"a key alone": {"AQBkey==\n", true},
		"a keyring":   {"[client.rbd-rescue]\n\tkey = AQBkey==\n", false},
		"nothing":     {"\n", false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "key")
			if err := os.WriteFile(path, []byte(test.text), 0o600); err != nil {
				t.Fatal(err)
			}
			key, err := CephCluster{ClusterID: "a", User: "u", KeyFile: path}.Key()
			if (err == nil) != test.ok || (test.ok && key != "AQBkey==") {
				t.Errorf("got %q, %v", key, err)
			}
			if err != nil && strings.Contains(err.Error(), "AQBkey") {
				t.Errorf("the error tells the key: %v", err)
			}
		})
	}
}

func TestMonitorsOfCephCSI(t *testing.T) {
	t.Parallel()
	text := `[{"clusterID":"a","monitors":["10.0.0.1:6789"],"rbd":{"radosNamespace":"x"}},{"clusterID":"b","monitors":[]}]`
	if monitors, err := monitorsOf("a", text); err != nil || len(monitors) != 1 {
		t.Errorf("got %v, %v", monitors, err)
	}
	for _, wrong := range []struct{ id, text string }{{"b", text}, {"c", text}, {"a", "{"}} {
		if monitors, err := monitorsOf(wrong.id, wrong.text); err == nil {
			t.Errorf("%s: took %v", wrong.id, monitors)
		}
	}
}
