package plan

import (
	"errors"
	"net/netip"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"github.com/rbd-rescue/rbd-rescue/api/v1alpha1"
	"github.com/rbd-rescue/rbd-rescue/ceph"
)

// elsewhere is a client on no address that node-a reports: on a storage network, or a manager's.
const elsewhere = "192.168.7.1:0/42"

func recordedClient(address string) option {
	return func(s *Snapshot) { s.Volumes[0].Record.Clients = []string{address} }
}

func daemonAt(ip string) option {
	return func(s *Snapshot) { s.Clusters["c1"].Daemons[netip.MustParseAddr(ip)] = ceph.Manager }
}

func noDaemons(err error) option {
	return func(s *Snapshot) { s.changeCluster(func(c *Cluster) { c.Daemons, c.DaemonsError = nil, err }) }
}

func TestNextOfAClientWhereADaemonOfCephMayLive(t *testing.T) {
	t.Parallel()
	unreachable := effect{
		Phase: "Pending", Fenced: "CephUnreachable", Volume: "Held CephUnreachable",
		Events: []string{"NodeFence CephUnreachable", "Node CephUnreachable"},
	}
	checkNext(t, map[string]nextCase{
		"S2: refuses a recorded client on a daemon's host": {
			snapshot: incident(recordedClient(elsewhere), daemonAt("192.168.7.1")), want: refusedBecause("CephDaemonHost"),
		},
		"S2: refuses while the hosts of daemons cannot be read": {
			snapshot: incident(recordedClient(elsewhere), noDaemons(errors.New("no answer"))), want: unreachable,
		},
		"S2: refuses while the hosts of daemons are not known yet": {
			snapshot: incident(recordedClient(elsewhere), noDaemons(nil)), want: unreachable,
		},
		"fences a recorded client on the host of a daemon that opens no image": {
			snapshot: incident(recordedClient(elsewhere), func(s *Snapshot) {
				s.Clusters["c1"].Daemons[netip.MustParseAddr("192.168.7.1")] = ceph.ObjectStore
			}),
			want: fencingWith(elsewhere),
		},
		"fences a recorded client on a manager's host that ceph-csi calls the node's": {
			snapshot: incident(recordedClient(elsewhere), daemonAt("192.168.7.1"), func(s *Snapshot) {
				s.Volumes[0].Use.Staged = map[string]netip.Addr{"node-a": netip.MustParseAddr("192.168.7.1")}
			}),
			want: fencingWith(elsewhere),
		},
		"fences a recorded client elsewhere, where no daemon lives": {
			snapshot: incident(recordedClient(elsewhere)), want: fencingWith(elsewhere),
		},
		"fences the recorded client where a daemon lives on the node": {
			snapshot: incident(daemonAt("10.0.0.1")), want: fencingWith(deadClient),
		},
		"fences the recorded client on the node's own address, be daemons known or not": {
			snapshot: incident(noDaemons(errors.New("no answer"))), want: fencingWith(deadClient),
		},
		"fences the client that a person names, though a daemon lives there": {
			snapshot: incident(noRecord, personMade, daemonAt("192.168.7.1"), func(s *Snapshot) { s.Fence.Spec.Clients = []string{elsewhere} }),
			want:     fencingWith(elsewhere),
		},
	})
}

// foreignRecord is one that does not tell this boot's clients, and only those at an address that is not the node's own.
func foreignRecord(s *Snapshot) {
	recordOfAnotherBoot(s)
	recordedClient(elsewhere)(s)
}

func nodeAddressed(s *Snapshot) { s.NodeAddressed["c1"] = true }

// S1: a fence of another's host alone would prove nothing of the node.
func TestNextOfAnAddressThatMayNotBeTheNodes(t *testing.T) {
	t.Parallel()
	checkNext(t, map[string]nextCase{
		"S1: fences the node's own host as well, where clients lie on their nodes' addresses": {
			snapshot: incident(foreignRecord, nodeAddressed), want: fencingWith("192.168.7.1:0/0, " + deadHost),
		},
		"S1: the same where ceph-csi names the address": {
			snapshot: incident(noRecord, stagedBy("node-a", "192.168.7.1"), nodeAddressed), want: fencingWith("192.168.7.1:0/0, " + deadHost),
		},
		"S2: refuses it where a daemon lives at the other address": {
			snapshot: incident(foreignRecord, nodeAddressed, daemonAt("192.168.7.1")), want: refusedBecause("CephDaemonHost"),
		},
		"fences the address on record alone, where clients lie on a storage network": {
			snapshot: incident(foreignRecord), want: fencingWith("192.168.7.1:0/0"),
		},
		"fences no more than the node's address that is on record": {
			snapshot: incident(recordOfAnotherBoot, nodeAddressed, func(s *Snapshot) {
				s.Node.Status.Addresses = append(s.Node.Status.Addresses, corev1.NodeAddress{Type: corev1.NodeInternalIP, Address: "fd00::1"})
			}),
			want: fencingWith(deadHost),
		},
	})
}

func TestMayFenceElsewhereOnlyWhereAClientIsNotOnTheNodesAddress(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		snapshot Snapshot
		want     bool
	}{
		"not while all clients are on it": {incident(), false},
		"where the record has another":    {incident(recordedClient(elsewhere)), true},
		"where the incident settled another": {
			incident(noRecord, func(s *Snapshot) {
				s.Fence.Status.Volumes = []v1alpha1.FencedVolume{{PersistentVolume: "pv-1", Phase: v1alpha1.VolumeHeld, Clients: []string{elsewhere}}}
			}), true,
		},
		"not of a cluster that is not used": {incident(recordedClient(elsewhere), func(s *Snapshot) { s.Volumes[0].ClusterID = "c2" }), false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := MayFenceElsewhere(test.snapshot, "c1"); got != test.want {
				t.Errorf("got %v", got)
			}
		})
	}
}
