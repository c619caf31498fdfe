package recorder

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/rbd-rescue/rbd-rescue/api/v1alpha1"
	"github.com/rbd-rescue/rbd-rescue/ceph"
)

func node(name, ip, boot string, ready corev1.ConditionStatus) *corev1.Node {
	return &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: name, UID: types.UID(name)},
		Status: corev1.NodeStatus{
			Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: ready}},
			Addresses:  []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: ip}},
			NodeInfo:   corev1.NodeSystemInfo{BootID: boot, MachineID: "machine-" + name},
		},
	}
}

func watchers(addresses ...string) []ceph.Watcher {
	var list []ceph.Watcher
	for _, a := range addresses {
		list = append(list, ceph.Watcher{Address: ceph.MustParseAddress(a)})
	}
	return list
}

func clientsOf(boot string, addresses ...string) v1alpha1.NodeClients {
	return v1alpha1.NodeClients{NodeUID: "a", BootID: boot, MachineID: "machine-a", Addresses: []string{"10.0.0.1"}, Clients: addresses}
}

// noClient is a boot that was noted, and has no client yet.
func noClient(boot string, before ...string) v1alpha1.NodeClients {
	return v1alpha1.NodeClients{
		NodeUID: "a", BootID: boot, MachineID: "machine-a", Addresses: []string{"10.0.0.1"}, Clients: []string{}, Before: before,
	}
}

func covering(clients v1alpha1.NodeClients, pods ...types.UID) v1alpha1.NodeClients {
	clients.Pods = pods
	return clients
}

func after(clients v1alpha1.NodeClients, before ...string) v1alpha1.NodeClients {
	clients.Before = before
	return clients
}

func TestNextRecord(t *testing.T) {
	t.Parallel()
	a := node("a", "10.0.0.1", "boot-1", corev1.ConditionTrue)
	b := node("b", "10.0.0.2", "boot-9", corev1.ConditionTrue)
	others := map[netip.Addr]string{netip.MustParseAddr("10.0.0.2"): "b"}
	for name, test := range map[string]struct {
		seen     sighting
		want     v1alpha1.ClientRecord
		complete bool
	}{
		"records the watcher of the one node that has the volume": {
			seen:     sighting{attached: []*corev1.Node{a}, watchers: watchers("10.0.0.1:0/42")},
			want:     v1alpha1.ClientRecord{"a": clientsOf("boot-1", "10.0.0.1:0/42")},
			complete: true,
		},
		"records a watcher on another network of that node": {
			seen:     sighting{attached: []*corev1.Node{a}, watchers: watchers("192.168.7.1:0/42")},
			want:     v1alpha1.ClientRecord{"a": clientsOf("boot-1", "192.168.7.1:0/42")},
			complete: true,
		},
		"S2: leaves an rbd-mirror daemon out": {
			seen: sighting{
				attached: []*corev1.Node{a}, watchers: watchers("10.0.0.1:0/42", "10.1.0.6:0/7"),
				mirrors: map[netip.Addr]bool{netip.MustParseAddr("10.1.0.6"): true},
			},
			want:     v1alpha1.ClientRecord{"a": clientsOf("boot-1", "10.0.0.1:0/42")},
			complete: true,
		},
		"S2: leaves out what may be an rbd-mirror daemon of another site": {
			seen:     sighting{attached: []*corev1.Node{a}, watchers: watchers("10.0.0.1:0/42", "10.1.0.7:0/7"), mayBeMirrors: true},
			want:     v1alpha1.ClientRecord{"a": clientsOf("boot-1", "10.0.0.1:0/42")},
			complete: true,
		},
		"S2: leaves out a client on the host of another daemon of Ceph": {
			seen: sighting{
				attached: []*corev1.Node{a}, watchers: watchers("10.0.0.1:0/42", "10.1.0.8:0/7"),
				daemons: map[netip.Addr]ceph.Daemon{netip.MustParseAddr("10.1.0.8"): ceph.Manager},
			},
			want:     v1alpha1.ClientRecord{"a": clientsOf("boot-1", "10.0.0.1:0/42")},
			complete: true,
		},
		"records a client on the host of a daemon that opens no image, or that ceph-csi calls the node's": {
			seen: sighting{
				attached: []*corev1.Node{a}, watchers: watchers("192.168.7.1:0/42", "192.168.7.2:0/43"),
				daemons: map[netip.Addr]ceph.Daemon{netip.MustParseAddr("192.168.7.1"): ceph.ObjectStore, netip.MustParseAddr("192.168.7.2"): ceph.Manager},
				staged:  map[string]netip.Addr{"a": netip.MustParseAddr("192.168.7.2")},
			},
			want:     v1alpha1.ClientRecord{"a": clientsOf("boot-1", "192.168.7.1:0/42", "192.168.7.2:0/43")},
			complete: true,
		},
		"records a watcher on the node's own address though a daemon of Ceph lives there": {
			seen: sighting{
				attached: []*corev1.Node{a}, watchers: watchers("10.0.0.1:0/42"),
				daemons: map[netip.Addr]ceph.Daemon{netip.MustParseAddr("10.0.0.1"): ceph.Manager},
			},
			want:     v1alpha1.ClientRecord{"a": clientsOf("boot-1", "10.0.0.1:0/42")},
			complete: true,
		},
		"records a watcher on the node's own address though a mirror daemon lives there": {
			seen: sighting{
				attached: []*corev1.Node{a}, watchers: watchers("10.0.0.1:0/42"),
				mirrors: map[netip.Addr]bool{netip.MustParseAddr("10.0.0.1"): true}, mayBeMirrors: true,
			},
			want:     v1alpha1.ClientRecord{"a": clientsOf("boot-1", "10.0.0.1:0/42")},
			complete: true,
		},
		"looks again while the image is not open yet": {
			seen: sighting{attached: []*corev1.Node{a}},
			want: v1alpha1.ClientRecord{},
		},
		"keeps what is known of this boot when the watcher is gone for a moment": {
			seen:     sighting{record: v1alpha1.ClientRecord{"a": clientsOf("boot-1", "10.0.0.1:0/42")}, attached: []*corev1.Node{a}},
			want:     v1alpha1.ClientRecord{"a": clientsOf("boot-1", "10.0.0.1:0/42")},
			complete: true,
		},
		"adds the client of a new mapping in the same boot": {
			seen: sighting{
				record:   v1alpha1.ClientRecord{"a": clientsOf("boot-1", "10.0.0.1:0/42")},
				attached: []*corev1.Node{a}, watchers: watchers("10.0.0.1:0/43"),
			},
			want:     v1alpha1.ClientRecord{"a": clientsOf("boot-1", "10.0.0.1:0/42", "10.0.0.1:0/43")},
			complete: true,
		},
		"forgets the clients of the boot before": {
			seen: sighting{
				record:   v1alpha1.ClientRecord{"a": clientsOf("boot-0", "10.0.0.1:0/42")},
				attached: []*corev1.Node{a}, watchers: watchers("10.0.0.1:0/43"),
			},
			want:     v1alpha1.ClientRecord{"a": after(clientsOf("boot-1", "10.0.0.1:0/43"), "10.0.0.1:0/42")},
			complete: true,
		},
		"S3: notes a new boot at once, before it has a client": {
			seen: sighting{record: v1alpha1.ClientRecord{"a": clientsOf("boot-0", "10.0.0.1:0/42")}, attached: []*corev1.Node{a}},
			want: v1alpha1.ClientRecord{"a": noClient("boot-1", "10.0.0.1:0/42")},
		},
		"S3: notes a new boot of a node that is not Ready, and takes no watcher for it": {
			seen: sighting{
				record:   v1alpha1.ClientRecord{"a": clientsOf("boot-0", "10.0.0.1:0/42")},
				attached: []*corev1.Node{node("a", "10.0.0.1", "boot-1", corev1.ConditionFalse)}, watchers: watchers("10.0.0.1:0/43"),
			},
			want: v1alpha1.ClientRecord{"a": noClient("boot-1", "10.0.0.1:0/42")},
		},
		"takes no client of the boot before for one of this boot, once this boot is noted": {
			seen: sighting{
				record: v1alpha1.ClientRecord{"a": noClient("boot-1", "10.0.0.1:0/42")}, attached: []*corev1.Node{a}, watchers: watchers("10.0.0.1:0/42"),
			},
			want: v1alpha1.ClientRecord{"a": noClient("boot-1", "10.0.0.1:0/42")},
		},
		"keeps the clients of two boots before": {
			seen: sighting{record: v1alpha1.ClientRecord{"a": after(clientsOf("boot-0", "10.0.0.1:0/42"), "10.0.0.1:0/41")}, attached: []*corev1.Node{a}},
			want: v1alpha1.ClientRecord{"a": noClient("boot-1", "10.0.0.1:0/41", "10.0.0.1:0/42")},
		},
		"keeps the clients of this boot when its Node object was made anew": {
			seen: sighting{
				record:   v1alpha1.ClientRecord{"a": {NodeUID: "old", BootID: "boot-1", MachineID: "machine-a", Clients: []string{"10.0.0.1:0/42"}}},
				attached: []*corev1.Node{a}, watchers: watchers("10.0.0.1:0/42"),
			},
			want:     v1alpha1.ClientRecord{"a": clientsOf("boot-1", "10.0.0.1:0/42")},
			complete: true,
		},
		"takes no client of the boot before for one of this boot": {
			seen: sighting{
				record:   v1alpha1.ClientRecord{"a": clientsOf("boot-0", "10.0.0.1:0/42")},
				attached: []*corev1.Node{a}, watchers: watchers("10.0.0.1:0/42"), running: map[string][]types.UID{"a": {"pod-1"}},
			},
			want: v1alpha1.ClientRecord{"a": noClient("boot-1", "10.0.0.1:0/42")},
		},
		"notes the pods that ran before it looked": {
			seen:     sighting{attached: []*corev1.Node{a}, watchers: watchers("10.0.0.1:0/42"), running: map[string][]types.UID{"a": {"pod-1"}}},
			want:     v1alpha1.ClientRecord{"a": covering(clientsOf("boot-1", "10.0.0.1:0/42"), "pod-1")},
			complete: true,
		},
		"looks again while a pod runs through a client that it does not see": {
			seen: sighting{
				record:   v1alpha1.ClientRecord{"a": covering(clientsOf("boot-1", "10.0.0.1:0/42"), "pod-1")},
				attached: []*corev1.Node{a}, running: map[string][]types.UID{"a": {"pod-2"}},
			},
			want: v1alpha1.ClientRecord{"a": covering(clientsOf("boot-1", "10.0.0.1:0/42"), "pod-1")},
		},
		"S2: never takes a watcher on another node's address": {
			seen: sighting{attached: []*corev1.Node{a}, watchers: watchers("10.0.0.2:0/7"), others: others},
			want: v1alpha1.ClientRecord{},
		},
		"S2: never takes the watcher of a pod on another node": {
			seen: sighting{
				attached: []*corev1.Node{a}, watchers: watchers("10.0.0.1:0/42", "10.128.0.9:0/77"), others: map[netip.Addr]string{netip.MustParseAddr("10.128.0.9"): "b"},
			},
			want:     v1alpha1.ClientRecord{"a": clientsOf("boot-1", "10.0.0.1:0/42")},
			complete: true,
		},
		"S1: does not take a pod for looked at when only the watcher of a pod on another node is there, which an earlier version recorded": {
			seen: sighting{
				record:   v1alpha1.ClientRecord{"a": covering(clientsOf("boot-1", "10.0.0.1:0/42", "10.128.0.9:0/77"), "pod-1")},
				attached: []*corev1.Node{a}, watchers: watchers("10.128.0.9:0/77"), others: map[netip.Addr]string{netip.MustParseAddr("10.128.0.9"): "b"},
				running: map[string][]types.UID{"a": {"pod-2"}},
			},
			want: v1alpha1.ClientRecord{"a": covering(clientsOf("boot-1", "10.0.0.1:0/42", "10.128.0.9:0/77"), "pod-1")},
		},
		"S2: never takes a client that is recorded for another node": {
			seen: sighting{
				record:   v1alpha1.ClientRecord{"b": {BootID: "boot-9", Clients: []string{"192.168.7.2:0/7"}}},
				attached: []*corev1.Node{a}, watchers: watchers("192.168.7.2:0/7"),
			},
			want: v1alpha1.ClientRecord{"b": {BootID: "boot-9", Clients: []string{"192.168.7.2:0/7"}}},
		},
		"S2: never takes a client that an earlier boot of another node had": {
			seen: sighting{
				record:   v1alpha1.ClientRecord{"b": {BootID: "boot-9", Before: []string{"192.168.7.2:0/7"}}},
				attached: []*corev1.Node{a}, watchers: watchers("192.168.7.2:0/7"),
			},
			want: v1alpha1.ClientRecord{"b": {BootID: "boot-9", Before: []string{"192.168.7.2:0/7"}}},
		},
		"S2: never takes rbd-rescue's own client": {
			seen: sighting{attached: []*corev1.Node{a}, watchers: watchers("10.0.0.1:0/1"), own: []ceph.Address{ceph.MustParseAddress("10.0.0.1:0/1")}},
			want: v1alpha1.ClientRecord{},
		},
		"S2: records nothing for a node that is not Ready": {
			seen: sighting{
				attached: []*corev1.Node{node("a", "10.0.0.1", "boot-1", corev1.ConditionUnknown)},
				watchers: watchers("10.0.0.1:0/42"),
			},
			want: v1alpha1.ClientRecord{},
		},
		"tells the clients of two nodes apart by their addresses": {
			seen: sighting{attached: []*corev1.Node{a, b}, watchers: watchers("10.0.0.1:0/42", "10.0.0.2:0/7")},
			want: v1alpha1.ClientRecord{
				"a": clientsOf("boot-1", "10.0.0.1:0/42"),
				"b": {NodeUID: "b", BootID: "boot-9", MachineID: "machine-b", Addresses: []string{"10.0.0.2"}, Clients: []string{"10.0.0.2:0/7"}},
			},
			complete: true,
		},
		"does not guess whose a watcher is when two nodes have the volume": {
			seen: sighting{attached: []*corev1.Node{a, b}, watchers: watchers("192.168.7.1:0/42")},
			want: v1alpha1.ClientRecord{},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, complete := next(test.seen)
			if diff := cmp.Diff(test.want, got); diff != "" || complete != test.complete {
				t.Errorf("complete %v, record (-want +got):\n%s", complete, diff)
			}
		})
	}
}

// S1: a node's one client may be as old as its boot, and known before all that were seen since.
func TestARecordNeverForgetsAClientThatItSeesNow(t *testing.T) {
	t.Parallel()
	a := node("a", "10.0.0.1", "boot-1", corev1.ConditionTrue)
	var known []string
	for nonce := range clientsKept {
		known = append(known, fmt.Sprintf("10.0.0.1:0/%d", nonce+1))
	}
	got, complete := next(sighting{
		record: v1alpha1.ClientRecord{"a": clientsOf("boot-1", known...)}, attached: []*corev1.Node{a}, watchers: watchers(known[0], "10.0.0.1:0/99"),
	})
	want := append([]string{known[0]}, append(slices.Clone(known[2:]), "10.0.0.1:0/99")...)
	if diff := cmp.Diff(want, got["a"].Clients); diff != "" || !complete {
		t.Errorf("complete %v: %s", complete, diff)
	}
	for nonce := range clientsKept + 4 {
		known = append(known, fmt.Sprintf("10.0.0.1:0/%d", nonce+100))
	}
	if got, _ := next(sighting{attached: []*corev1.Node{a}, watchers: watchers(known...)}); len(got["a"].Clients) != len(known) {
		t.Errorf("of %d clients that have the image open %d are on record", len(known), len(got["a"].Clients))
	}
}

func TestARecordTellsTheMachine(t *testing.T) {
	t.Parallel()
	a := node("a", "10.0.0.1", "boot-1", corev1.ConditionTrue)
	a.Status.NodeInfo.SystemUUID = "system-a"
	for name, before := range map[string]v1alpha1.ClientRecord{"a new boot": nil, "a record of an earlier version": {"a": clientsOf("boot-1", "10.0.0.1:0/42")}} {
		got, _ := next(sighting{record: before, attached: []*corev1.Node{a}, watchers: watchers("10.0.0.1:0/42")})
		if entry := got["a"]; entry.MachineID != "machine-a" || entry.SystemUUID != "system-a" {
			t.Errorf("%s: %+v", name, entry)
		}
	}
}

// S3: nothing tells that the boot of a machine is over which another one has taken the name of.
func TestARecordKeepsTheClientsOfAMachineThatWasReplaced(t *testing.T) {
	t.Parallel()
	record := v1alpha1.ClientRecord{"a": clientsOf("boot-1", "10.0.0.1:0/42")}
	for _, step := range []struct {
		boot, machine string
		want          []string
	}{
		{"boot-2", "machine-a", nil},
		{"boot-3", "machine-b", []string{"10.0.0.1:0/boot-2"}},
		{"boot-4", "machine-b", []string{"10.0.0.1:0/boot-2"}},
		{"boot-5", "machine-c", []string{"10.0.0.1:0/boot-2", "10.0.0.1:0/boot-4"}},
	} {
		a := node("a", "10.0.0.1", step.boot, corev1.ConditionTrue)
		a.Status.NodeInfo.MachineID = step.machine
		record, _ = next(sighting{record: record, attached: []*corev1.Node{a}})
		if diff := cmp.Diff(step.want, record["a"].Replaced); diff != "" {
			t.Errorf("%s: %s", step.boot, diff)
		}
		entry := record["a"]
		entry.Clients = []string{"10.0.0.1:0/" + step.boot}
		record["a"] = entry
	}
}
