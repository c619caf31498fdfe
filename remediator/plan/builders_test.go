package plan

import (
	"net/netip"
	"time"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/rbd-rescue/rbd-rescue/api/v1alpha1"
	"github.com/rbd-rescue/rbd-rescue/ceph"
	"github.com/rbd-rescue/rbd-rescue/volume"
)

// The incident of these tests: node-a (10.0.0.1, boot-1) has failed while pod shop/db-0 of a StatefulSet used claim
// shop/data (image rbd/img on cluster c1, client 10.0.0.1:0/42 on record), and the pod is Terminating.

var (
	now         = time.Date(2026, 11, 23, 3, 0, 0, 0, time.UTC)
	deadClient  = "10.0.0.1:0/42"
	otherClient = "10.0.0.2:0/7"
)

type option func(*Snapshot)

func incident(options ...option) Snapshot {
	pod := podOn("node-a", "db-0")
	pod.DeletionTimestamp = new(metav1.NewTime(now.Add(29 * time.Second)))
	pod.DeletionGracePeriodSeconds = new(int64(30))
	s := Snapshot{
		Now: now, NodeName: "node-a", Settings: DefaultSettings(),
		Fence: &v1alpha1.NodeFence{
			ObjectMeta: metav1.ObjectMeta{Name: "node-a-1", UID: "nf", Finalizers: []string{v1alpha1.FinalizerFence}},
			Spec: v1alpha1.NodeFenceSpec{
				NodeName: "node-a", Automatic: true, BootID: "boot-1", MachineID: "machine-a", Reason: "Ready is Unknown (NodeStatusUnknown)",
			},
		},
		Node:           nodeA(),
		Policies:       map[string]v1alpha1.Policy{"shop": {Mode: v1alpha1.ModeRescue, Snapshot: v1alpha1.SnapshotOff}},
		UnfencedClaims: map[types.NamespacedName]string{},
		OtherNodes:     map[netip.Addr]string{netip.MustParseAddr("10.0.0.2"): "node-b"},
		OtherClients:   map[ceph.Address]string{},
		OtherHosts:     map[netip.Addr]string{},
		NodeAddressed:  map[string]bool{},
		Clusters: map[string]Cluster{"c1": {
			Known: true, Map: ceph.OSDMap{Epoch: 10, FSID: "f51d", Blocklist: map[ceph.Address]time.Time{}},
			Daemons: map[netip.Addr]ceph.Daemon{netip.MustParseAddr("10.0.0.200"): ceph.Monitor},
		}},
		Health: Health{Nodes: 3, Failed: 1},
	}
	s.Volumes = []Volume{heldVolume("pv-1", "data", "img", pod)}
	s.Pods = []*corev1.Pod{pod}
	for _, o := range options {
		o(&s)
	}
	return s
}

func nodeA() *corev1.Node {
	return &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: "node-a", UID: "node-a-uid"},
		Status: corev1.NodeStatus{
			Conditions: []corev1.NodeCondition{{
				Type: corev1.NodeReady, Status: corev1.ConditionUnknown, Reason: "NodeStatusUnknown",
				LastTransitionTime: metav1.NewTime(now.Add(-time.Minute)),
			}},
			Addresses:    []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: "10.0.0.1"}},
			NodeInfo:     corev1.NodeSystemInfo{BootID: "boot-1", MachineID: "machine-a"},
			VolumesInUse: []corev1.UniqueVolumeName{"kubernetes.io/csi/rbd.csi.ceph.com^pv-1"},
		},
	}
}

func podOn(node, name string) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: "shop", Name: name, UID: types.UID(name + "-uid-" + node), ResourceVersion: "7",
			OwnerReferences: []metav1.OwnerReference{{Kind: "StatefulSet", Name: "db", Controller: new(true)}},
		},
		Spec: corev1.PodSpec{NodeName: node, Volumes: []corev1.Volume{claimVolume("data")}},
	}
}

func claimVolume(claim string) corev1.Volume {
	return corev1.Volume{Name: claim, VolumeSource: corev1.VolumeSource{
		PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: claim},
	}}
}

func heldVolume(name, claim, image string, users ...*corev1.Pod) Volume {
	return Volume{
		Volume: volume.Volume{
			Name: name, Claim: types.NamespacedName{Namespace: "shop", Name: claim}, ClaimUID: types.UID(claim + "-uid"),
			UniqueName: "kubernetes.io/csi/rbd.csi.ceph.com^" + name,
			ClusterID:  "c1", Pool: "rbd", Image: image, Exclusive: true,
		},
		Attachments: []*storagev1.VolumeAttachment{attachment(name, "node-a")},
		Users:       users,
		Record:      recordOf(users...),
		Pools:       []string{"rbd"},
	}
}

// recordOf is a record that was taken while these pods ran.
func recordOf(pods ...*corev1.Pod) *v1alpha1.NodeClients {
	record := &v1alpha1.NodeClients{BootID: "boot-1", MachineID: "machine-a", Clients: []string{deadClient}}
	for _, pod := range pods {
		record.Pods = append(record.Pods, pod.UID)
	}
	return record
}

func attachment(pv, node string) *storagev1.VolumeAttachment {
	return &storagev1.VolumeAttachment{
		ObjectMeta: metav1.ObjectMeta{Name: "csi-" + pv + "-" + node, UID: types.UID("va-" + pv + "-" + node)},
		Spec: storagev1.VolumeAttachmentSpec{
			NodeName: node, Source: storagev1.VolumeAttachmentSource{PersistentVolumeName: &pv},
		},
		Status: storagev1.VolumeAttachmentStatus{Attached: true},
	}
}

// fencing is the status after the first decision: the client is settled, nothing is proven.
func fencing(s *Snapshot) { s.Fence.Status = Next(incident()).Status }

// listedFor puts the dead client on the blocklist.
func listedFor(ttl time.Duration) option {
	return func(s *Snapshot) {
		s.Clusters["c1"].Map.Blocklist[ceph.MustParseAddress(deadClient)] = s.Now.Add(ttl)
	}
}

// barrierAt says that every placement group has confirmed the epoch.
func barrierAt(epoch uint32) option {
	return func(s *Snapshot) {
		s.changeCluster(func(c *Cluster) { c.Barrier, c.Proven = epoch, map[string]uint32{"rbd": epoch} })
	}
}

func (s *Snapshot) changeCluster(change func(*Cluster)) {
	c := s.Clusters["c1"]
	change(&c)
	s.Clusters["c1"] = c
}

func cephError(err error) option {
	return func(s *Snapshot) {
		s.Clusters["c1"] = Cluster{Known: true, Error: err}
		s.Volumes[0].UseError = err
	}
}

func watcherAt(address string) option {
	return func(s *Snapshot) {
		s.Volumes[0].Use.Watchers = append(s.Volumes[0].Use.Watchers, ceph.Watcher{Address: ceph.MustParseAddress(address)})
	}
}

func noRecord(s *Snapshot) { s.Volumes[0].Record = nil }

func nodeReady(boot string) option {
	return func(s *Snapshot) {
		s.Node.Status.Conditions[0].Status = corev1.ConditionTrue
		s.Node.Status.NodeInfo.BootID = boot
	}
}

func taintedNode(s *Snapshot) {
	s.Node.Spec.Taints = []corev1.Taint{{Key: v1alpha1.TaintFenced, Effect: corev1.TaintEffectNoSchedule}}
}

// proven is an incident whose fence is listed and confirmed, and its node tainted.
func proven(s *Snapshot) {
	fencing(s)
	listedFor(entryTTL)(s)
	barrierAt(10)(s)
	taintedNode(s)
}

// released follows proven: the pod, the entry in volumesInUse and the attachment are gone.
func released(s *Snapshot) {
	proven(s)
	s.Fence.Status = Next(*s).Status
	s.Pods, s.Volumes[0].Users, s.Volumes[0].Attachments, s.Node.Status.VolumesInUse = nil, nil, nil, nil
}

// arrived: what was asked for has arrived in Ceph, or never will.
func arrived(s *Snapshot) { s.Now = s.Now.Add(inDoubtFor) }

func reasons(events []Event) []string {
	var list []string
	for _, e := range events {
		list = append(list, e.Regarding.Kind+" "+e.Reason)
	}
	return list
}

func steps(list []Step) []string {
	var texts []string
	for _, s := range list {
		texts = append(texts, s.String())
	}
	return texts
}
