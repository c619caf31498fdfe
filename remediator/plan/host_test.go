package plan

import (
	"errors"
	"net/netip"
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"github.com/rbd-rescue/rbd-rescue/api/v1alpha1"
	"github.com/rbd-rescue/rbd-rescue/ceph"
)

const deadHost = "10.0.0.1:0/0"

// recordOfAnotherBoot says where the node's clients lie, but not which this boot has.
func recordOfAnotherBoot(s *Snapshot) { s.Volumes[0].Record.BootID = "boot-0" }

func stagedBy(node, ip string) option {
	return func(s *Snapshot) { s.Volumes[0].Use.Staged = map[string]netip.Addr{node: netip.MustParseAddr(ip)} }
}

func TestNextChoosesTheScope(t *testing.T) {
	t.Parallel()
	checkNext(t, map[string]nextCase{
		"the recorded client, while every pod was looked at": {snapshot: incident(), want: fencingWith(deadClient)},
		"the whole host, when a pod started after the last look": {
			snapshot: incident(func(s *Snapshot) { s.Volumes[0].Record.Pods = nil }), want: fencingWith(deadClient + ", " + deadHost),
		},
		"the watcher, when a pod started after the last look and the image is still open": {
			snapshot: incident(func(s *Snapshot) { s.Volumes[0].Record.Pods = nil }, watcherAt("10.0.0.1:0/43")),
			want:     fencingWith(deadClient + ", 10.0.0.1:0/43"),
		},
		"the whole host, when no pod is left that was looked at": {
			snapshot: incident(func(s *Snapshot) {
				s.Volumes[0].Users = nil
				s.Pods = nil
				s.Volumes[0].Users = append(s.Volumes[0].Users, podOn("", "db-0"))
			}),
			want: fencingWith(deadClient + ", " + deadHost),
		},
		"the whole host, by a record of another boot": {snapshot: incident(recordOfAnotherBoot), want: fencingWith(deadHost)},
		"the whole host, by the clients of an earlier boot, while this one has none": {
			snapshot: incident(func(s *Snapshot) {
				s.Volumes[0].Record.Clients, s.Volumes[0].Record.Before = nil, []string{deadClient}
			}),
			want: fencingWith(deadHost),
		},
		"the whole host, by ceph-csi's own record": {snapshot: incident(noRecord, stagedBy("node-a", "10.0.0.1")), want: fencingWith(deadHost)},
		"the whole host at the node's address, where all other clients lie on their node's": {
			snapshot: incident(noRecord, func(s *Snapshot) { s.NodeAddressed["c1"] = true }), want: fencingWith(deadHost),
		},
		"the whole host at the node's own address, though a node without volumes is not located": {
			snapshot: incident(recordOfAnotherBoot, unlocated(Unlocated{Node: "node-c"})), want: fencingWith(deadHost),
		},
		"the whole host at the address that the record has of a node which is gone": {
			snapshot: incident(unlocated(Unlocated{Node: "node-c"}), func(s *Snapshot) {
				s.Node, s.Pods, s.Volumes[0].Users = nil, nil, []*corev1.Pod{podOn("", "db-0")}
				s.Volumes[0].Record.Addresses = []string{"10.0.0.1"}
			}),
			want: effect{
				Phase: v1alpha1.PhaseFencing, Fenced: "FenceUnproven", Volume: "Held Waiting", Events: []string{"NodeFence FenceStarted"},
				Steps: []string{"add 10.0.0.1:0/42, 10.0.0.1:0/0 to the blocklist of cluster c1 for 87600h0m0s"},
			},
		},
		"the whole host that a person names, though another node may be there": {
			snapshot: incident(noRecord, personMade, unlocated(Unlocated{Node: "node-b", WithVolumes: "node-b"}), func(s *Snapshot) {
				s.Fence.Spec.Clients = []string{deadHost}
			}),
			want: fencingWith(deadHost),
		},
		"the owner of the exclusive lock as well": {
			snapshot: incident(func(s *Snapshot) {
				s.Volumes[0].Use.LockOwners = []ceph.Address{ceph.MustParseAddress("10.0.0.1:0/44")}
			}),
			want: fencingWith(deadClient + ", 10.0.0.1:0/44"),
		},
	})
}

func unlocated(u Unlocated) option {
	return func(s *Snapshot) { s.Unlocated = map[string]Unlocated{"c1": u} }
}

func TestNextRefusesAHost(t *testing.T) {
	t.Parallel()
	deadIP := netip.MustParseAddr("10.0.0.1")
	checkNext(t, map[string]nextCase{
		"S2: when nothing tells where the clients lie": {snapshot: incident(noRecord), want: refusedBecause("ClientUnknown")},
		"S2: that is another node's address, too": {
			snapshot: incident(recordOfAnotherBoot, func(s *Snapshot) { s.OtherNodes[deadIP] = "node-b" }), want: refusedBecause("SharedAddress"),
		},
		"S2: on which another node's clients were seen": {
			snapshot: incident(recordOfAnotherBoot, func(s *Snapshot) { s.OtherHosts[deadIP] = "node-b" }), want: refusedBecause("SharedAddress"),
		},
		"S2: while a node with volumes may reach Ceph from anywhere": {
			snapshot: incident(recordOfAnotherBoot, unlocated(Unlocated{Node: "node-b", WithVolumes: "node-b"})), want: refusedBecause("SharedAddress"),
		},
		"S2: that is not the node's own address, while any other node may use it too": {
			snapshot: incident(recordOfAnotherBoot, unlocated(Unlocated{Node: "node-c"}), func(s *Snapshot) {
				s.Volumes[0].Record.Clients = []string{"192.168.7.1:0/42"}
			}),
			want: refusedBecause("SharedAddress"),
		},
		"S2: on which ceph-csi saw another node": {
			snapshot: incident(recordOfAnotherBoot, stagedBy("node-b", "10.0.0.1")), want: refusedBecause("SharedAddress"),
		},
		"S2: on which a daemon of Ceph lives": {
			snapshot: incident(recordOfAnotherBoot, func(s *Snapshot) {
				s.changeCluster(func(c *Cluster) { c.Daemons[deadIP] = "an OSD" })
			}),
			want: refusedBecause("CephDaemonHost"),
		},
		"S2: from which rbd-rescue itself speaks with Ceph": {
			snapshot: incident(recordOfAnotherBoot, func(s *Snapshot) {
				s.changeCluster(func(c *Cluster) { c.Own = []ceph.Address{ceph.MustParseAddress("10.0.0.1:0/99")} })
			}),
			want: refusedBecause("OwnClient"),
		},
		"S2: while the hosts of Ceph's daemons cannot be read": {
			snapshot: incident(recordOfAnotherBoot, func(s *Snapshot) {
				s.changeCluster(func(c *Cluster) { c.Daemons, c.DaemonsError = nil, errors.New("no answer") })
			}),
			want: effect{
				Phase: "Pending", Fenced: "CephUnreachable", Volume: "Held CephUnreachable",
				Events: []string{"NodeFence CephUnreachable", "Node CephUnreachable"},
			},
		},
		"S2: whose lock is held by a client that is nobody's": {
			snapshot: incident(func(s *Snapshot) { s.Volumes[0].Use.LockOwners = []ceph.Address{ceph.MustParseAddress("10.9.9.9:0/1")} }),
			want:     refusedBecause("ForeignClient"),
		},
		"S2: when the record cannot be read": {
			snapshot: incident(func(s *Snapshot) { s.Volumes[0].RecordError = errors.New("no JSON") }), want: refusedBecause("ClientUnknown"),
		},
	})
}

func TestMayFenceHostOnlyWhereAClientMayBeUnknown(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		snapshot Snapshot
		want     bool
	}{
		"not while the record is complete": {incident(), false},
		"without a record":                 {incident(noRecord), true},
		"while a client is nobody's yet, since other nodes' records are read later": {incident(noRecord, watcherAt("10.0.0.77:0/7")), true},
		"not for a known client on another network":                                 {incident(recordedClient(elsewhere)), false},
		"not of a cluster that is not used":                                         {incident(noRecord, func(s *Snapshot) { s.Volumes[0].ClusterID = "c2" }), false},
		"when a person names a host":                                                {incident(personMade, func(s *Snapshot) { s.Fence.Spec.Clients = []string{deadHost} }), true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := MayFenceHost(test.snapshot, "c1"); got != test.want {
				t.Errorf("got %v", got)
			}
		})
	}
}

func TestNextTellsWhenAnotherNodeTakesAFencedAddress(t *testing.T) {
	t.Parallel()
	s := incident(recordOfAnotherBoot, taintedNode)
	s.Fence.Status = Next(s).Status
	s.Clusters["c1"].Map.Blocklist[ceph.MustParseAddress(deadHost)] = s.Now.Add(entryTTL)
	barrierAt(10)(&s)
	s.Fence.Status = Next(s).Status
	s.OtherNodes[netip.MustParseAddr("10.0.0.1")] = "node-new"
	var told []string
	for _, e := range Next(s).Events {
		if e.Reason == v1alpha1.ReasonFencedAddressTaken {
			told = append(told, e.Regarding.Kind+" "+e.Regarding.Name)
		}
	}
	if want := []string{"NodeFence node-a-1", "Node node-new"}; !slices.Equal(told, want) {
		t.Errorf("told %v, want %v", told, want)
	}
}
