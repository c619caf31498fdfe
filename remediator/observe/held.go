package observe

import (
	"context"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rbd-rescue/rbd-rescue/api/v1alpha1"
	"github.com/rbd-rescue/rbd-rescue/volume"
)

// HeldClaims are the claims of opted-in namespaces whose RBD volumes failed nodes hold, or nodes that are being fenced.
func (o *Observer) HeldClaims(ctx context.Context) (volume.HeldClaims, error) {
	nodes, err := o.FailedNodes(ctx)
	if err != nil {
		return nil, err
	}
	fenced, err := o.fencedNodes(ctx)
	if err != nil {
		return nil, err
	}
	nodes = append(nodes, fenced...)
	slices.Sort(nodes)
	nodes = slices.Compact(nodes)
	held := volume.HeldClaims{}
	for _, node := range nodes {
		volumes, err := o.heldBy(ctx, node)
		if err != nil {
			return nil, err
		}
		for _, v := range volumes {
			policy, err := o.Policy(ctx, v.Claim.Namespace)
			if err != nil {
				return nil, err
			}
			if policy.OptedIn() {
				held[v.Claim] = append(held[v.Claim], v1alpha1.HeldVolume{Claim: v.Claim.String(), Volume: v.Name, Node: node, Shared: v.Shared})
			}
		}
	}
	return held, nil
}

// fencedNodes are those with an active NodeFence.
func (o *Observer) fencedNodes(ctx context.Context) ([]string, error) {
	var fences v1alpha1.NodeFenceList
	if err := o.Reader.List(ctx, &fences, client.UnsafeDisableDeepCopy); err != nil {
		return nil, fmt.Errorf("listing NodeFences: %w", err)
	}
	var names []string
	for i := range fences.Items {
		if fences.Items[i].Active() {
			names = append(names, fences.Items[i].Spec.NodeName)
		}
	}
	return names, nil
}

func (o *Observer) heldBy(ctx context.Context, node string) ([]volume.Volume, error) {
	var attachments storagev1.VolumeAttachmentList
	if err := o.Reader.List(ctx, &attachments, client.MatchingFields{indexAttachmentNode: node}, client.UnsafeDisableDeepCopy); err != nil {
		return nil, fmt.Errorf("listing the VolumeAttachments of node %s: %w", node, err)
	}
	var failure error
	held := volume.Held(attachments.Items, func(name string) *corev1.PersistentVolume {
		var pv corev1.PersistentVolume
		if err := o.Reader.Get(ctx, client.ObjectKey{Name: name}, &pv); err != nil {
			if !apierrors.IsNotFound(err) {
				failure = fmt.Errorf("reading PersistentVolume %s: %w", name, err)
			}
			return nil
		}
		return &pv
	})
	return held, failure
}

// Flagged are the pods that carry the label or the gate.
func (o *Observer) Flagged(ctx context.Context) (map[client.ObjectKey]*corev1.Pod, error) {
	var pods corev1.PodList
	if err := o.Reader.List(ctx, &pods, client.MatchingFields{indexPodFlagged: "true"}, client.UnsafeDisableDeepCopy); err != nil {
		return nil, fmt.Errorf("listing flagged pods: %w", err)
	}
	flagged := map[client.ObjectKey]*corev1.Pod{}
	for i := range pods.Items {
		flagged[client.ObjectKeyFromObject(&pods.Items[i])] = &pods.Items[i]
	}
	return flagged, nil
}
