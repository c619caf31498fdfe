package plan

import (
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/rbd-rescue/rbd-rescue/api/v1alpha1"
	"github.com/rbd-rescue/rbd-rescue/ceph"
)

// effect is what a user sees of a decision.
type effect struct {
	Phase  v1alpha1.NodeFencePhase
	Fenced string // reason of the condition
	Volume string // phase and reason of pv-1
	Steps  []string
	Events []string
}

func effectOf(d Decision) effect {
	e := effect{Phase: d.Status.Phase, Steps: steps(d.Steps), Events: reasons(d.Events)}
	if c := meta.FindStatusCondition(d.Status.Conditions, v1alpha1.ConditionFenced); c != nil {
		e.Fenced = c.Reason
	}
	for _, v := range d.Status.Volumes {
		if v.PersistentVolume == "pv-1" {
			e.Volume = string(v.Phase)
			if v.Reason != "" {
				e.Volume += " " + v.Reason
			}
		}
	}
	return e
}

const (
	taint   = "taint node node-a"
	fence   = "add 10.0.0.1:0/42 to the blocklist of cluster c1 for 87600h0m0s"
	clear1  = "clear kubernetes.io/csi/rbd.csi.ceph.com^pv-1 from volumesInUse of node node-a"
	delete1 = "force-delete pod shop/db-0"
)

func refusedBecause(reason string) effect {
	return effect{
		Phase: v1alpha1.PhaseRefused, Fenced: reason, Volume: "Refused " + reason,
		Events: []string{"NodeFence VolumeRefused", "PersistentVolumeClaim VolumeRefused", "NodeFence FenceRefused", "Node FenceRefused"},
	}
}

// nextCase is a snapshot, and what a user sees of the decision about it.
type nextCase struct {
	snapshot Snapshot
	want     effect
}

func checkNext(t *testing.T, cases map[string]nextCase) {
	t.Helper()
	for name, test := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if diff := cmp.Diff(test.want, effectOf(Next(test.snapshot))); diff != "" {
				t.Errorf("unexpected effect (-want +got):\n%s", diff)
			}
		})
	}
}

var started = []string{"NodeFence FenceStarted", "Node FenceStarted"}

// fencingWith is the effect of the first decision, with the entries that it asks for.
func fencingWith(entries string) effect {
	return effect{
		Phase: v1alpha1.PhaseFencing, Fenced: "FenceUnproven", Volume: "Held Waiting",
		Steps: []string{taint, "add " + entries + " to the blocklist of cluster c1 for 87600h0m0s"}, Events: started,
	}
}

func TestNext(t *testing.T) {
	t.Parallel()
	checkNext(t, map[string]nextCase{
		"settles the recorded client and asks for its entry": {
			snapshot: incident(),
			want: effect{
				Phase: v1alpha1.PhaseFencing, Fenced: "FenceUnproven", Volume: "Held Waiting",
				Steps: []string{taint, fence}, Events: started,
			},
		},
		"takes a live watcher on the node's own address where there is no record": {
			snapshot: incident(noRecord, watcherAt(deadClient)),
			want: effect{
				Phase: v1alpha1.PhaseFencing, Fenced: "FenceUnproven", Volume: "Held Waiting",
				Steps: []string{taint, fence}, Events: started,
			},
		},
		"S1: releases nothing while the entry is not listed": {
			snapshot: incident(fencing, barrierAt(10)),
			want: effect{
				Phase: v1alpha1.PhaseFencing, Fenced: "FenceUnproven", Volume: "Held Waiting", Steps: []string{taint, fence},
			},
		},
		"S1: releases nothing while an OSD has not confirmed": {
			snapshot: incident(fencing, listedFor(entryTTL), barrierAt(9)),
			want:     effect{Phase: v1alpha1.PhaseFencing, Fenced: "FenceUnproven", Volume: "Held Waiting", Steps: []string{taint}},
		},
		"S1: releases nothing behind an entry that ends within a year, and does not ask for it: Ceph would change nothing": {
			snapshot: incident(fencing, listedFor(364*24*time.Hour), barrierAt(10)),
			want: effect{
				Phase: v1alpha1.PhaseFencing, Fenced: "FenceUnproven", Volume: "Held Waiting", Steps: []string{taint},
				Events: []string{"NodeFence FenceUnproven", "Node FenceUnproven"},
			},
		},
		"S1: releases once the fence is proven": {
			snapshot: incident(proven),
			want: effect{
				Phase: v1alpha1.PhaseReleasing, Fenced: "NodeFenced", Volume: "Releasing",
				Steps: []string{clear1, delete1}, Events: []string{"NodeFence NodeFenced", "Node NodeFenced"},
			},
		},
		"S1: stops a release whose entry is gone, and writes it again": {
			snapshot: incident(proven, func(s *Snapshot) {
				s.Fence.Status = Next(*s).Status
				clear(s.Clusters["c1"].Map.Blocklist)
			}),
			want: effect{
				Phase: v1alpha1.PhaseReleasing, Fenced: "FenceUnproven", Volume: "Releasing",
				Steps: []string{fence}, Events: []string{"NodeFence FenceRenewed"},
			},
		},
		"S1: stops a release while an OSD has not confirmed the map of this look": {
			snapshot: incident(proven, func(s *Snapshot) {
				s.Fence.Status = Next(*s).Status
				s.changeCluster(func(c *Cluster) { c.Map.Epoch++ })
			}),
			want: effect{Phase: v1alpha1.PhaseReleasing, Fenced: "NodeFenced", Volume: "Releasing"},
		},
		"keeps a client that it settled from a watcher which the fence has ended": {
			snapshot: incident(func(s *Snapshot) {
				s.Fence.Status = Next(incident(noRecord, watcherAt(deadClient))).Status
				noRecord(s)
				listedFor(entryTTL)(s)
				barrierAt(10)(s)
				taintedNode(s)
			}),
			want: effect{
				Phase: v1alpha1.PhaseReleasing, Fenced: "NodeFenced", Volume: "Releasing",
				Steps: []string{clear1, delete1}, Events: []string{"NodeFence NodeFenced", "Node NodeFenced"},
			},
		},
		"releases nothing when the node is Ready again before the release": {
			snapshot: incident(proven, nodeReady("boot-1")),
			want: effect{
				Phase: v1alpha1.PhaseReleasing, Fenced: "NodeFenced", Volume: "Held Waiting",
				Events: []string{"NodeFence NodeFenced", "Node NodeFenced", "NodeFence NodeStillFenced", "Node NodeStillFenced"},
			},
		},
		"releases nothing while the kubelet answers but is not Ready": {
			snapshot: incident(proven, func(s *Snapshot) { s.Node.Status.Conditions[0].Status = corev1.ConditionFalse }),
			want: effect{
				Phase: v1alpha1.PhaseReleasing, Fenced: "NodeFenced", Volume: "Held Waiting",
				Events: []string{"NodeFence NodeFenced", "Node NodeFenced"},
			},
		},
		"S1: releases nothing of another boot than the one that is fenced": {
			snapshot: incident(proven, func(s *Snapshot) { s.Node.Status.NodeInfo.BootID = "boot-2" }),
			want: effect{
				Phase: v1alpha1.PhaseReleasing, Fenced: "NodeFenced", Volume: "Held Waiting",
				Events: []string{"NodeFence NodeFenced", "Node NodeFenced"},
			},
		},
		"deletes an attachment that stays for longer than the controller may take": {
			snapshot: incident(released, func(s *Snapshot) {
				s.Volumes[0].Attachments = []*storagev1.VolumeAttachment{attachment("pv-1", "node-a")}
				s.Now = now.Add(attachmentPatience + time.Second)
			}),
			want: effect{
				Phase: v1alpha1.PhaseReleasing, Fenced: "NodeFenced", Volume: "Releasing",
				Steps: []string{"delete VolumeAttachment csi-pv-1-node-a"},
			},
		},
		"waits while the attacher has its time to let an attachment go": {
			snapshot: incident(released, leftAttachment, func(s *Snapshot) { s.Now = now.Add(2 * attachmentPatience) }),
			want:     effect{Phase: v1alpha1.PhaseReleasing, Fenced: "NodeFenced", Volume: "Releasing"},
		},
		"takes the finalizers from an attachment that no attacher lets go": {
			snapshot: incident(released, leftAttachment, func(s *Snapshot) { s.Now = now.Add(2*attachmentPatience + time.Second) }),
			want: effect{
				Phase: v1alpha1.PhaseReleasing, Fenced: "NodeFenced", Volume: "Releasing",
				Steps: []string{"remove the finalizers from VolumeAttachment csi-pv-1-node-a"},
			},
		},
		"deletes the attachment at once, where the node was gone already when its clients were settled": {
			snapshot: incident(released, func(s *Snapshot) {
				s.Volumes[0].Attachments = []*storagev1.VolumeAttachment{attachment("pv-1", "node-a")}
				s.Node, s.Fence.Status.Volumes[0].ReadyTurnedAt = nil, nil
			}),
			want: effect{
				Phase: v1alpha1.PhaseReleasing, Fenced: "NodeFenced", Volume: "Releasing",
				Steps: []string{"delete VolumeAttachment csi-pv-1-node-a"},
			},
		},
		"S1: releases nothing for a boot that another one followed, as the record of a node that is gone says": {
			snapshot: incident(proven, func(s *Snapshot) {
				s.Node, s.Volumes[0].Record.BootID = nil, "boot-2"
			}),
			want: effect{Phase: v1alpha1.PhaseReleasing, Fenced: "NodeFenced", Volume: "Held Waiting", Events: []string{"NodeFence NodeFenced"}},
		},
		"S1: cuts the whole host off where the record of a node that is gone knows another boot, and others do not": {
			snapshot: incident(proven, func(s *Snapshot) {
				s.Node, s.Volumes[0].Record.BootID, s.Volumes[0].Record.Before = nil, "boot-2", []string{deadClient}
				other := heldVolume("pv-2", "more", "more")
				other.Record.Addresses = []string{"10.0.0.1"}
				s.Volumes = append(s.Volumes, other)
			}),
			want: effect{
				Phase: v1alpha1.PhaseFencing, Fenced: "FenceUnproven", Volume: "Held Waiting", Events: []string{"NodeFence NeighboursCutOff"},
				Steps: []string{"add 10.0.0.1:0/0 to the blocklist of cluster c1 for 87600h0m0s"},
			},
		},
		"ends the release of a volume whose PersistentVolume was deleted": {
			snapshot: incident(released, func(s *Snapshot) { s.Volumes = nil }),
			want:     effect{Phase: v1alpha1.PhaseRecovered, Fenced: "NodeFenced", Volume: "Released"},
		},
		"S6: does nothing more for a namespace that has opted out meanwhile": {
			snapshot: incident(released, func(s *Snapshot) {
				s.Volumes[0].Attachments = []*storagev1.VolumeAttachment{attachment("pv-1", "node-a")}
				s.Now = now.Add(2 * attachmentPatience)
				s.Policies["shop"] = v1alpha1.Policy{}
			}),
			want: effect{Phase: v1alpha1.PhaseReleasing, Fenced: "NodeFenced", Volume: "Releasing"},
		},
		"clears an entry that a kubelet wrote in again": {
			snapshot: incident(released, func(s *Snapshot) {
				s.Volumes[0].Attachments = []*storagev1.VolumeAttachment{attachment("pv-1", "node-a")}
				s.Node.Status.VolumesInUse = nodeA().Status.VolumesInUse
			}),
			want: effect{Phase: v1alpha1.PhaseReleasing, Fenced: "NodeFenced", Volume: "Releasing", Steps: []string{clear1}},
		},
		"tells when a volume has left the node": {
			snapshot: incident(released, func(s *Snapshot) { s.Volumes[0].Users = []*corev1.Pod{podOn("", "db-0")} }),
			want: effect{
				Phase: v1alpha1.PhaseRecovering, Fenced: "NodeFenced", Volume: "Released",
				Events: []string{"NodeFence VolumeReleased", "PersistentVolumeClaim VolumeReleased", "Pod VolumeReleased"},
			},
		},
		"tells when a volume runs elsewhere": {
			snapshot: incident(released, func(s *Snapshot) {
				s.Fence.Status = Next(*s).Status
				pod := podOn("node-b", "db-0")
				pod.Status.Phase = corev1.PodRunning
				s.Volumes[0].Users = []*corev1.Pod{pod}
				s.Volumes[0].Attachments = []*storagev1.VolumeAttachment{attachment("pv-1", "node-b")}
			}),
			want: effect{
				Phase: v1alpha1.PhaseRecovered, Fenced: "NodeFenced", Volume: "Recovered",
				Events: []string{"NodeFence VolumeRecovered", "PersistentVolumeClaim VolumeRecovered"},
			},
		},
		"tells when a volume whose driver needs no attachment runs elsewhere": {
			snapshot: incident(released, func(s *Snapshot) {
				s.Fence.Status = Next(*s).Status
				pod := podOn("node-b", "db-0")
				pod.Status.Phase = corev1.PodRunning
				s.Volumes[0].Users = []*corev1.Pod{pod}
			}),
			want: effect{
				Phase: v1alpha1.PhaseRecovered, Fenced: "NodeFenced", Volume: "Recovered",
				Events: []string{"NodeFence VolumeRecovered", "PersistentVolumeClaim VolumeRecovered"},
			},
		},
		"S4: writes an entry again that was removed behind its back": {
			snapshot: incident(released, func(s *Snapshot) { delete(s.Clusters["c1"].Map.Blocklist, ceph.MustParseAddress(deadClient)) }),
			want: effect{
				Phase: v1alpha1.PhaseReleasing, Fenced: "FenceUnproven", Volume: "Released",
				Steps:  []string{fence},
				Events: []string{"NodeFence FenceRenewed", "NodeFence VolumeReleased", "PersistentVolumeClaim VolumeReleased"},
			},
		},
		"S4: leaves an entry alone for nine of its ten years": {
			snapshot: incident(released, listedFor(366*24*time.Hour)),
			want: effect{
				Phase: v1alpha1.PhaseRecovered, Fenced: "NodeFenced", Volume: "Released",
				Events: []string{"NodeFence VolumeReleased", "PersistentVolumeClaim VolumeReleased"},
			},
		},
		"S4: says that an entry which somebody has shortened is not to be relied on any more": {
			snapshot: incident(released, listedFor(time.Hour)),
			want: effect{
				Phase: v1alpha1.PhaseReleasing, Fenced: "FenceUnproven", Volume: "Released",
				Events: []string{"NodeFence FenceUnproven", "Node FenceUnproven", "NodeFence VolumeReleased", "PersistentVolumeClaim VolumeReleased"},
			},
		},
		"S4: does not ask for an entry that is over and that Ceph has not dropped yet": {
			snapshot: incident(released, listedFor(-time.Second)),
			want: effect{
				Phase: v1alpha1.PhaseReleasing, Fenced: "FenceUnproven", Volume: "Released",
				Events: []string{"NodeFence FenceUnproven", "Node FenceUnproven", "NodeFence VolumeReleased", "PersistentVolumeClaim VolumeReleased"},
			},
		},
		"S2: refuses when nothing tells the client": {
			snapshot: incident(noRecord), want: refusedBecause("ClientUnknown"),
		},
		"S2: refuses a record that cannot be read": {
			snapshot: incident(func(s *Snapshot) { s.Volumes[0].Record.Clients = []string{"10.0.0.1"} }), want: refusedBecause("ClientUnknown"),
		},
		"S2: refuses when the image is open at an address that is nobody's": {
			snapshot: incident(watcherAt("10.9.9.9:0/1")), want: refusedBecause("ForeignClient"),
		},
		"S2: refuses a watcher on an address that two nodes have": {
			snapshot: incident(noRecord, watcherAt(deadClient), func(s *Snapshot) {
				s.OtherNodes[ceph.MustParseAddress(deadClient).IP] = "node-b"
			}),
			want: refusedBecause("ForeignClient"),
		},
		"S2: refuses a client that is recorded for another node": {
			snapshot: incident(func(s *Snapshot) { s.OtherClients[ceph.MustParseAddress(deadClient)] = "node-b" }),
			want:     refusedBecause("HealthyClient"),
		},
		"S2: refuses a recorded client on another node's address": {
			snapshot: incident(func(s *Snapshot) { s.Volumes[0].Record.Clients = []string{otherClient} }),
			want:     refusedBecause("HealthyClient"),
		},
		"S2: refuses rbd-rescue's own client": {
			snapshot: incident(func(s *Snapshot) {
				s.changeCluster(func(c *Cluster) { c.Own = []ceph.Address{ceph.MustParseAddress(deadClient)} })
			}),
			want: refusedBecause("OwnClient"),
		},
		"S2: leaves out its own watcher": {
			snapshot: incident(watcherAt("10.9.9.9:0/1"), func(s *Snapshot) {
				s.changeCluster(func(c *Cluster) { c.Own = []ceph.Address{ceph.MustParseAddress("10.9.9.9:0/1")} })
			}),
			want: effect{
				Phase: v1alpha1.PhaseFencing, Fenced: "FenceUnproven", Volume: "Held Waiting",
				Steps: []string{taint, fence}, Events: started,
			},
		},
		"S6: touches nothing of a namespace in mode observe": {
			snapshot: incident(func(s *Snapshot) { s.Policies["shop"] = v1alpha1.Policy{Mode: v1alpha1.ModeObserve} }),
			want:     effect{Phase: v1alpha1.PhasePending, Fenced: "NoDemand"},
		},
		"S6: stops a release when the namespace opts out": {
			snapshot: incident(proven, func(s *Snapshot) {
				s.Fence.Status = Next(*s).Status
				s.Policies["shop"] = v1alpha1.Policy{}
			}),
			want: effect{Phase: v1alpha1.PhaseReleasing, Fenced: "NodeFenced", Volume: "Releasing"},
		},
		"S6: stops a release when a pod may not be deleted any more, and says so": {
			snapshot: incident(proven, func(s *Snapshot) {
				s.Fence.Status = Next(*s).Status
				s.Pods[0].OwnerReferences = nil
			}),
			want: effect{
				Phase: v1alpha1.PhaseReleasing, Fenced: "NodeFenced", Volume: "Releasing BarePod",
				Steps:  []string{"clear kubernetes.io/csi/rbd.csi.ceph.com^pv-1 from volumesInUse of node node-a"},
				Events: []string{"NodeFence VolumeRefused", "PersistentVolumeClaim VolumeRefused"},
			},
		},
		"S6: refuses a pod that also writes to a claim that is not RBD's": {
			snapshot: incident(func(s *Snapshot) {
				s.Pods[0].Spec.Volumes = append(s.Pods[0].Spec.Volumes, claimVolume("nfs"))
				s.UnfencedClaims[types.NamespacedName{Namespace: "shop", Name: "nfs"}] = "PersistentVolume nfs"
			}),
			want: refusedBecause("UnfencedStorage"),
		},
		"S6: refuses a pod with an inline network volume": {
			snapshot: incident(func(s *Snapshot) {
				s.Pods[0].Spec.Volumes = append(s.Pods[0].Spec.Volumes,
					corev1.Volume{Name: "share", VolumeSource: corev1.VolumeSource{NFS: &corev1.NFSVolumeSource{Server: "x"}}})
			}),
			want: refusedBecause("UnfencedStorage"),
		},
		"refuses to delete a pod that nobody would make again": {
			snapshot: incident(func(s *Snapshot) { s.Pods[0].OwnerReferences = nil }), want: refusedBecause("BarePod"),
		},
		"refuses a volume of unknown form": {
			snapshot: incident(func(s *Snapshot) { s.Volumes[0].FormError = errors.New("no imageName") }), want: refusedBecause("UnknownShape"),
		},
		"refuses a volume that two nodes may attach and that is not ReadWriteMany": {
			snapshot: incident(func(s *Snapshot) { s.Volumes[0].Exclusive = false }), want: refusedBecause("SharedVolume"),
		},
		"refuses a cluster that is not configured": {
			snapshot: incident(func(s *Snapshot) {
				s.Clusters["c1"] = Cluster{Error: ceph.ErrUnknownCluster}
				s.Volumes[0].UseError = ceph.ErrUnknownCluster
			}),
			want: refusedBecause("UnknownCluster"),
		},
		"does nothing without demand": {
			snapshot: incident(func(s *Snapshot) { s.Pods[0].DeletionTimestamp = nil }),
			want:     effect{Phase: v1alpha1.PhasePending, Fenced: "NoDemand", Volume: "Held NoDemand"},
		},
		"waits while one of two pods on the node is not being deleted": {
			snapshot: incident(func(s *Snapshot) {
				mate := podOn("node-a", "mate")
				s.Pods, s.Volumes[0].Users = append(s.Pods, mate), append(s.Volumes[0].Users, mate)
			}),
			want: effect{Phase: v1alpha1.PhasePending, Fenced: "NoDemand", Volume: "Held NoDemand"},
		},
		"takes a pod that waits elsewhere as demand when the old one is gone": {
			snapshot: incident(func(s *Snapshot) { s.Pods, s.Volumes[0].Users = nil, []*corev1.Pod{podOn("", "db-0")} }, watcherAt(deadClient)),
			want:     fencingWith(deadClient),
		},
		"S7: fences nothing new while the breaker is open": {
			snapshot: incident(func(s *Snapshot) { s.Health = Health{Nodes: 6, Failed: 3} }),
			want: effect{
				Phase: v1alpha1.PhasePending, Fenced: "BreakerOpen", Volume: "Held Waiting",
				Events: []string{"NodeFence BreakerOpen", "Node BreakerOpen"},
			},
		},
		"S7: finishes what was begun while the breaker is open": {
			snapshot: incident(proven, func(s *Snapshot) { s.Health = Health{Nodes: 6, Failed: 3} }),
			want: effect{
				Phase: v1alpha1.PhaseReleasing, Fenced: "NodeFenced", Volume: "Releasing",
				Steps: []string{clear1, delete1}, Events: []string{"NodeFence NodeFenced", "Node NodeFenced"},
			},
		},
		"cancels when the node is Ready before the fence begins, and tells": {
			snapshot: incident(nodeReady("boot-1")),
			want: effect{
				Phase: v1alpha1.PhaseCancelled, Fenced: "FenceCancelled",
				Events: []string{"NodeFence FenceCancelled", "Node FenceCancelled"},
			},
		},
		"releases nothing while Ceph is unreachable, and tells": {
			snapshot: incident(cephError(errors.New("connection timed out"))),
			want: effect{
				Phase: v1alpha1.PhasePending, Fenced: "CephUnreachable", Volume: "Held CephUnreachable",
				Events: []string{"NodeFence CephUnreachable", "Node CephUnreachable"},
			},
		},
		"releases nothing when Ceph is lost in mid-fence": {
			snapshot: incident(fencing, taintedNode, cephError(errors.New("connection timed out"))),
			want: effect{
				Phase: v1alpha1.PhaseFencing, Fenced: "CephUnreachable", Volume: "Held CephUnreachable",
				Events: []string{"NodeFence CephUnreachable", "Node CephUnreachable"},
			},
		},
		"S3: keeps the fence of a node that is back with the same boot": {
			snapshot: incident(released, nodeReady("boot-1")),
			want: effect{
				Phase: v1alpha1.PhaseRecovered, Fenced: "NodeFenced", Volume: "Released",
				Events: []string{
					"NodeFence VolumeReleased", "PersistentVolumeClaim VolumeReleased", "NodeFence NodeStillFenced", "Node NodeStillFenced",
				},
			},
		},
		"S3: lifts on a new boot: entries first": {
			snapshot: incident(released, nodeReady("boot-2")),
			want: effect{
				Phase: v1alpha1.PhaseReleasing, Fenced: "NodeFenced", Volume: "Releasing",
				Steps: []string{"remove 10.0.0.1:0/42 from the blocklist of cluster c1"},
			},
		},
		"S3: lifts on a new boot: then the taint": {
			snapshot: incident(released, arrived, nodeReady("boot-2"), func(s *Snapshot) { clear(s.Clusters["c1"].Map.Blocklist) }),
			want: effect{
				Phase: v1alpha1.PhaseReleasing, Fenced: "NodeFenced", Volume: "Releasing",
				Steps: []string{"remove the taint from node node-a"},
			},
		},
		"S3: lifts on a new boot: then it is done": {
			snapshot: incident(released, arrived, nodeReady("boot-2"), func(s *Snapshot) {
				clear(s.Clusters["c1"].Map.Blocklist)
				s.Node.Spec.Taints = nil
			}),
			want: effect{
				Phase: v1alpha1.PhaseLifted, Fenced: "FenceLifted", Volume: "Releasing",
				Events: []string{"NodeFence FenceLifted", "Node FenceLifted"},
			},
		},
		"S3: does not lift for another machine of the same name": {
			snapshot: incident(released, nodeReady("boot-2"), func(s *Snapshot) { s.Node.Status.NodeInfo.MachineID = "another" }),
			want: effect{
				Phase: v1alpha1.PhaseRecovered, Fenced: "NodeFenced", Volume: "Released",
				Events: []string{"NodeFence VolumeReleased", "PersistentVolumeClaim VolumeReleased"},
			},
		},
		"S3: does not lift for a machine of the same template, where the record did not tell more than its machineID": {
			snapshot: incident(released, nodeReady("boot-2"), func(s *Snapshot) { s.Node.Status.NodeInfo.SystemUUID = "another" }),
			want: effect{
				Phase: v1alpha1.PhaseRecovered, Fenced: "NodeFenced", Volume: "Released",
				Events: []string{"NodeFence VolumeReleased", "PersistentVolumeClaim VolumeReleased"},
			},
		},
		"S3: does not lift while Ceph cannot be asked": {
			snapshot: incident(released, nodeReady("boot-2"), cephError(errors.New("connection timed out"))),
			want:     effect{Phase: v1alpha1.PhaseReleasing, Fenced: "NodeFenced", Volume: "Releasing"},
		},
		"S3: deleting the NodeFence is not a lift": {
			snapshot: incident(released, func(s *Snapshot) { s.Fence.DeletionTimestamp = &metav1.Time{Time: now} }),
			want: effect{
				Phase: v1alpha1.PhaseRecovered, Fenced: "NodeFenced", Volume: "Released",
				Events: []string{"NodeFence VolumeReleased", "PersistentVolumeClaim VolumeReleased"},
			},
		},
		"lets a deleted NodeFence go once it is lifted": {
			snapshot: incident(func(s *Snapshot) {
				s.Fence.Status.Phase = v1alpha1.PhaseLifted
				s.Fence.DeletionTimestamp = &metav1.Time{Time: now}
			}),
			want: effect{Phase: v1alpha1.PhaseLifted, Steps: []string{"remove the finalizer from the NodeFence"}},
		},
	})
}

// leftAttachment is being deleted since attachmentPatience, and its attacher does not answer.
func leftAttachment(s *Snapshot) {
	va := attachment("pv-1", "node-a")
	va.Finalizers = []string{"external-attacher/rbd-csi-ceph-com"}
	va.DeletionTimestamp = new(metav1.NewTime(now.Add(attachmentPatience)))
	s.Volumes[0].Attachments = []*storagev1.VolumeAttachment{va}
}

// Kubernetes takes events of one object for one if they differ in their note alone.
func TestEventsOfANodeFenceAreToldApartByTheirClaim(t *testing.T) {
	t.Parallel()
	d := Next(incident(released, func(s *Snapshot) {
		second := heldVolume("pv-2", "logs", "img2")
		second.Attachments = nil
		s.Volumes = append(s.Volumes, second)
		entry := s.Fence.Status.Volumes[0]
		entry.PersistentVolume, entry.Claim = "pv-2", "shop/logs"
		s.Fence.Status.Volumes = append(s.Fence.Status.Volumes, entry)
	}))
	related := map[string]bool{}
	for _, e := range d.Events {
		if e.Regarding.Kind == "NodeFence" && e.Reason == v1alpha1.ReasonVolumeReleased {
			related[e.Related.Name] = true
		}
	}
	if len(related) != 2 {
		t.Errorf("the NodeFence tells %v", related)
	}
}

// Both were proven and are on their way; then one of them is refused, so that their pod stays, and the other with it.
func TestNextSaysWhichOtherVolumeKeepsAPod(t *testing.T) {
	t.Parallel()
	both := func(s *Snapshot) {
		wal := heldVolume("pv-2", "wal", "wal", s.Pods[0])
		s.Pods[0].Spec.Volumes = append(s.Pods[0].Spec.Volumes, claimVolume("wal"))
		s.Volumes = append(s.Volumes, wal)
	}
	first := incident(both)
	s := incident(both, listedFor(entryTTL), barrierAt(10), taintedNode, func(s *Snapshot) { s.Fence.Status = Next(first).Status })
	s.Fence.Status = Next(s).Status
	for name, test := range map[string]struct {
		mate         v1alpha1.FencedVolume
		reason, want string
		events       []string
	}{
		"refused": {
			v1alpha1.FencedVolume{Phase: v1alpha1.VolumeRefused, Reason: "ForeignClient", Message: "image rbd/wal is also open at 10.9.9.9:0/1"}, "ForeignClient",
			"pod shop/db-0 also uses claim shop/wal, which is refused (ForeignClient): image rbd/wal is also open at 10.9.9.9:0/1",
			[]string{"NodeFence VolumeRefused", "PersistentVolumeClaim VolumeRefused"},
		},
		"waiting": {
			v1alpha1.FencedVolume{Phase: v1alpha1.VolumeHeld, Reason: "Waiting", Message: "waits for the proof of the fence"}, "",
			"pod shop/db-0 also uses claim shop/wal, which is not released yet: waits for the proof of the fence", nil,
		},
		"on its way as well": {v1alpha1.FencedVolume{Phase: v1alpha1.VolumeReleasing}, "", "", nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test.mate.PersistentVolume, test.mate.Claim = "pv-2", "shop/wal"
			d := newDraft(s)
			d.status.Volumes[1] = test.mate
			d.followVolumes()
			if got := d.status.Volumes[0]; got.Phase != v1alpha1.VolumeReleasing || got.Reason != test.reason || got.Message != test.want {
				t.Errorf("got %s %q: %q, want %q", got.Phase, got.Reason, got.Message, test.want)
			}
			if diff := cmp.Diff(test.events, reasons(d.events)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestCephIsAskedAgainEverMoreSeldom(t *testing.T) {
	t.Parallel()
	for age, want := range map[time.Duration]time.Duration{
		0: time.Second, 4 * time.Second: time.Second, 20 * time.Second: 5 * time.Second, time.Hour: 30 * time.Second,
	} {
		s := incident(cephError(errors.New("connection timed out")))
		s.Fence.Status.Phase = v1alpha1.PhasePending
		s.Fence.Status.Times.DetectedAt = new(metav1.NewMicroTime(now.Add(-age)))
		if d := Next(s); d.Wait != want {
			t.Errorf("%s after the failure it is asked again after %s, not %s", age, d.Wait, want)
		}
	}
}

func TestEachConditionSaysItsOwn(t *testing.T) {
	t.Parallel()
	d := Next(incident(released, nodeReady("boot-1"), func(s *Snapshot) { s.Volumes[0].Users = []*corev1.Pod{podOn("", "db-0")} }))
	for kind, want := range map[string]string{
		v1alpha1.ConditionFenced:    "Ceph refuses the clients of node node-a, proven on every placement group that serves its volumes",
		v1alpha1.ConditionReleased:  "Node node-a holds none of 1 volumes that are wanted elsewhere",
		v1alpha1.ConditionRecovered: "0 of 1 volumes run elsewhere",
		v1alpha1.ConditionLifted:    "Node node-a is back with the boot that was cut off, and stays fenced: reboot it",
	} {
		if c := meta.FindStatusCondition(d.Status.Conditions, kind); c == nil || c.Message != want {
			t.Errorf("%s: %+v", kind, c)
		}
	}
}
