package doctor

import (
	"errors"
	"net/netip"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/rbd-rescue/rbd-rescue/api/v1alpha1"
	"github.com/rbd-rescue/rbd-rescue/ceph"
	"github.com/rbd-rescue/rbd-rescue/volume"
)

var now = time.Date(2026, 11, 26, 3, 0, 0, 0, time.UTC)

func node(name, address string) corev1.Node {
	return corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}, Status: corev1.NodeStatus{
		Addresses:  []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: address}},
		Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}},
		NodeInfo:   corev1.NodeSystemInfo{BootID: "boot-" + name},
	}}
}

// inUse is a volume that a pod on a node uses, with its client on record.
func inUse(name, on, client string) Volume {
	return Volume{
		Volume: volume.Volume{Name: name, ClusterID: "main", Pool: "kubernetes", Image: "csi-" + name, Exclusive: true, Claim: types.NamespacedName{Namespace: "shop", Name: name}},
		Driver: "rbd.csi.ceph.com",
		Record: v1alpha1.ClientRecord{on: {BootID: "boot-" + on, Clients: []string{client}, Pods: []types.UID{"pod-" + types.UID(name)}}},
		Nodes: []Use{{Node: on, Since: now.Add(-time.Hour), Pods: []*corev1.Pod{
			{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: name, UID: "pod-" + types.UID(name)}},
		}}},
	}
}

func healthyInside() Inside {
	return Inside{
		Now: now, APITime: now.Add(-time.Second), Namespace: "rbd-rescue",
		Clusters: []Cluster{{
			ID: "main", User: "rbd-rescue", Epoch: 42, Now: now, Time: now.Add(-2 * time.Second), Rights: ceph.BlocklistRights{Word: "blocklist"},
			Pools:   []Pool{{PoolRef: ceph.PoolRef{Pool: "kubernetes"}, Volumes: 2, Image: "csi-db"}},
			Daemons: map[netip.Addr]ceph.Daemon{netip.MustParseAddr("10.0.1.1"): ceph.Monitor},
		}},
		Nodes:   []corev1.Node{node("a", "10.0.0.1"), node("b", "10.0.0.2")},
		Volumes: []Volume{inUse("db", "a", "10.0.0.1:0/11"), inUse("web", "b", "10.0.0.2:0/22")},
		Drivers: []storagev1.CSIDriver{{ObjectMeta: metav1.ObjectMeta{Name: "rbd.csi.ceph.com"}}},
		Caches:  []Cache{{Kind: "Pod", Live: 100, Cached: 100}},
	}
}

func refusedBy(command string) error {
	return &ceph.CommandError{Command: command, Errno: syscall.EACCES}
}

func TestInsideAHealthyClusterAllIsWell(t *testing.T) {
	t.Parallel()
	found := healthyInside().Findings()
	compare(t, found, nil)
	everyCheck(t, found, Checks[:10])
}

func TestInside(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		fault  func(*Inside)
		want   []string
		remedy string // of the first that is told, if it is given
	}{
		"Ceph does not answer": {
			fault: func(f *Inside) {
				f.Clusters[0] = Cluster{ID: "main", User: "rbd-rescue", Unreachable: errors.New("connecting to monitors 10.0.1.1:6789: timed out")}
			},
			want: []string{"error ceph: Ceph cluster main cannot be asked: connecting to monitors 10.0.1.1:6789: timed out."},
		},
		"the user may write no entries": {
			fault: func(f *Inside) { f.Clusters[0].Rights.Add = refusedBy("osd blocklist") },
			want:  []string{"error ceph-caps: client.rbd-rescue of Ceph cluster main may not add to the blocklist: no node can be fenced."},
			remedy: `Run: ceph auth caps client.rbd-rescue mon 'allow r, allow command "osd blocklist"' osd 'profile rbd-read-only pool=kubernetes, allow rwx pool=kubernetes object_prefix rbd_header., allow rwx pool=kubernetes object_prefix rbd_object_map.'. ` +
				"Then restart the remediator.",
		},
		"the user may write entries and not remove them, as with ceph-csi's own caps": {
			fault: func(f *Inside) { f.Clusters[0].Rights.Remove = refusedBy("osd blocklist") },
			want:  []string{"error ceph-caps: client.rbd-rescue of Ceph cluster main may not remove from the blocklist: no fence can be lifted: a node stays shut out after its reboot."},
		},
		"Ceph stopped to answer": {
			fault: func(f *Inside) { f.Clusters[0].Rights.Add = ceph.ErrInDoubt },
			want:  []string{"warning ceph-caps: Whether client.rbd-rescue of Ceph cluster main may add to the blocklist is not known: it is not known whether Ceph did it."},
		},
		"an old cluster's word is in the remedy": {
			fault: func(f *Inside) {
				f.Clusters[0].Rights = ceph.BlocklistRights{Word: "blacklist", Add: refusedBy("osd blacklist")}
				f.Clusters[0].Pools = append(f.Clusters[0].Pools, Pool{PoolRef: ceph.PoolRef{Pool: "data"}, Volumes: 1})
			},
			want: []string{"error ceph-caps: client.rbd-rescue of Ceph cluster main may not add to the blocklist: no node can be fenced."},
			remedy: `Run: ceph auth caps client.rbd-rescue mon 'allow r, allow command "osd blacklist"' osd '` + grantsFor("kubernetes") + ", " + grantsFor("data") + "'. " +
				"Then restart the remediator.",
		},
		"the caps leave a pool out": {
			fault: func(f *Inside) {
				f.Clusters[0].Pools = append(f.Clusters[0].Pools, Pool{PoolRef: ceph.PoolRef{Pool: "fast", Namespace: "tenant"}, Volumes: 1, Image: "x", Unproven: refusedBy("stat"), Unseen: refusedBy("inspect image")})
			},
			want: []string{"error pools: client.rbd-rescue may not read pool fast/tenant of Ceph cluster main, and 1 PersistentVolume lies in it: a node that has one of these cannot be fenced."},
			remedy: `Run: ceph auth caps client.rbd-rescue mon 'allow r, allow command "osd blocklist"' osd '` + grantsFor("kubernetes") + ", " + grantsFor("fast") + "'. " +
				"Then restart the remediator.",
		},
		"a pool is gone": {
			fault: func(f *Inside) {
				f.Clusters[0].Pools[0].Unproven = &ceph.CommandError{Command: "stat", Errno: syscall.ENOENT}
			},
			want: []string{"error pools: Pool kubernetes of Ceph cluster main does not exist, and 2 PersistentVolumes lie in it."},
		},
		"a placement group is inactive": {
			fault: func(f *Inside) { f.Clusters[0].Pools[0].Unproven = ceph.ErrInDoubt },
			want:  []string{"error pools: A fence could not be proven on pool kubernetes of Ceph cluster main now: it is not known whether Ceph did it."},
		},
		"an image is gone": {
			fault: func(f *Inside) {
				f.Clusters[0].Pools[0].Unseen = &ceph.CommandError{Command: "inspect image", Errno: syscall.ENOENT}
			},
			want: []string{"warning pools: Image csi-db in pool kubernetes of Ceph cluster main does not exist, and a PersistentVolume names it."},
		},
		"an image is mirrored, and nobody has named the other site": {
			fault: func(f *Inside) { f.Clusters[0].Pools[0].Mirrored = true },
			want:  []string{"warning pools: Image csi-db in pool kubernetes of Ceph cluster main is mirrored and cluster main names no mirrorHosts: a watcher at an unknown address is refused (ForeignClient)."},
		},
		"an image is mirrored, and the other site is named": {
			fault: func(f *Inside) { f.Clusters[0].Pools[0].Mirrored, f.Clusters[0].MirrorsNamed = true, true },
		},
		"the caps have no snapshots": {
			fault: func(f *Inside) { f.Clusters[0].Pools[0].NoSnapshots = refusedBy("write") },
			want: []string{"warning snapshots: client.rbd-rescue may not take snapshots in pool kubernetes of Ceph cluster main: " +
				"without rbd-rescue.io/snapshot=required its volumes are released with no safety snapshot, and with it they are not released."},
		},
		"a PersistentVolume is of a cluster that nobody configured": {
			fault: func(f *Inside) { f.Volumes[0].ClusterID = "other" },
			want:  []string{"error cluster-ids: No Ceph cluster with clusterID other is configured, and these PersistentVolumes name it: db. They would be refused (UnknownCluster)."},
		},
		"a PersistentVolume has no form that is known": {
			fault: func(f *Inside) {
				f.Volumes[0].FormError = errors.New("PersistentVolume db has no volumeAttributes.pool: its image cannot be told")
			},
			want: []string{"error volumes: PersistentVolume db has no volumeAttributes.pool: its image cannot be told; it would be refused (UnknownShape)."},
		},
		"the driver needs no attachment": {
			fault: func(f *Inside) { f.Drivers[0].Spec.AttachRequired = new(false) },
			want:  []string{"warning volumes: CSIDriver rbd.csi.ceph.com says attachRequired=false: nothing but rbd-rescue's gate keeps a second node from a volume, and only from pods that are created after the failure."},
		},
		"volumes that need care": {
			fault: func(f *Inside) {
				f.Volumes[0].Exclusive = false
				f.Volumes[1].Userspace = true
				old := inUse("old", "b", "10.0.0.2:0/23")
				old.Driver, old.Shared = "", true
				f.Volumes = append(f.Volumes, old)
			},
			want: []string{
				"warning volumes: These PersistentVolumes may be attached to several nodes and are not ReadWriteMany: db. They would be refused (SharedVolume).",
				"warning volumes: These PersistentVolumes are, or may be, mapped by rbd-nbd: web. Their client may change at any time, so that the node's whole host is fenced, or the volume refused where that may not be.",
				"warning volumes: These PersistentVolumes are of Kubernetes' own old RBD driver: old.",
			},
		},
		"a read-only volume needs no record and no mode": {
			fault: func(f *Inside) {
				f.Volumes[0].Exclusive, f.Volumes[0].ReadOnly, f.Volumes[0].Record = false, true, nil
			},
		},
		"a client of this boot is not on record": {
			fault: func(f *Inside) { f.Nodes[0].Status.NodeInfo.BootID = "another" },
			want:  []string{"warning records: Which Ceph clients node a has is not on record for db (claim shop/db): its whole host would be fenced."},
		},
		"a pod has started since the clients were looked at": {
			fault: func(f *Inside) { f.Volumes[0].Nodes[0].Pods[0].UID = "another" },
			want:  []string{"warning records: Which Ceph clients node a has is not on record for db (claim shop/db): its whole host would be fenced."},
		},
		"it has only just started": {
			fault: func(f *Inside) { f.Volumes[0].Record, f.Volumes[0].Nodes[0].Since = nil, now.Add(-time.Minute) },
		},
		"a node that is not Ready is not asked for": {
			fault: func(f *Inside) {
				f.Volumes[0].Record, f.Nodes[0].Status.Conditions[0].Status = nil, corev1.ConditionUnknown
			},
		},
		"S2: a client is not on record, and an OSD lives on the host": {
			fault: func(f *Inside) {
				f.Volumes[0].Record = nil
				f.Clusters[0].Daemons[netip.MustParseAddr("10.0.0.1")] = ceph.ObjectStore
			},
			want: []string{"error records: Which Ceph clients node a has is not on record for db (claim shop/db), and its whole host may not be fenced: an OSD of Ceph cluster main lives there (10.0.0.1)."},
		},
		"S2: a client is not on record, and another node has the address": {
			fault: func(f *Inside) {
				f.Volumes[0].Record = nil
				f.Nodes[1].Status.Addresses = append(f.Nodes[1].Status.Addresses, f.Nodes[0].Status.Addresses...)
			},
			want: []string{"error records: Which Ceph clients node a has is not on record for db (claim shop/db), and its whole host may not be fenced: node b reports its address 10.0.0.1 too."},
		},
		"a record cannot be read": {
			fault: func(f *Inside) { f.Volumes[0].RecordError = errors.New("annotation rbd-rescue.io/clients: not JSON") },
			want:  []string{"error records: The record of PersistentVolume db cannot be read: annotation rbd-rescue.io/clients: not JSON; the volume would be refused."},
		},
		"a node reaches Ceph from an address that it does not report": {
			fault: func(f *Inside) { f.Volumes[0] = inUse("db", "a", "172.16.0.1:0/11") },
			want: []string{"warning addresses: These nodes reach Ceph from an address that they do not report: a (a from 172.16.0.1). " +
				"Where a client of theirs is not on record, or may be a manager's of Ceph, they are refused."},
		},
		"S2: two nodes reach Ceph from one address": {
			fault: func(f *Inside) {
				f.Volumes = []Volume{inUse("db", "a", "172.16.0.1:0/11"), inUse("web", "b", "172.16.0.1:0/22")}
			},
			want: []string{
				"error addresses: Nodes a, b reach Ceph from the same address 172.16.0.1: none of them can be fenced as a host (SharedAddress).",
				"warning addresses: These nodes reach Ceph from an address that they do not report: a, b (a from 172.16.0.1). " +
					"Where a client of theirs is not on record, or may be a manager's of Ceph, they are refused.",
			},
		},
		"S2: a node reaches Ceph from another one's address": {
			fault: func(f *Inside) { f.Volumes = []Volume{inUse("db", "a", "10.0.0.2:0/11")} },
			want:  []string{"error addresses: Node a reaches Ceph from 10.0.0.2, which is the address of node b: its clients would be refused (HealthyClient)."},
		},
		"a client of an earlier boot tells nothing": {
			fault: func(f *Inside) {
				f.Volumes[0].Record["b"] = v1alpha1.NodeClients{BootID: "earlier", Clients: []string{"10.0.0.1:0/1"}}
			},
		},
		"Kubernetes' clock is off": {
			fault: func(f *Inside) { f.APITime = now.Add(-40 * time.Second) },
			want:  []string{"warning clocks: The remediator's clock and that of the Kubernetes API server are 40s apart."},
		},
		"Ceph's clock is far off": {
			fault: func(f *Inside) { f.Clusters[0].Time = now.Add(3 * time.Minute) },
			want:  []string{"error clocks: The remediator's clock and that of Ceph cluster main are 3m0s apart: what has just happened seems long past, or yet to come."},
		},
		"Ceph's clock is behind, or it is silent": {
			fault: func(f *Inside) { f.Clusters[0].Time = now.Add(-3 * time.Minute) },
			want:  []string{"warning clocks: The newest entry in the log of Ceph cluster main is 3m0s old: its clock is behind the remediator's, or its managers are silent."},
		},
		"Ceph's manager is busy": {
			fault: func(f *Inside) { f.Clusters[0].Time = now.Add(-8 * time.Second) },
		},
		"Ceph does not tell its time": {
			fault: func(f *Inside) { f.Clusters[0].Time = time.Time{} },
			want:  []string{"warning clocks: Ceph cluster main did not tell its time: its clock could not be compared."},
		},
		"the remediator's cache is behind": {
			fault: func(f *Inside) {
				f.Caches = append(f.Caches, Cache{Kind: "Node", Live: 120, Cached: 100, Waited: 10 * time.Second})
			},
			want: []string{"error caches: The remediator's cache of Node is behind: after 10s it had heard of changes up to 100, and the API has 120; it would see a failure late."},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := healthyInside()
			test.fault(&f)
			found := f.Findings()
			compare(t, found, test.want)
			for _, finding := range found {
				if test.remedy != "" && finding.Severity != OK {
					if finding.Remedy != test.remedy {
						t.Errorf("remedy %q, want %q", finding.Remedy, test.remedy)
					}
					break
				}
			}
		})
	}
}
