package observe

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"reflect"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	"github.com/rbd-rescue/rbd-rescue/api/v1alpha1"
	"github.com/rbd-rescue/rbd-rescue/ceph"
	"github.com/rbd-rescue/rbd-rescue/remediator/plan"
	"github.com/rbd-rescue/rbd-rescue/volume"
)

// inBoot is a node that reports an address as its own.
func inBoot(name, boot, ip string) *corev1.Node {
	return &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}, Status: corev1.NodeStatus{
		Addresses: []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: ip}}, NodeInfo: corev1.NodeSystemInfo{BootID: boot},
	}}
}

func clientsIn(boot string, addresses ...string) v1alpha1.NodeClients {
	return v1alpha1.NodeClients{BootID: boot, Clients: addresses}
}

// recorded is a PersistentVolume of cluster c1 with a record.
func recorded(name string, record v1alpha1.ClientRecord) *corev1.PersistentVolume {
	text, err := json.Marshal(record)
	if err != nil {
		panic(err)
	}
	pv := withRecord(string(text))
	pv.Name = name
	pv.Spec.CSI = &corev1.CSIPersistentVolumeSource{
		Driver: "rbd.csi.ceph.com", VolumeHandle: name, VolumeAttributes: map[string]string{"clusterID": "c1", "pool": "rbd", "imageName": name},
	}
	return pv
}

// holding is a reader, with the one index that others needs.
func holding(nodes []*corev1.Node, volumes ...*corev1.PersistentVolume) client.Reader {
	builder := fake.NewClientBuilder().WithIndex(&corev1.PersistentVolume{}, indexVolumeClientIP, volumeClientIPs)
	for _, node := range nodes {
		builder.WithObjects(node.DeepCopy())
	}
	for _, pv := range volumes {
		builder.WithObjects(pv.DeepCopy())
	}
	return builder.Build()
}

// failed is the incident of node-a, in boot-1 at 10.0.0.1, which has volume pv-0. Its client is seen, so that no whole host needs to
// be fenced.
func failed() *plan.Snapshot {
	return &plan.Snapshot{
		NodeName: "node-a", Node: inBoot("node-a", "boot-1", "10.0.0.1"),
		Fence: &v1alpha1.NodeFence{Spec: v1alpha1.NodeFenceSpec{NodeName: "node-a", BootID: "boot-1"}},
		Volumes: []plan.Volume{{
			Volume:      volume.Volume{Name: "pv-0", ClusterID: "c1"},
			Attachments: []*storagev1.VolumeAttachment{{Spec: storagev1.VolumeAttachmentSpec{NodeName: "node-a"}}},
			Use:         ceph.ImageUse{ImageState: ceph.ImageState{Watchers: []ceph.Watcher{{Address: ceph.MustParseAddress("10.0.0.1:0/42")}}}},
		}},
		Clusters: map[string]plan.Cluster{"c1": {Known: true}},
	}
}

// unseen: nobody sees the node's client, so that the whole host may have to be fenced.
func unseen(s *plan.Snapshot) { s.Volumes[0].Use.Watchers = nil }

// countedReader counts what the API is asked about nodes: each one, and each page of all.
type countedReader struct {
	client.Reader
	asked int
}

func (c *countedReader) Get(ctx context.Context, key client.ObjectKey, into client.Object, options ...client.GetOption) error {
	if _, is := into.(*corev1.Node); is {
		c.asked++
	}
	return c.Reader.Get(ctx, key, into, options...)
}

func (c *countedReader) List(ctx context.Context, into client.ObjectList, options ...client.ListOption) error {
	if _, is := into.(*corev1.NodeList); is {
		c.asked++
	}
	return c.Reader.List(ctx, into, options...)
}

// A record keeps every node that its volume ever ran on: after a year of upgrades nearly all of their boots are over.
func TestALookReadsFewNodesHoweverManyBootsAreOver(t *testing.T) {
	t.Parallel()
	const volumes, boots = 200, 20
	for name, test := range map[string]struct {
		change func(*plan.Snapshot)
		// at is where the clients of boots that are over were.
		at func(node int) string
	}{
		"where clients are fenced":        {change: func(*plan.Snapshot) {}, at: elsewhere},
		"where a whole host may be":       {change: unseen, at: elsewhere},
		"where many had the same address": {change: unseen, at: func(int) string { return "10.0.0.1" }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			nodes := []*corev1.Node{inBoot("node-a", "boot-1", "10.0.0.1"), inBoot("node-b", "boot-b", "10.0.0.2")}
			for i := range boots { // some of these nodes are there, and have booted since
				nodes = append(nodes, inBoot(fmt.Sprintf("old-0-%d", i), "boot-new", elsewhere(i)))
			}
			look := func(over int) (*plan.Snapshot, int) {
				var all []*corev1.PersistentVolume
				for i := range volumes {
					record := v1alpha1.ClientRecord{"node-a": clientsIn("boot-1", "10.0.0.1:0/42"), "node-b": clientsIn("boot-b", "10.0.0.2:0/7")}
					for j := range over {
						record[fmt.Sprintf("old-%d-%d", i%10, j)] = clientsIn("boot-old", test.at(j)+":0/9")
					}
					all = append(all, recorded(fmt.Sprintf("pv-%d", i), record))
				}
				live := &countedReader{Reader: holding(nodes)}
				s := failed()
				test.change(s)
				o := &Observer{Reader: holding(nodes, all...), Live: live}
				if err := o.others(t.Context(), s); err != nil {
					t.Fatal(err)
				}
				return s, live.asked
			}
			without, before := look(0)
			with, after := look(boots)
			if after-before >= 5 {
				t.Errorf("the API is asked about nodes %d times, and %d times without boots that are over", after, before)
			}
			if !reflect.DeepEqual(with, without) {
				t.Errorf("boots that are over change what is seen: %+v, without them %+v", with, without)
			}
		})
	}
}

func elsewhere(node int) string { return fmt.Sprintf("10.0.1.%d", node) }

// S2: whatever a decision may come to, another node's client there is found.
func TestAnotherNodesClientsAreFoundWhereADecisionMayComeTo(t *testing.T) {
	t.Parallel()
	b := func(boot string) *corev1.Node { return inBoot("node-b", boot, "10.0.0.2") }
	for name, test := range map[string]struct {
		// cached are the other nodes as the cache has them, now as the API has them; nil for as the cache has them.
		cached, now []*corev1.Node
		records     []v1alpha1.ClientRecord
		change      func(*plan.Snapshot)
		want        map[string]string
	}{
		"on the failed node's address": {
			cached: []*corev1.Node{b("boot-b")}, records: []v1alpha1.ClientRecord{{"node-b": clientsIn("boot-b", "10.0.0.1:0/7")}},
			want: map[string]string{"10.0.0.1:0/7": "node-b"},
		},
		"though the cache has not heard of its boot": {
			cached: []*corev1.Node{b("boot-b")}, now: []*corev1.Node{b("boot-c")},
			records: []v1alpha1.ClientRecord{{"node-b": clientsIn("boot-c", "10.0.0.1:0/7")}},
			want:    map[string]string{"10.0.0.1:0/7": "node-b"},
		},
		"though the cache has not heard of it at all": {
			now: []*corev1.Node{b("boot-b")}, records: []v1alpha1.ClientRecord{{"node-b": clientsIn("boot-b", "10.0.0.1:0/7")}},
			want: map[string]string{"10.0.0.1:0/7": "node-b"},
		},
		"though the cache has heard of none of many": {
			now: []*corev1.Node{
				inBoot("node-b", "boot", "10.0.0.2"), inBoot("node-c", "boot", "10.0.0.3"), inBoot("node-d", "boot", "10.0.0.4"),
				inBoot("node-e", "boot", "10.0.0.5"), inBoot("node-f", "boot", "10.0.0.6"),
			},
			records: []v1alpha1.ClientRecord{
				{"gone-1": clientsIn("boot", "10.0.0.1:0/1"), "gone-2": clientsIn("boot", "10.0.0.1:0/2"), "gone-3": clientsIn("boot", "10.0.0.1:0/3")},
				{"node-b": clientsIn("boot", "10.0.0.1:0/4"), "node-c": clientsIn("boot", "10.0.0.1:0/5"), "node-d": clientsIn("boot", "10.0.0.1:0/6")},
				{"node-e": clientsIn("boot", "10.0.0.1:0/7"), "node-f": clientsIn("boot", "10.0.0.1:0/8"), "gone-1": clientsIn("boot", "10.0.0.1:0/1")},
			},
			want: map[string]string{
				"10.0.0.1:0/4": "node-b", "10.0.0.1:0/5": "node-c", "10.0.0.1:0/6": "node-d", "10.0.0.1:0/7": "node-e", "10.0.0.1:0/8": "node-f",
			},
		},
		"of the boot that the cache has and of the one that the API has: either may be the newer record's": {
			cached: []*corev1.Node{b("boot-b")}, now: []*corev1.Node{b("boot-c")},
			records: []v1alpha1.ClientRecord{
				{"node-b": clientsIn("boot-c", "10.0.0.1:0/8")}, {"node-b": clientsIn("boot-b", "10.0.0.1:0/7")}, {"node-b": clientsIn("boot-a", "10.0.0.1:0/6")},
			},
			want: map[string]string{"10.0.0.1:0/7": "node-b", "10.0.0.1:0/8": "node-b"},
		},
		"but none of a boot that is over": {
			cached: []*corev1.Node{b("boot-c")}, records: []v1alpha1.ClientRecord{{"node-b": clientsIn("boot-b", "10.0.0.1:0/7")}},
		},
		"nor the failed node's own": {
			cached: []*corev1.Node{b("boot-b")}, records: []v1alpha1.ClientRecord{{"node-a": clientsIn("boot-1", "10.0.0.1:0/42")}},
		},
		"nor one where no decision comes to": {
			cached:  []*corev1.Node{b("boot-b")},
			records: []v1alpha1.ClientRecord{{"node-a": clientsIn("boot-1", "10.0.0.1:0/42"), "node-b": clientsIn("boot-b", "10.0.0.2:0/7", "10.0.0.1:0/8")}},
			want:    map[string]string{"10.0.0.1:0/8": "node-b"},
		},
		"on the address of a client that was settled before": {
			cached: []*corev1.Node{b("boot-b")}, records: []v1alpha1.ClientRecord{{"node-b": clientsIn("boot-b", "192.168.7.1:0/7")}},
			change: func(s *plan.Snapshot) {
				s.Fence.Status.Volumes = []v1alpha1.FencedVolume{{PersistentVolume: "pv-0", Clients: []string{"192.168.7.1:0/42"}}}
			},
			want: map[string]string{"192.168.7.1:0/7": "node-b"},
		},
		"on an address that the record alone tells, once the node is gone": {
			cached: []*corev1.Node{b("boot-b")}, records: []v1alpha1.ClientRecord{{"node-b": clientsIn("boot-b", "10.0.0.1:0/7")}},
			change: func(s *plan.Snapshot) {
				unseen(s)
				s.Node = nil
				s.Volumes[0].Record = &v1alpha1.NodeClients{BootID: "boot-1", Addresses: []string{"10.0.0.1"}}
			},
			want: map[string]string{"10.0.0.1:0/7": "node-b"},
		},
		"where ceph-csi saw the failed node": {
			cached: []*corev1.Node{b("boot-b")}, records: []v1alpha1.ClientRecord{{"node-b": clientsIn("boot-b", "192.168.7.1:0/7")}},
			change: func(s *plan.Snapshot) {
				s.Volumes[0].Use.Staged = map[string]netip.Addr{"node-a": netip.MustParseAddr("192.168.7.1")}
			},
			want: map[string]string{"192.168.7.1:0/7": "node-b"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var volumes []*corev1.PersistentVolume
			for i, record := range test.records {
				volumes = append(volumes, recorded(fmt.Sprintf("pv-%d", i), record))
			}
			if test.now == nil {
				test.now = test.cached
			}
			s := failed()
			if test.change != nil {
				test.change(s)
			}
			o := &Observer{Reader: holding(test.cached, volumes...), Live: holding(test.now)}
			if err := o.others(t.Context(), s); err != nil {
				t.Fatal(err)
			}
			got, hosts := map[string]string{}, map[netip.Addr]string{}
			for address, node := range s.OtherClients {
				got[address.String()] = node
				hosts[address.IP] = s.OtherHosts[address.IP]
			}
			want := test.want
			if want == nil {
				want = map[string]string{}
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("clients of other nodes (-want +got):\n%s", diff)
			}
			if !maps.Equal(hosts, s.OtherHosts) {
				t.Errorf("their hosts are %v, want those of %v", s.OtherHosts, got)
			}
		})
	}
}

// S2: a node whose own address says nothing about its client tells that for the whole cluster.
func TestAClientBesideItsNodesAddressIsSeenThoughOnlyTheAPIKnowsItsBoot(t *testing.T) {
	t.Parallel()
	b, c := inBoot("node-b", "boot-b", "10.0.0.2"), inBoot("node-c", "boot-c", "10.0.0.3")
	record := v1alpha1.ClientRecord{"node-b": clientsIn("boot-b", "10.0.0.2:0/7"), "node-c": clientsIn("boot-c", "192.168.7.3:0/8")}
	for name, test := range map[string]struct {
		now       *corev1.Node
		addressed bool
		unlocated plan.Unlocated
	}{
		"its boot goes on": {now: c, addressed: false},
		"its boot is over": {now: inBoot("node-c", "boot-d", "10.0.0.3"), addressed: true, unlocated: plan.Unlocated{Node: "node-c"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cached := []*corev1.Node{b, inBoot("node-c", "boot-old", "10.0.0.3")}
			o := &Observer{Reader: holding(cached, recorded("pv-0", record)), Live: holding([]*corev1.Node{b, test.now})}
			s := failed()
			unseen(s)
			if err := o.others(t.Context(), s); err != nil {
				t.Fatal(err)
			}
			if s.NodeAddressed["c1"] != test.addressed || s.Unlocated["c1"] != test.unlocated {
				t.Errorf("clients lie on their nodes' addresses: %v, unlocated: %+v", s.NodeAddressed["c1"], s.Unlocated["c1"])
			}
		})
	}
}

// brokenReader is an API that answers some calls about nodes and no more.
type brokenReader struct {
	client.Reader
	answers int
}

var errBroken = errors.New("no answer")

func (b *brokenReader) Get(ctx context.Context, key client.ObjectKey, into client.Object, options ...client.GetOption) error {
	if b.answers--; b.answers < 0 {
		return errBroken
	}
	return b.Reader.Get(ctx, key, into, options...)
}

func (b *brokenReader) List(ctx context.Context, into client.ObjectList, options ...client.ListOption) error {
	if b.answers--; b.answers < 0 {
		return errBroken
	}
	return b.Reader.List(ctx, into, options...)
}

// S2: that the API does not answer is no sign that a boot is over.
func TestALookFailsWhereTheAPIDoesNotTellABoot(t *testing.T) {
	t.Parallel()
	record := v1alpha1.ClientRecord{}
	for i := range 10 {
		record[fmt.Sprintf("node-%d", i)] = clientsIn("boot", "10.0.0.1:0/7")
	}
	for answers := range 4 {
		o := &Observer{Reader: holding(nil, recorded("pv-0", record)), Live: &brokenReader{Reader: holding(nil), answers: answers}}
		if err := o.others(t.Context(), failed()); !errors.Is(err, errBroken) {
			t.Errorf("after %d answers: %v", answers, err)
		}
	}
}
