package restore

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/rbd-rescue/rbd-rescue/api/v1alpha1"
	"github.com/rbd-rescue/rbd-rescue/manifests"
	"github.com/rbd-rescue/rbd-rescue/manifests/images"
)

// lost is a volume whose objects are gone, and whose image nobody has: node a, which had it, is Ready with another boot.
func lost(t *testing.T, change func(*Situation)) Situation {
	t.Helper()
	m := manifests.Of(volumeOf("pv", "c1", "img"), &corev1.PersistentVolumeClaim{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "data"}, Spec: corev1.PersistentVolumeClaimSpec{VolumeName: "pv"},
	})
	m.Clients = v1alpha1.ClientRecord{"a": {BootID: "boot-1", MachineID: "machine-a", Clients: []string{"10.0.0.1:0/42"}}}
	s := Situation{
		Image: images.Image{ClusterID: "c1", OtherClusters: []string{"other"}, Image: "rbd/img", Manifests: &m}, NamespaceThere: true,
		Nodes: []corev1.Node{node("a", "boot-2", corev1.ConditionTrue), node("b", "boot-9", corev1.ConditionTrue)},
	}
	var err error
	if s.Volume, s.Claim, err = m.Rebuild(manifests.Target{}); err != nil {
		t.Fatal(err)
	}
	if change != nil {
		change(&s)
	}
	return s
}

func volumeOf(name, cluster, image string) *corev1.PersistentVolume {
	return &corev1.PersistentVolume{
		ObjectMeta: metav1.ObjectMeta{Name: name, UID: types.UID(name)},
		Spec: corev1.PersistentVolumeSpec{
			PersistentVolumeReclaimPolicy: corev1.PersistentVolumeReclaimRetain,
			ClaimRef:                      &corev1.ObjectReference{Namespace: "shop", Name: "data", UID: "uid-data"},
			PersistentVolumeSource: corev1.PersistentVolumeSource{CSI: &corev1.CSIPersistentVolumeSource{
				Driver: "rbd.csi.ceph.com", VolumeHandle: "handle-" + image, VolumeAttributes: map[string]string{"clusterID": cluster, "pool": "rbd", "imageName": image},
			}},
		},
	}
}

func node(name, boot string, ready corev1.ConditionStatus) corev1.Node {
	return corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}, Status: corev1.NodeStatus{
		NodeInfo:   corev1.NodeSystemInfo{BootID: boot, MachineID: "machine-" + name},
		Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: ready}},
		Addresses:  []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: map[string]string{"a": "10.0.0.1", "b": "10.0.0.2"}[name]}},
	}}
}

func pod(claim, on string, phase corev1.PodPhase) corev1.Pod {
	return corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "db-0"},
		Spec: corev1.PodSpec{NodeName: on, Volumes: []corev1.Volume{{Name: "data", VolumeSource: corev1.VolumeSource{
			PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: claim},
		}}}},
		Status: corev1.PodStatus{Phase: phase},
	}
}

func attachment(volume string) storagev1.VolumeAttachment {
	return storagev1.VolumeAttachment{
		ObjectMeta: metav1.ObjectMeta{Name: "va"},
		Spec:       storagev1.VolumeAttachmentSpec{NodeName: "b", Source: storagev1.VolumeAttachmentSource{PersistentVolumeName: &volume}},
	}
}

func fence(phase v1alpha1.NodeFencePhase, volume v1alpha1.FencedVolumePhase) v1alpha1.NodeFence {
	return v1alpha1.NodeFence{ObjectMeta: metav1.ObjectMeta{Name: "a-1"}, Spec: v1alpha1.NodeFenceSpec{NodeName: "a"}, Status: v1alpha1.NodeFenceStatus{
		Phase: phase, Volumes: []v1alpha1.FencedVolume{{PersistentVolume: "pv", Claim: "shop/data", Image: "rbd/img", Phase: volume}},
	}}
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	record := func(s *Situation, entry v1alpha1.NodeClients) {
		s.Image.Manifests.Clients = v1alpha1.ClientRecord{"a": entry}
	}
	boot1 := v1alpha1.NodeClients{BootID: "boot-1", MachineID: "machine-a", Clients: []string{"10.0.0.1:0/42"}}
	for name, test := range map[string]struct {
		change func(*Situation)
		// want are parts of the refusals, one of each, in their order.
		want []string
	}{
		"restores a volume that nobody has":             {},
		"refuses where the namespace is not there":      {change: func(s *Situation) { s.NamespaceThere = false }, want: []string{"kubectl create namespace shop"}},
		"refuses a claim that exists":                   {change: func(s *Situation) { s.ClaimThere = &corev1.PersistentVolumeClaim{} }, want: []string{"claim shop/data exists"}},
		"refuses a PersistentVolume that is another's":  {change: func(s *Situation) { s.Volumes = []corev1.PersistentVolume{*volumeOf("pv", "c1", "other")} }, want: []string{"is another image's"}},
		"refuses where another PersistentVolume has it": {change: func(s *Situation) { s.Volumes = []corev1.PersistentVolume{*volumeOf("copy", "c1", "img")} }, want: []string{"kubectl delete pv copy"}},
		"and in a cluster that may be the same one":     {change: func(s *Situation) { s.Volumes = []corev1.PersistentVolume{*volumeOf("copy", "alias", "img")} }, want: []string{"copy names image rbd/img"}},
		"but not in one that is known to be another":    {change: func(s *Situation) { s.Volumes = []corev1.PersistentVolume{*volumeOf("copy", "other", "img")} }},
		"refuses where a form that can't be read has its handle": {
			change: func(s *Situation) {
				copied := volumeOf("copy", "c1", "img")
				copied.Spec.CSI.VolumeAttributes = nil
				s.Volumes = []corev1.PersistentVolume{*copied}
			}, want: []string{"copy names image rbd/img"},
		},
		"warns of a policy that would delete the image": {
			change: func(s *Situation) {
				old := volumeOf("pv", "c1", "img")
				old.Spec.PersistentVolumeReclaimPolicy = corev1.PersistentVolumeReclaimDelete
				s.Volumes = []corev1.PersistentVolume{*old}
			}, want: []string{"Keep its image before you delete anything: kubectl patch pv pv"},
		},
		"refuses where Ceph sees a watcher, and names its node": {
			change: func(s *Situation) { s.Image.Watchers = []string{"10.0.0.2:0/7"} }, want: []string{"open for writing at 10.0.0.2:0/7 (node b)"},
		},
		"refuses where the lock's owner is not cut off": {
			change: func(s *Situation) { s.Image.LockOwners = []string{"10.0.0.1:0/42"} }, want: []string{"exclusive lock is held by 10.0.0.1:0/42"},
		},
		"restores where the lock's owner is cut off": {
			change: func(s *Situation) {
				s.Image.LockOwners, s.Image.CutOff = []string{"10.0.0.1:0/42"}, []string{"10.0.0.1:0/42"}
			},
		},
		"refuses where it is attached":              {change: func(s *Situation) { s.Attachments = []storagev1.VolumeAttachment{attachment("pv")} }, want: []string{"VolumeAttachment va"}},
		"restores where another volume is attached": {change: func(s *Situation) { s.Attachments = []storagev1.VolumeAttachment{attachment("other")} }},
		"refuses where a node that is Ready says it uses it": {
			change: func(s *Situation) {
				s.Nodes[1].Status.VolumesInUse = []corev1.UniqueVolumeName{"kubernetes.io/csi/rbd.csi.ceph.com^handle-img"}
			}, want: []string{"node b says that it uses the volume"},
		},
		"refuses where a pod runs with its claim":         {change: func(s *Situation) { s.Pods = []corev1.Pod{pod("data", "b", corev1.PodRunning)} }, want: []string{"pod shop/db-0 on node b"}},
		"restores for a pod that waits for the claim":     {change: func(s *Situation) { s.Pods = []corev1.Pod{pod("data", "", corev1.PodPending)} }},
		"restores where a pod with the claim is finished": {change: func(s *Situation) { s.Pods = []corev1.Pod{pod("data", "b", corev1.PodSucceeded)} }},
		"restores where a pod has another claim":          {change: func(s *Situation) { s.Pods = []corev1.Pod{pod("other", "b", corev1.PodRunning)} }},
		"refuses while a NodeFence is about it": {change: func(s *Situation) {
			s.Fences = []v1alpha1.NodeFence{fence(v1alpha1.PhaseReleasing, v1alpha1.VolumeReleasing)}
		}, want: []string{"NodeFence a-1 of node a"}},
		"restores once the NodeFence is over": {change: func(s *Situation) {
			s.Fences = []v1alpha1.NodeFence{fence(v1alpha1.PhaseLifted, v1alpha1.VolumeReleasing)}
		}},
		"restores once the fence's volume has recovered": {change: func(s *Situation) {
			s.Fences = []v1alpha1.NodeFence{fence(v1alpha1.PhaseRecovered, v1alpha1.VolumeRecovered)}
		}},
		"refuses where nobody knows who had it":           {change: func(s *Situation) { s.Image.Manifests.Clients = nil }, want: []string{"no record tells"}},
		"refuses where the node that had it is gone":      {change: func(s *Situation) { s.Nodes = s.Nodes[1:] }, want: []string{"client 10.0.0.1:0/42 of node a (boot boot-1)"}},
		"restores where that one's client is cut off":     {change: func(s *Situation) { s.Nodes, s.Image.CutOff = s.Nodes[1:], []string{"10.0.0.1:0/42"} }},
		"refuses where the node that had it is not Ready": {change: func(s *Situation) { s.Nodes[0] = node("a", "boot-2", corev1.ConditionUnknown) }, want: []string{"of node a"}},
		"restores where it is Ready with the same boot":   {change: func(s *Situation) { s.Nodes[0] = node("a", "boot-1", corev1.ConditionTrue) }},
		"refuses where another machine has the node's name": {
			change: func(s *Situation) { s.Nodes[0].Status.NodeInfo.MachineID = "another" }, want: []string{"of node a"},
		},
		"refuses where a machine of the same template has the node's name": {
			change: func(s *Situation) { s.Nodes[0].Status.NodeInfo.SystemUUID = "another" }, want: []string{"of node a"},
		},
		"refuses where another machine had the node's name before": {
			change: func(s *Situation) {
				record(s, v1alpha1.NodeClients{BootID: "boot-2", MachineID: "machine-a", Clients: boot1.Clients, Replaced: []string{"10.0.0.1:0/7"}})
			}, want: []string{"client 10.0.0.1:0/7 of another machine that had the name of node a"},
		},
		"restores where that one's client is cut off as well": {
			change: func(s *Situation) {
				s.Image.CutOff = []string{"10.0.0.1:0/7"}
				record(s, v1alpha1.NodeClients{BootID: "boot-2", MachineID: "machine-a", Clients: boot1.Clients, Replaced: s.Image.CutOff})
			},
		},
		"refuses where no machine can be told": {
			change: func(s *Situation) {
				s.Nodes[0].Status.NodeInfo.MachineID = ""
				record(s, v1alpha1.NodeClients{BootID: "boot-1", Clients: boot1.Clients})
			}, want: []string{"of node a"},
		},
		"refuses where the client of a boot is not on record": {
			change: func(s *Situation) { s.Nodes = nil; record(s, v1alpha1.NodeClients{BootID: "boot-1"}) }, want: []string{"its client is not on record"},
		},
		"takes a person's word for the clients": {
			change: func(s *Situation) { s.Nodes, s.ClientsAreGone = nil, true },
		},
		"and for nothing else": {
			change: func(s *Situation) {
				s.ClientsAreGone, s.Image.Watchers, s.Attachments = true, []string{"10.0.0.9:0/7"}, []storagev1.VolumeAttachment{attachment("pv")}
			}, want: []string{"open for writing at 10.0.0.9:0/7. Stop", "VolumeAttachment va"},
		},
		"looks at names alone for a clone that is still to be made": {
			change: func(s *Situation) {
				s.Fresh, s.Image.Watchers, s.NamespaceThere = true, []string{"10.0.0.2:0/7"}, false
			}, want: []string{"namespace shop"},
		},
		"refuses an old clone, whose own clients nobody has recorded": {
			change: func(s *Situation) { s.Image.Image = "rbd/clone" }, want: []string{"image that it was cloned from"},
		},
		"overwrites the image of objects that are there": {
			change: func(s *Situation) {
				s.Overwrite, s.Volumes = true, []corev1.PersistentVolume{*volumeOf("pv", "c1", "img")}
				s.ClaimThere = &corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{UID: "uid-data"}, Spec: corev1.PersistentVolumeClaimSpec{VolumeName: "pv"}}
			},
		},
		"not where the claim is another one": {
			change: func(s *Situation) {
				s.Overwrite, s.Volumes = true, []corev1.PersistentVolume{*volumeOf("pv", "c1", "img")}
				s.ClaimThere = &corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{UID: "uid-new"}, Spec: corev1.PersistentVolumeClaimSpec{VolumeName: "pv"}}
			}, want: []string{"claim shop/data exists", "PersistentVolume pv names image rbd/img"},
		},
		"says all reasons at once": {
			change: func(s *Situation) {
				s.Nodes, s.Image.Watchers = nil, []string{"10.0.0.9:0/7"}
				s.Volumes, s.Pods = []corev1.PersistentVolume{*volumeOf("pv", "c1", "img")}, []corev1.Pod{pod("data", "b", corev1.PodRunning)}
			}, want: []string{"PersistentVolume pv names", "open for writing", "pod shop/db-0", "client 10.0.0.1:0/42"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := Refusals(lost(t, test.change))
			if len(got) != len(test.want) {
				t.Fatalf("want %d refusals, got %d:\n%s", len(test.want), len(got), strings.Join(got, "\n"))
			}
			for i, want := range test.want {
				if !strings.Contains(got[i], want) {
					t.Errorf("want %q, got:\n%s", want, got[i])
				}
			}
		})
	}
}
