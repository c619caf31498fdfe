package plan

import (
	"net/netip"
	"strings"
	"testing"
)

// mirroredBy: rbd-mirror copies the image, and its daemons live at these addresses.
func mirroredBy(hosts ...string) option {
	return func(s *Snapshot) {
		s.Volumes[0].Use.Mirrored = true
		s.changeCluster(func(c *Cluster) {
			c.Mirrors = map[netip.Addr]bool{}
			for _, host := range hosts {
				c.Mirrors[netip.MustParseAddr(host)] = true
			}
		})
	}
}

func TestNextOfAMirroredImage(t *testing.T) {
	t.Parallel()
	checkNext(t, map[string]nextCase{
		"S2: leaves a mirror daemon's watcher alone": {
			snapshot: incident(watcherAt("10.1.0.6:0/9"), mirroredBy("10.1.0.6")), want: fencingWith(deadClient),
		},
		"S2: refuses a watcher that is nobody's": {
			snapshot: incident(watcherAt("10.1.0.7:0/9"), mirroredBy("10.1.0.6")), want: refusedBecause("ForeignClient"),
		},
		"S2: refuses a watcher on a mirror daemon's host of an image that is not mirrored": {
			snapshot: incident(watcherAt("10.1.0.6:0/9"), mirroredBy("10.1.0.6"), func(s *Snapshot) { s.Volumes[0].Use.Mirrored = false }),
			want:     refusedBecause("ForeignClient"),
		},
		"S2: refuses a recorded client on a mirror daemon's host": {
			snapshot: incident(mirroredBy("10.1.0.6"), func(s *Snapshot) { s.Volumes[0].Record.Clients = []string{"10.1.0.6:0/9"} }),
			want:     refusedBecause("CephDaemonHost"),
		},
		"S1: takes no watcher for the node's where a mirror daemon lives on it, and its host stays": {
			snapshot: incident(noRecord, watcherAt("10.0.0.1:0/9"), mirroredBy("10.0.0.1"), func(s *Snapshot) { s.NodeAddressed["c1"] = true }),
			want:     refusedBecause("CephDaemonHost"),
		},
		"fences the recorded client where a mirror daemon lives on the node": {
			snapshot: incident(watcherAt("10.0.0.1:0/9"), mirroredBy("10.0.0.1")), want: fencingWith(deadClient),
		},
	})
}

func TestARefusalForAMirrorDaemonOfAnotherSiteSaysWhereToNameIt(t *testing.T) {
	t.Parallel()
	d := Next(incident(watcherAt("10.1.0.7:0/9"), mirroredBy()))
	if got := d.Status.Volumes[0].Message; !strings.Contains(got, "10.1.0.7:0/9") || !strings.Contains(got, "mirrorHosts") {
		t.Errorf("it says: %s", got)
	}
}
