// Package restore decides whether a volume may be built again from the manifests that its image carries, and builds it. The fear is
// two writers on one image: when in doubt it refuses, and says how to go on. judge.go is the decision, over plain data.
package restore

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/rbd-rescue/rbd-rescue/api/v1alpha1"
	"github.com/rbd-rescue/rbd-rescue/ceph"
	"github.com/rbd-rescue/rbd-rescue/manifests/images"
	"github.com/rbd-rescue/rbd-rescue/volume"
)

// Situation is what is known when a volume is to be restored.
type Situation struct {
	// Image as Ceph tells it, with the manifests.
	Image images.Image
	// Fresh is set for a clone that is still to be made: nobody can have that.
	Fresh bool
	// Volume and Claim are the rebuilt objects.
	Volume *corev1.PersistentVolume
	Claim  *corev1.PersistentVolumeClaim
	// Overwrite is set where the image is to be rolled back, and the objects may be there already.
	Overwrite bool
	// ClientsAreGone is a person's word that the clients on record can't write any more.
	ClientsAreGone bool

	// NamespaceThere tells whether the claim's namespace exists; ClaimThere is the claim of that name, nil for none.
	NamespaceThere bool
	ClaimThere     *corev1.PersistentVolumeClaim
	// All of the cluster. Pods are those of the namespaces of the claims that name the image.
	Volumes     []corev1.PersistentVolume
	Attachments []storagev1.VolumeAttachment
	Nodes       []corev1.Node
	Pods        []corev1.Pod
	Fences      []v1alpha1.NodeFence
}

// Refusals are all reasons not to restore; none means that it may be done. They are about
//
//   - names: a PersistentVolume or a claim of that name exists, or the namespace does not;
//   - another PersistentVolume that names the image;
//   - use that Ceph sees: a watcher, or an owner of the exclusive lock that is not cut off;
//   - use that Kubernetes sees: a VolumeAttachment, volumesInUse of any node, a pod on a node, an active NodeFence;
//   - use that nobody sees: a client on record whose end is not known. A person may answer for that, and for nothing else.
func Refusals(s Situation) []string {
	refusals := names(s)
	if s.Fresh {
		return refusals
	}
	refusals = append(refusals, others(s)...)
	if user := s.Image.InUse(); user != "" {
		refusals = append(refusals, fmt.Sprintf("image %s is in use: %s%s. Stop what uses it; a watcher ends 30 s after its client. If its node is dead: rbd-rescue fences it, or kubectl rescue fence NODE",
			s.Image.Image, user, s.nodesOf(s.Image.Watchers)))
	}
	refusals = append(refusals, s.attachments()...)
	refusals = append(refusals, s.inUse()...)
	refusals = append(refusals, s.pods()...)
	refusals = append(refusals, s.fences()...)
	if doubts := s.doubts(); len(doubts) > 0 && !s.ClientsAreGone {
		refusals = append(refusals, fmt.Sprintf("nobody knows whether an earlier client can still write to image %s, and that no watcher is seen is no proof: %s. "+
			"Cut the clients off for good (ceph osd blocklist add CLIENT 31536000); or make sure that those machines are off or were rebooted, and say so with --clients-are-gone",
			s.Image.Image, strings.Join(doubts, "; ")))
	}
	return refusals
}

// Exists tells whether both objects are there already, and are the image's: after a rollback there is nothing to build.
func (s Situation) Exists() bool {
	if s.ClaimThere == nil {
		return false
	}
	for i := range s.Volumes {
		pv := &s.Volumes[i]
		if ref := pv.Spec.ClaimRef; pv.Name == s.ClaimThere.Spec.VolumeName && ref != nil && ref.UID == s.ClaimThere.UID && pv.DeletionTimestamp == nil &&
			s.ClaimThere.DeletionTimestamp == nil && s.namesImage(pv) {
			return pv.Name == s.Volume.Name && ref.Namespace == s.Claim.Namespace && ref.Name == s.Claim.Name
		}
	}
	return false
}

func (s Situation) kept() bool { return s.Overwrite && s.Exists() }

func names(s Situation) []string {
	if s.kept() {
		return nil
	}
	var refusals []string
	if !s.NamespaceThere {
		refusals = append(refusals, fmt.Sprintf("namespace %s does not exist: kubectl create namespace %s, or name another one with --namespace", s.Claim.Namespace, s.Claim.Namespace))
	}
	if s.ClaimThere != nil {
		bound := "which is not bound; delete it first if nothing needs it"
		if volume := s.ClaimThere.Spec.VolumeName; volume != "" {
			bound = "which has PersistentVolume " + volume
		}
		refusals = append(refusals, fmt.Sprintf("claim %s/%s exists, %s; restore under another name with --as-claim", s.Claim.Namespace, s.Claim.Name, bound))
	}
	if at := slices.IndexFunc(s.Volumes, func(pv corev1.PersistentVolume) bool { return pv.Name == s.Volume.Name }); at >= 0 && !s.namesImage(&s.Volumes[at]) {
		refusals = append(refusals, fmt.Sprintf("PersistentVolume %s exists, and is another image's; name another one with --as-volume", s.Volume.Name))
	}
	return refusals
}

// others are PersistentVolumes that name the image: whoever uses one of them could write beside the restored one.
func others(s Situation) []string {
	if s.kept() {
		return nil
	}
	var refusals []string
	for i := range s.Volumes {
		pv := &s.Volumes[i]
		if !s.namesImage(pv) {
			continue
		}
		text := fmt.Sprintf("PersistentVolume %s names image %s already", pv.Name, s.Image.Image)
		if ref := pv.Spec.ClaimRef; ref != nil {
			text += fmt.Sprintf(", for claim %s/%s", ref.Namespace, ref.Name)
		}
		if pv.Spec.PersistentVolumeReclaimPolicy != corev1.PersistentVolumeReclaimRetain {
			text += fmt.Sprintf(". Keep its image before you delete anything: kubectl patch pv %s -p '{\"spec\":{\"persistentVolumeReclaimPolicy\":\"Retain\"}}'", pv.Name)
		}
		refusals = append(refusals, text+fmt.Sprintf(". If nothing uses it: kubectl delete pv %s", pv.Name))
	}
	return refusals
}

// namesImage tells whether a PersistentVolume is, or may be, this image: a cluster that is not known to be another one may be this
// one under another clusterID.
func (s Situation) namesImage(pv *corev1.PersistentVolume) bool {
	if !volume.IsRBD(pv) {
		return false
	}
	v, err := volume.Parse(pv)
	if err != nil {
		return v.UniqueName != "" && v.UniqueName == s.uniqueName()
	}
	image := ceph.Image{Pool: v.Pool, Namespace: v.Namespace, Name: v.Image}
	return image.String() == s.Image.Image && !slices.Contains(s.Image.OtherClusters, v.ClusterID)
}

func (s Situation) uniqueName() string {
	v, _ := volume.Parse(s.Volume) // it was built from one that could be read
	return v.UniqueName
}

// ours are the names of the PersistentVolumes that are or were this image's, and their unique names.
func (s Situation) ours() (volumes, unique []string) {
	rebuilt := []*corev1.PersistentVolume{s.Volume}
	if s.Image.Manifests != nil && s.namesImage(s.Image.Manifests.PersistentVolume) {
		rebuilt = append(rebuilt, s.Image.Manifests.PersistentVolume)
	}
	for i := range s.Volumes {
		if s.namesImage(&s.Volumes[i]) {
			rebuilt = append(rebuilt, &s.Volumes[i])
		}
	}
	for _, pv := range rebuilt {
		v, _ := volume.Parse(pv)
		volumes, unique = append(volumes, pv.Name), append(unique, v.UniqueName)
	}
	return volumes, unique
}

func (s Situation) attachments() []string {
	var refusals []string
	volumes, _ := s.ours()
	for i := range s.Attachments {
		va := &s.Attachments[i]
		source := va.Spec.Source
		inline := source.InlineVolumeSpec != nil && s.namesImage(&corev1.PersistentVolume{Spec: *source.InlineVolumeSpec})
		if inline || source.PersistentVolumeName != nil && slices.Contains(volumes, *source.PersistentVolumeName) {
			refusals = append(refusals, fmt.Sprintf("VolumeAttachment %s attaches the volume to node %s: stop the pods that use it, and wait until it is gone", va.Name, va.Spec.NodeName))
		}
	}
	return refusals
}

func (s Situation) inUse() []string {
	var refusals []string
	_, unique := s.ours()
	for _, node := range s.Nodes {
		for _, name := range node.Status.VolumesInUse {
			if slices.Contains(unique, string(name)) {
				refusals = append(refusals, fmt.Sprintf("node %s says that it uses the volume (status.volumesInUse): stop the pods that use it, and wait until its kubelet has unmapped it", node.Name))
			}
		}
	}
	return slices.Compact(refusals)
}

// pods that have a node and a claim which is, or was, the image's. One that waits for the claim has no node.
func (s Situation) pods() []string {
	claims := s.Claims()
	var refusals []string
	for i := range s.Pods {
		pod := &s.Pods[i]
		if pod.Spec.NodeName == "" || volume.Finished(pod) {
			continue
		}
		for _, claim := range volume.Claims(pod, pod.Namespace) {
			if slices.Contains(claims, claim) {
				refusals = append(refusals, fmt.Sprintf("pod %s/%s on node %s uses claim %s: stop it, by scaling down what made it", pod.Namespace, pod.Name, pod.Spec.NodeName, claim.Name))
			}
		}
	}
	return refusals
}

// Claims are those that are, or were, the image's.
func (s Situation) Claims() []types.NamespacedName {
	var claims []types.NamespacedName
	add := func(namespace, name string) {
		claims = append(claims, types.NamespacedName{Namespace: namespace, Name: name})
	}
	if s.Image.Manifests != nil && s.namesImage(s.Image.Manifests.PersistentVolume) {
		add(s.Image.Manifests.Claim.Namespace, s.Image.Manifests.Claim.Name)
	}
	for i := range s.Volumes {
		if ref := s.Volumes[i].Spec.ClaimRef; ref != nil && s.namesImage(&s.Volumes[i]) {
			add(ref.Namespace, ref.Name)
		}
	}
	return claims
}

// fences: a NodeFence that is not over may still release the volume to somebody else.
func (s Situation) fences() []string {
	var refusals []string
	for i := range s.Fences {
		nf := &s.Fences[i]
		if !nf.Active() {
			continue
		}
		for _, v := range nf.Status.Volumes {
			// A fence outlives the recovery of its volumes for as long as the old boot may run: that is protection, not use.
			if v.Image == s.Image.Image && v.Phase != v1alpha1.VolumeRecovered {
				refusals = append(refusals, fmt.Sprintf("NodeFence %s of node %s is about the volume (%s, claim %s): wait until it has recovered or the fence is lifted (kubectl describe nodefence %s)",
					nf.Name, nf.Spec.NodeName, v.Phase, v.Claim, nf.Name))
			}
		}
	}
	return refusals
}

// doubts are the clients on record of which it is not known that they can't write any more: those that are neither on the blocklist
// nor of a boot that a node which is Ready shows, or has left behind.
func (s Situation) doubts() []string {
	if s.Image.Manifests == nil || len(s.Image.Manifests.Clients) == 0 {
		return []string{"no record tells which clients had it"}
	}
	if !s.namesImage(s.Image.Manifests.PersistentVolume) {
		return []string{"its manifests, and the record in them, are those of the image that it was cloned from"}
	}
	var doubts []string
	for _, name := range slices.Sorted(maps.Keys(s.Image.Manifests.Clients)) {
		entry := s.Image.Manifests.Clients[name]
		if left := s.notCutOff(entry.Replaced); len(left) > 0 {
			doubts = append(doubts, fmt.Sprintf("client %s of another machine that had the name of node %s is not on the blocklist for an hour at least", strings.Join(left, ", "), name))
		}
		if s.accountsFor(name, entry) {
			continue
		}
		left := s.notCutOff(entry.Clients)
		switch {
		case len(entry.Clients) == 0:
			doubts = append(doubts, fmt.Sprintf("node %s had it in boot %s, and its client is not on record", name, entry.BootID))
		case len(left) > 0:
			doubts = append(doubts, fmt.Sprintf("client %s of node %s (boot %s) is not on the blocklist for an hour at least, and the node is not there, or not Ready", strings.Join(left, ", "), name, entry.BootID))
		}
	}
	return doubts
}

func (s Situation) notCutOff(clients []string) []string {
	return slices.DeleteFunc(slices.Clone(clients), func(client string) bool { return slices.Contains(s.Image.CutOff, client) })
}

// accountsFor tells whether a node that is Ready answers for a boot on record: it is the node's own, and what it has mapped would be
// seen; or the same machine has booted since.
func (s Situation) accountsFor(name string, entry v1alpha1.NodeClients) bool {
	at := slices.IndexFunc(s.Nodes, func(node corev1.Node) bool { return node.Name == name })
	if at < 0 || !volume.Ready(&s.Nodes[at]) {
		return false
	}
	info := s.Nodes[at].Status.NodeInfo
	return info.BootID == entry.BootID || info.MachineID != "" && info.MachineID == entry.MachineID && info.SystemUUID == entry.SystemUUID
}

// nodesOf says on which nodes clients lie.
func (s Situation) nodesOf(clients []string) string {
	var nodes []string
	for _, text := range clients {
		client, err := ceph.ParseAddress(text)
		if err != nil {
			continue
		}
		for i := range s.Nodes {
			if slices.Contains(volume.Addresses(&s.Nodes[i]), client.IP) {
				nodes = append(nodes, s.Nodes[i].Name)
			}
		}
	}
	if len(nodes) == 0 {
		return ""
	}
	return " (node " + strings.Join(slices.Compact(nodes), ", ") + ")"
}
