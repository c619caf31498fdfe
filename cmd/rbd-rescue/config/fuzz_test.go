package config

import "testing"

// A file that is taken can be used: every cluster has a name, a user, a key file and monitors, and the settings mean something.
func FuzzParse(f *testing.F) {
	f.Add([]byte(head + one))
	f.Add([]byte(head + one + "sharedClients: refuse\nmaxFailedNodes: 50%\nstuckAfter: 1m\n"))
	f.Add([]byte(head + "cephClusters: [{clusterID: a, user: u, keyFile: /k, monitorsFrom: {namespace: n, name: c, key: k}}]\n"))
	f.Add([]byte("{}"))
	f.Fuzz(func(t *testing.T, text []byte) {
		c, err := Parse(text)
		if err != nil {
			return
		}
		if err := c.Settings().Validate(); err != nil {
			t.Error(err)
		}
		for _, cluster := range c.CephClusters {
			if cluster.ClusterID == "" || cluster.User == "" || cluster.KeyFile == "" || (len(cluster.Monitors) == 0) == (cluster.MonitorsFrom == nil) {
				t.Errorf("taken: %+v", cluster)
			}
		}
	})
}
