package plan

import (
	"maps"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/rbd-rescue/rbd-rescue/api/v1alpha1"
	"github.com/rbd-rescue/rbd-rescue/ceph"
	"github.com/rbd-rescue/rbd-rescue/volume"
)

// Rehearsal is what would become of a node's volumes.
type Rehearsal struct {
	Node   string `json:"node"`
	BootID string `json:"bootID,omitempty"`
	// NodeFence is the active one that the node has already; empty for none.
	NodeFence string `json:"nodeFence,omitempty"`
	// Reason and Why say why nothing would be fenced now: no demand, paused, breaker, refused. The rest says what would be without
	// a pause and with the breaker closed.
	Reason string `json:"reason,omitempty"`
	Why    string `json:"why,omitempty"`
	// Clients would be cut off.
	Clients []v1alpha1.FencedClient `json:"clients"`
	// Volumes of namespaces in mode rescue, as far as the node's part goes: Released is as far as a volume gets before another node
	// takes it.
	Volumes []v1alpha1.FencedVolume `json:"volumes"`
	// Neighbours would be cut off as well, and stay.
	Neighbours []v1alpha1.Neighbour `json:"neighbours"`
	// DeletedPods are namespace/name.
	DeletedPods []string `json:"deletedPods"`
	// Tainted tells whether the node would get the taint.
	Tainted bool `json:"tainted"`
	// Steps are what would be written, in this order.
	Steps []string `json:"steps"`
}

// IfFailed is the snapshot as it would be if nothing were heard of the node from now on, and Kubernetes had evicted its pods. Pods
// that tolerate that for ever, as those of DaemonSets do, stay as they are. Nothing of s is changed.
func IfFailed(s Snapshot) Snapshot {
	if s.Node != nil {
		if _, failed := volume.Failed(s.Node); !failed {
			s.Health = withFailed(s)
			s.Node = failedNode(s.Node, metav1.NewTime(s.Now))
		}
	}
	evicted := map[*corev1.Pod]*corev1.Pod{}
	evict := func(pod *corev1.Pod) *corev1.Pod {
		if pod.Spec.NodeName != s.NodeName || volume.Terminating(pod) || volume.Finished(pod) || toleratesForEver(pod) {
			return pod
		}
		if evicted[pod] == nil {
			gone := pod.DeepCopy()
			gone.DeletionTimestamp = new(metav1.NewTime(s.Now))
			gone.DeletionGracePeriodSeconds = new(int64(0))
			evicted[pod] = gone
		}
		return evicted[pod]
	}
	s.Pods = each(s.Pods, evict)
	s.Volumes = slices.Clone(s.Volumes)
	for i := range s.Volumes {
		s.Volumes[i].Users = each(s.Volumes[i].Users, evict)
	}
	return s
}

func each[T any](list []T, change func(T) T) []T {
	changed := make([]T, len(list))
	for i, item := range list {
		changed[i] = change(item)
	}
	return changed
}

// withFailed counts the node as failed, and no more as what it was.
func withFailed(s Snapshot) Health {
	was, h := HealthOf([]*corev1.Node{s.Node}, 0, s.Now), s.Health
	h.Failed++
	h.NotReady -= was.NotReady
	h.Returned -= was.Returned
	return h
}

func failedNode(node *corev1.Node, since metav1.Time) *corev1.Node {
	failed := node.DeepCopy()
	failed.Status.Conditions = slices.DeleteFunc(failed.Status.Conditions, func(c corev1.NodeCondition) bool { return c.Type == corev1.NodeReady })
	failed.Status.Conditions = append(failed.Status.Conditions, corev1.NodeCondition{
		Type: corev1.NodeReady, Status: corev1.ConditionUnknown, Reason: "NodeStatusUnknown", LastTransitionTime: since,
	})
	return failed
}

// toleratesForEver tells whether Kubernetes never evicts the pod from a node that is unreachable.
func toleratesForEver(pod *corev1.Pod) bool {
	return slices.ContainsFunc(pod.Spec.Tolerations, func(t corev1.Toleration) bool {
		return t.TolerationSeconds == nil && (t.Effect == "" || t.Effect == corev1.TaintEffectNoExecute) &&
			(t.Key == "" && t.Operator == corev1.TolerationOpExists || t.Key == corev1.TaintNodeUnreachable)
	})
}

// FenceOf is the NodeFence that Detect makes of a failure, or would if nothing kept it from that; with why it is not made now. A node
// whose boot has an active NodeFence keeps that.
func FenceOf(s Snapshot) (nf *v1alpha1.NodeFence, verdict Verdict) {
	identity := IdentityOf(s)
	if s.Fence != nil && s.Fence.Active() && (s.Fence.Spec.BootID == identity.BootID || s.Fence.Spec.BootID == "") {
		return s.Fence, Verdict{}
	}
	verdict = Detect(s)
	if verdict.Create != nil {
		return verdict.Create, verdict
	}
	return &v1alpha1.NodeFence{
		ObjectMeta: metav1.ObjectMeta{Name: incidentName(s, identity.BootID, s.Now), Finalizers: []string{v1alpha1.FinalizerFence}},
		Spec: v1alpha1.NodeFenceSpec{
			NodeName: s.NodeName, Automatic: true, BootID: identity.BootID, MachineID: identity.MachineID, SystemUUID: identity.SystemUUID,
		},
	}, verdict
}

// rehearsalRounds bounds how often a rehearsal looks again: one look each for entries, proof, release, pods and what is left.
const rehearsalRounds = 12

// Rehearse plays an incident until nothing more happens on the node, with Next as it is, in a world where each step does at once
// what it is for. Snapshot s is as an incident's is, with its NodeFence, which need not exist. Nothing of s is changed.
func Rehearse(s Snapshot, verdict Verdict) Rehearsal {
	r := Rehearsal{
		Node: s.NodeName, BootID: s.Fence.Spec.BootID, Why: verdict.Why, Reason: reasonOf(verdict),
		Clients: []v1alpha1.FencedClient{}, Volumes: []v1alpha1.FencedVolume{}, Neighbours: []v1alpha1.Neighbour{}, DeletedPods: []string{}, Steps: []string{},
	}
	if s.Fence.UID != "" {
		r.NodeFence = s.Fence.Name
	}
	s = apart(s)
	s.Paused, s.Settings.MaxFailedNodes = "", intstr.FromString("100%") // what they hold back is in the verdict
	var d Decision
	for range rehearsalRounds {
		d = Next(s)
		if len(d.Steps) == 0 && sameVolumes(s.Fence.Status.Volumes, d.Status.Volumes) {
			break
		}
		for _, step := range d.Steps {
			r.Steps = append(r.Steps, step.String())
			if pod, is := step.(DeletePod); is {
				r.DeletedPods = append(r.DeletedPods, pod.Namespace+"/"+pod.Name)
			}
			carryOut(&s, step)
		}
		s.Fence.Status = d.Status
		confirm(&s)
	}
	for _, c := range d.Status.Clients {
		r.Clients = append(r.Clients, v1alpha1.FencedClient{ClusterID: c.ClusterID, Address: c.Address, Scope: c.Scope, Source: c.Source})
	}
	for _, v := range d.Status.Volumes {
		r.Volumes = append(r.Volumes, v1alpha1.FencedVolume{
			PersistentVolume: v.PersistentVolume, Claim: v.Claim, Image: v.Image, Phase: v.Phase, Reason: v.Reason, Message: v.Message, Clients: v.Clients,
		})
	}
	r.Neighbours = append(r.Neighbours, d.Status.Neighbours...)
	r.Tainted = tainted(s.Node)
	slices.Sort(r.DeletedPods)
	if len(r.Clients) == 0 && r.Why == "" {
		r.Reason, r.Why = reasonOfNothing(d), d.Status.Message
	}
	return r
}

func reasonOf(verdict Verdict) string {
	if len(verdict.Events) > 0 {
		return verdict.Events[0].Reason
	}
	if verdict.Why != "" {
		return v1alpha1.ReasonNoDemand
	}
	return ""
}

func reasonOfNothing(d Decision) string {
	for _, c := range d.Status.Conditions {
		if c.Type == v1alpha1.ConditionFenced {
			return c.Reason
		}
	}
	return v1alpha1.ReasonNoDemand
}

func sameVolumes(a, b []v1alpha1.FencedVolume) bool {
	return slices.EqualFunc(a, b, func(a, b v1alpha1.FencedVolume) bool {
		return a.PersistentVolume == b.PersistentVolume && a.Phase == b.Phase && a.Reason == b.Reason
	})
}

// apart copies what a rehearsal changes.
func apart(s Snapshot) Snapshot {
	s.Fence = s.Fence.DeepCopy()
	if s.Node != nil {
		s.Node = s.Node.DeepCopy()
	}
	s.Pods, s.Volumes = slices.Clone(s.Pods), slices.Clone(s.Volumes)
	s.Clusters = maps.Clone(s.Clusters)
	for id, cluster := range s.Clusters {
		cluster.Map.Blocklist = maps.Clone(cluster.Map.Blocklist)
		if cluster.Map.Blocklist == nil {
			cluster.Map.Blocklist = map[ceph.Address]time.Time{}
		}
		s.Clusters[id] = cluster
	}
	return s
}

// carryOut does in the snapshot what a step does in the world, and what Kubernetes and Ceph do upon it.
func carryOut(s *Snapshot, step Step) {
	switch step := step.(type) {
	case AddToBlocklist:
		for _, client := range step.Clients {
			s.Clusters[step.ClusterID].Map.Blocklist[client] = s.Now.Add(step.TTL)
		}
		endWatches(s)
	case TaintNode:
		s.Node.Spec.Taints = append(s.Node.Spec.Taints, corev1.Taint{Key: v1alpha1.TaintFenced, Effect: corev1.TaintEffectNoSchedule})
	case ClearVolumesInUse:
		s.Node.Status.VolumesInUse = slices.DeleteFunc(s.Node.Status.VolumesInUse, func(name corev1.UniqueVolumeName) bool {
			return slices.Contains(step.UniqueNames, string(name))
		})
	case TakeSnapshot:
		for i := range s.Volumes {
			if v := &s.Volumes[i]; v.Name == step.PersistentVolume {
				v.Use.Snapshots = append(slices.Clone(v.Use.Snapshots), step.Name)
				v.AttachedAfter = step.AttachmentUID
			}
		}
	case DeletePod:
		other := func(pod *corev1.Pod) bool { return pod.UID == step.UID }
		s.Pods = slices.DeleteFunc(slices.Clone(s.Pods), other)
		for i := range s.Volumes {
			s.Volumes[i].Users = slices.DeleteFunc(slices.Clone(s.Volumes[i].Users), other)
		}
	case DeleteAttachment, FreeAttachment:
	}
	detachReleased(s)
}

// detachReleased does what the attach/detach controller does with a released volume that nothing on the node uses any more.
func detachReleased(s *Snapshot) {
	for i := range s.Volumes {
		v := &s.Volumes[i]
		if entry, listed := entryOf(s.Fence, v.Name); !listed || entry.Phase != v1alpha1.VolumeReleasing || len(usersOn(s.NodeName, *v)) > 0 {
			continue
		}
		if s.Node != nil {
			s.Node.Status.VolumesInUse = slices.DeleteFunc(s.Node.Status.VolumesInUse, func(name corev1.UniqueVolumeName) bool {
				return string(name) == v.UniqueName
			})
		}
		v.Attachments = slices.DeleteFunc(slices.Clone(v.Attachments), func(va *storagev1.VolumeAttachment) bool {
			return va.Spec.NodeName == s.NodeName
		})
	}
}

// endWatches: the blocklist ends the watches of its clients at once (facts/ceph.md).
func endWatches(s *Snapshot) {
	for i := range s.Volumes {
		v := &s.Volumes[i]
		v.Use.Watchers = slices.DeleteFunc(slices.Clone(v.Use.Watchers), func(w ceph.Watcher) bool {
			entries := s.Clusters[v.ClusterID].Map.Blocklist
			_, client := entries[w.Address]
			_, host := entries[ceph.Address{IP: w.Address.IP}]
			return client || host
		})
	}
}

// confirm has every placement group confirm the map.
func confirm(s *Snapshot) {
	for id, cluster := range s.Clusters {
		if cluster.Error != nil {
			continue
		}
		cluster.Barrier, cluster.BarrierError, cluster.Proven = cluster.Map.Epoch, nil, map[string]uint32{}
		for _, v := range s.Volumes {
			for _, pool := range v.Pools {
				if v.ClusterID == id {
					cluster.Proven[pool] = cluster.Map.Epoch
				}
			}
		}
		s.Clusters[id] = cluster
	}
	detachReleased(s)
}
