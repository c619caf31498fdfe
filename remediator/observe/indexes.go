package observe

import (
	"context"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rbd-rescue/rbd-rescue/api/v1alpha1"
	"github.com/rbd-rescue/rbd-rescue/remediator/plan"
	"github.com/rbd-rescue/rbd-rescue/volume"
)

// Names of the cache indexes: what a failure needs is looked up, not searched for, so that its cost grows with the failure.
const (
	indexPodNode          = "pod.node"
	indexPodClaim         = "pod.claim"
	indexPodFlagged       = "pod.flagged"
	indexAttachmentNode   = "attachment.node"
	indexAttachmentVolume = "attachment.volume"
	indexVolumeUniqueName = "volume.uniqueName"
	indexVolumeClaim      = "volume.claim"
	indexVolumeClientIP   = "volume.clientIP"
	indexNodeState        = "node.state"
	indexNodeAddress      = "node.address"
	indexFenceNode        = "fence.node"
)

// AddIndexes makes the cache keep what the Observer looks up.
func AddIndexes(ctx context.Context, indexer client.FieldIndexer) error {
	for _, index := range []struct {
		object client.Object
		name   string
		values client.IndexerFunc
	}{
		{&corev1.Pod{}, indexPodNode, func(o client.Object) []string { return nonEmpty(o.(*corev1.Pod).Spec.NodeName) }},
		{&corev1.Pod{}, indexPodClaim, podClaims},
		{&corev1.Pod{}, indexPodFlagged, func(o client.Object) []string {
			if _, flagged := o.GetLabels()[v1alpha1.LabelHeld]; flagged || plan.Gated(o.(*corev1.Pod)) {
				return []string{"true"}
			}
			return nil
		}},
		{&storagev1.VolumeAttachment{}, indexAttachmentNode, func(o client.Object) []string {
			return nonEmpty(o.(*storagev1.VolumeAttachment).Spec.NodeName)
		}},
		{&storagev1.VolumeAttachment{}, indexAttachmentVolume, func(o client.Object) []string {
			name, _ := volume.Attached(o.(*storagev1.VolumeAttachment))
			return nonEmpty(name)
		}},
		{&corev1.PersistentVolume{}, indexVolumeUniqueName, volumeUniqueName},
		{&corev1.PersistentVolume{}, indexVolumeClaim, volumeClaim},
		{&corev1.PersistentVolume{}, indexVolumeClientIP, volumeClientIPs},
		{&corev1.Node{}, indexNodeState, nodeState},
		{&corev1.Node{}, indexNodeAddress, nodeAddresses},
		{&v1alpha1.NodeFence{}, indexFenceNode, func(o client.Object) []string {
			return nonEmpty(o.(*v1alpha1.NodeFence).Spec.NodeName)
		}},
	} {
		if err := indexer.IndexField(ctx, index.object, index.name, index.values); err != nil {
			return fmt.Errorf("adding index %s: %w", index.name, err)
		}
	}
	return nil
}

func nonEmpty(value string) []string {
	if value == "" {
		return nil
	}
	return []string{value}
}

func podClaims(o client.Object) []string {
	pod := o.(*corev1.Pod)
	var names []string
	for _, claim := range volume.Claims(pod, pod.Namespace) {
		names = append(names, claim.Name)
	}
	return names
}

func volumeUniqueName(o client.Object) []string {
	pv := o.(*corev1.PersistentVolume)
	if !volume.IsRBD(pv) {
		return nil
	}
	v, _ := volume.Parse(pv)
	return []string{v.UniqueName}
}

func volumeClaim(o client.Object) []string {
	if ref := o.(*corev1.PersistentVolume).Spec.ClaimRef; ref != nil {
		return []string{types.NamespacedName{Namespace: ref.Namespace, Name: ref.Name}.String()}
	}
	return nil
}

func volumeClientIPs(o client.Object) []string {
	var ips []string
	for _, clients := range Record(o.(*corev1.PersistentVolume)) {
		for _, address := range addressesOf(clients) {
			if ip := address.IP.String(); !slices.Contains(ips, ip) {
				ips = append(ips, ip)
			}
		}
	}
	return ips
}

// Values of indexNodeState; a node that is well, and that nobody has paused, has none.
const (
	nodeFailed   = "failed"
	nodeNotReady = "not ready"
	nodePaused   = "paused"
)

func nodeState(o client.Object) []string {
	node := o.(*corev1.Node)
	var states []string
	if _, failed := volume.Failed(node); failed {
		states = append(states, nodeFailed)
	} else if _, notReady := volume.NotReady(node); notReady {
		states = append(states, nodeNotReady)
	}
	if pauses(node) {
		states = append(states, nodePaused)
	}
	return states
}

func nodeAddresses(o client.Object) []string {
	var texts []string
	for _, ip := range volume.Addresses(o.(*corev1.Node)) {
		texts = append(texts, ip.String())
	}
	return texts
}
