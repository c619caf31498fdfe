package observe

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rbd-rescue/rbd-rescue/volume"
)

// AttachedNodes are the nodes that a PersistentVolume is attached to, and since when the newest attachment is there. One that is
// gone has a name and nothing else: its machine may still have the image mapped, and its watcher must not be taken for
// another's (S2).
func (o *Observer) AttachedNodes(ctx context.Context, persistentVolume string) (nodes []*corev1.Node, since time.Time, err error) {
	var attachments storagev1.VolumeAttachmentList
	if err := o.Reader.List(ctx, &attachments, client.MatchingFields{indexAttachmentVolume: persistentVolume}, client.UnsafeDisableDeepCopy); err != nil {
		return nil, since, fmt.Errorf("listing the VolumeAttachments of PersistentVolume %s: %w", persistentVolume, err)
	}
	for i := range attachments.Items {
		va := &attachments.Items[i]
		if _, attached := volume.Attached(va); !attached {
			continue
		}
		node, err := o.nodeOrName(ctx, va.Spec.NodeName)
		if err != nil {
			return nil, since, err
		}
		nodes = append(nodes, node)
		if va.CreationTimestamp.After(since) {
			since = va.CreationTimestamp.Time
		}
	}
	return nodes, since, nil
}

func (o *Observer) nodeOrName(ctx context.Context, name string) (*corev1.Node, error) {
	node, err := ReadNode(ctx, o.Reader, name)
	if node == nil && err == nil {
		node = &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}}
	}
	return node, err
}

// UsingNodes are the nodes that have pods with a claim: where its driver needs no attachment (in-tree volumes, CSIDriver
// attachRequired=false), these may have the image mapped, before a pod runs already (S2). One that is gone has a name and nothing else.
func (o *Observer) UsingNodes(ctx context.Context, claim types.NamespacedName) ([]*corev1.Node, error) {
	users, err := o.Users(ctx, claim)
	if err != nil {
		return nil, err
	}
	seen := map[string]bool{}
	var nodes []*corev1.Node
	for _, pod := range users {
		if volume.Finished(pod) || pod.Spec.NodeName == "" || seen[pod.Spec.NodeName] {
			continue
		}
		seen[pod.Spec.NodeName] = true
		node, err := o.nodeOrName(ctx, pod.Spec.NodeName)
		if err != nil {
			return nil, err
		}
		nodes = append(nodes, node)
	}
	return nodes, nil
}

// OwnerOf is a node that reports an address as its own and is none of the given ones; empty for nobody.
func (o *Observer) OwnerOf(ctx context.Context, ip netip.Addr, besides []*corev1.Node) (string, error) {
	var nodes corev1.NodeList
	if err := o.Reader.List(ctx, &nodes, client.MatchingFields{indexNodeAddress: ip.String()}, client.UnsafeDisableDeepCopy); err != nil {
		return "", fmt.Errorf("finding the node with address %s: %w", ip, err)
	}
	for i := range nodes.Items {
		if !slices.ContainsFunc(besides, func(n *corev1.Node) bool { return n.Name == nodes.Items[i].Name }) {
			return nodes.Items[i].Name, nil
		}
	}
	return "", nil
}

// fieldPodIP is one that the API server itself selects pods by. It has a pod's first address alone.
const fieldPodIP = "status.podIP"

// NodeOfPod is a node, other than the one of that name, on which a pod lives that has an address; empty for none. It asks the API itself,
// since the cache has only pods with claims: where pods reach Ceph without SNAT, a CSI provisioner opens images in its own.
func (o *Observer) NodeOfPod(ctx context.Context, ip netip.Addr, besides string) (string, error) {
	var pods corev1.PodList
	if err := o.Live.List(ctx, &pods, client.MatchingFields{fieldPodIP: ip.String()}); err != nil {
		return "", fmt.Errorf("finding the pod with address %s: %w", ip, err)
	}
	for i := range pods.Items {
		if pod := &pods.Items[i]; !volume.Finished(pod) && pod.Spec.NodeName != besides { // the address of one that is finished may be another's
			return pod.Spec.NodeName, nil
		}
	}
	return "", nil
}

// StaleRecords are the PersistentVolumes attached to a node whose record has no client of the node's current boot.
func (o *Observer) StaleRecords(ctx context.Context, node *corev1.Node) ([]string, error) {
	var attachments storagev1.VolumeAttachmentList
	if err := o.Reader.List(ctx, &attachments, client.MatchingFields{indexAttachmentNode: node.Name}, client.UnsafeDisableDeepCopy); err != nil {
		return nil, fmt.Errorf("listing the VolumeAttachments of node %s: %w", node.Name, err)
	}
	var stale []string
	for i := range attachments.Items {
		name, attached := volume.Attached(&attachments.Items[i])
		if !attached {
			continue
		}
		var pv corev1.PersistentVolume
		if err := o.Reader.Get(ctx, client.ObjectKey{Name: name}, &pv); err != nil {
			if apierrors.IsNotFound(err) {
				continue
			}
			return nil, fmt.Errorf("reading PersistentVolume %s: %w", name, err)
		}
		if record := Record(&pv)[node.Name]; record.BootID != volume.BootID(node) || len(record.Clients) == 0 {
			stale = append(stale, name)
		}
	}
	return stale, nil
}
