package plan

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/rbd-rescue/rbd-rescue/api/v1alpha1"
	"github.com/rbd-rescue/rbd-rescue/ceph"
)

// provisioner is a client of a CSI provisioner, whose pod on node-b has an address of its own.
const provisioner = "10.128.0.9:0/77"

func provisionerOnNodeB(s *Snapshot) {
	s.OtherPods = map[netip.Addr]string{ceph.MustParseAddress(provisioner).IP: "node-b"}
}

// recordedBeside: the record has another client, too, and was not looked at since the pod of the node started.
func recordedBeside(address string) option {
	return func(s *Snapshot) {
		s.Volumes[0].Record.Clients, s.Volumes[0].Record.Pods = []string{deadClient, address}, nil
	}
}

func named(clients ...string) option {
	return func(s *Snapshot) {
		personMade(s)
		s.Fence.Spec.Clients = clients
	}
}

func TestNextOfAClientOfAPodOnAnotherNode(t *testing.T) {
	t.Parallel()
	checkNext(t, map[string]nextCase{
		"S2: waits while it has the image open": {
			snapshot: incident(provisionerOnNodeB, watcherAt(provisioner)), want: refusedBecause("ForeignClient"),
		},
		"S2: waits, too, where the other node's record has it": {
			snapshot: incident(provisionerOnNodeB, watcherAt(provisioner), func(s *Snapshot) { s.OtherClients[ceph.MustParseAddress(provisioner)] = "node-b" }),
			want:     refusedBecause("ForeignClient"),
		},
		"S2: waits while it owns the lock": {
			snapshot: incident(provisionerOnNodeB, func(s *Snapshot) { s.Volumes[0].Use.LockOwners = []ceph.Address{ceph.MustParseAddress(provisioner)} }),
			want:     refusedBecause("ForeignClient"),
		},
		"goes on once it has closed the image": {
			snapshot: incident(provisionerOnNodeB), want: fencingWith(deadClient),
		},
		"S1: refuses it where it is on record, be it the only one that is seen: the client of a pod that came since is not known": {
			snapshot: incident(provisionerOnNodeB, recordedBeside(provisioner), watcherAt(provisioner)), want: refusedBecause("HealthyClient"),
		},
		"S2: refuses it where it is on record, be the image open or not": {
			snapshot: incident(provisionerOnNodeB, recordedClient(provisioner)), want: refusedBecause("HealthyClient"),
		},
		"S2: refuses it where the incident has settled it": {
			snapshot: incident(provisionerOnNodeB, noRecord, func(s *Snapshot) {
				s.Fence.Status.Volumes = []v1alpha1.FencedVolume{{PersistentVolume: "pv-1", Phase: v1alpha1.VolumeHeld, Clients: []string{provisioner}}}
			}),
			want: refusedBecause("HealthyClient"),
		},
		"S2: refuses its whole host": {
			snapshot: incident(provisionerOnNodeB, recordOfAnotherBoot, recordedClient(provisioner)), want: refusedBecause("SharedAddress"),
		},
		"S2: refuses its whole host, whoever names it": {
			snapshot: incident(provisionerOnNodeB, named(ceph.MustParseAddress(provisioner).Host().String())), want: refusedBecause("SharedAddress"),
		},
		"fences it where a person says that it is the node's": {
			snapshot: incident(provisionerOnNodeB, noRecord, named(provisioner), watcherAt(provisioner)), want: fencingWith(provisioner),
		},
		"leaves it alone on a volume that several nodes may have": {
			snapshot: incident(shared, provisionerOnNodeB, watcherAt(provisioner)), want: fencingWith(deadClient),
		},
		"leaves it alone on a volume that Kubernetes has moved": {
			snapshot: incident(movedTo("node-b"), hostUnfit, provisionerOnNodeB, watcherAt(provisioner)), want: fencingWith(deadClient),
		},
		"S2: leaves it alone where it is an rbd-mirror daemon's": {
			snapshot: incident(provisionerOnNodeB, watcherAt(provisioner), mirroredBy("10.128.0.9")), want: fencingWith(deadClient),
		},
	})
}

func TestARefusalForAnothersClientSaysWhatToDo(t *testing.T) {
	t.Parallel()
	offRecord := "take it out of annotation rbd-rescue.io/clients of PersistentVolume pv-1"
	recordedFor := func(other string) option {
		return func(s *Snapshot) { s.OtherClients[ceph.MustParseAddress(deadClient)] = other }
	}
	for name, test := range map[string]struct {
		snapshot Snapshot
		says     []string
		not      string
	}{
		"a pod's that has the image open": {
			snapshot: incident(provisionerOnNodeB, watcherAt(provisioner)), says: []string{provisioner, "a pod on node node-b", "goes on by itself"}, not: offRecord,
		},
		"a pod's that is on record":         {snapshot: incident(provisionerOnNodeB, recordedClient(provisioner)), says: []string{provisioner, "a pod on node node-b", offRecord}},
		"one that both nodes' records have": {snapshot: incident(recordedFor("node-b")), says: []string{deadClient, "recorded for node node-b", offRecord}},
		"one on another node's address":     {snapshot: incident(recordedClient(otherClient)), says: []string{otherClient, "the address of node node-b", offRecord}},
		"one that only another node's record has": {
			snapshot: incident(noRecord, watcherAt(deadClient), recordedFor("node-b")), says: []string{deadClient, "recorded for node node-b"}, not: offRecord,
		},
		"a pod's whole host": {
			snapshot: incident(provisionerOnNodeB, recordOfAnotherBoot, recordedClient(provisioner)),
			says:     []string{"10.128.0.9", "a pod on node node-b", "annotation rbd-rescue.io/clients"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := Next(test.snapshot).Status.Volumes[0].Message
			for _, want := range test.says {
				if !strings.Contains(got, want) {
					t.Errorf("it says: %s; not: %s", got, want)
				}
			}
			if test.not != "" && strings.Contains(got, test.not) {
				t.Errorf("it says: %s", got)
			}
		})
	}
}
