package observe

import (
	"context"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rbd-rescue/rbd-rescue/api/v1alpha1"
	"github.com/rbd-rescue/rbd-rescue/remediator/plan"
	"github.com/rbd-rescue/rbd-rescue/volume"
)

// HeldClaims are the claims of opted-in namespaces whose RBD volumes failed nodes hold, or nodes that are being fenced. A node
// that is not Ready holds those which Kubernetes would let another node have as well.
func (o *Observer) HeldClaims(ctx context.Context) (volume.HeldClaims, error) {
	nodes, err := o.FailedNodes(ctx)
	if err != nil {
		return nil, err
	}
	fenced, err := o.fencedNodes(ctx)
	if err != nil {
		return nil, err
	}
	notReady, err := o.nodesThatAre(ctx, nodeNotReady)
	if err != nil {
		return nil, err
	}
	held := volume.HeldClaims{}
	for _, node := range distinct(nodes, fenced, notReady) {
		onlyShared := slices.Contains(notReady, node) && !slices.Contains(fenced, node)
		volumes, err := o.heldBy(ctx, node)
		if err != nil {
			return nil, err
		}
		for _, v := range volumes {
			if onlyShared && !v.Shared {
				continue
			}
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

func distinct(lists ...[]string) []string {
	all := slices.Concat(lists...)
	slices.Sort(all)
	return slices.Compact(all)
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

// heldBy are the RBD volumes that a node has, but those whose claim is gone: a new claim of that name is another volume.
func (o *Observer) heldBy(ctx context.Context, name string) ([]volume.Volume, error) {
	s := plan.Snapshot{NodeName: name}
	var err error
	if s.Node, err = ReadNode(ctx, o.Reader, name); err != nil {
		return nil, err
	}
	if err := o.pods(ctx, name, &s); err != nil {
		return nil, err
	}
	if err := o.volumes(ctx, name, &s); err != nil {
		return nil, err
	}
	var held []volume.Volume
	for _, v := range s.Volumes {
		if v.Claim.Name != "" && !v.ClaimGone && plan.HeldBy(s, v) {
			held = append(held, v.Volume)
		}
	}
	return held, nil
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
