package observe

import (
	"context"
	"fmt"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rbd-rescue/rbd-rescue/api/v1alpha1"
	"github.com/rbd-rescue/rbd-rescue/remediator/plan"
	"github.com/rbd-rescue/rbd-rescue/volume"
)

// Holders are the nodes that are not Ready, or gone, and hold a ReadWriteMany volume of a pod. How the nodes are is read by
// nodes, which may be the API itself; all else is older than a node's failure, so that the cache has it.
func (o *Observer) Holders(ctx context.Context, nodes client.Reader, pod *corev1.Pod) ([]plan.Holder, error) {
	var holders []plan.Holder
	for _, claim := range volume.Claims(pod, pod.Namespace) {
		v, found, err := o.shared(ctx, claim)
		if err != nil {
			return nil, err
		}
		if !found {
			continue
		}
		names, err := o.holding(ctx, v)
		if err != nil {
			return nil, err
		}
		for _, name := range names {
			node := &corev1.Node{}
			switch err := nodes.Get(ctx, client.ObjectKey{Name: name}, node); {
			case apierrors.IsNotFound(err):
				node = nil
			case err != nil:
				return nil, fmt.Errorf("reading node %s: %w", name, err)
			case volume.Ready(node):
				continue
			}
			fences, err := o.fencesOf(ctx, name)
			if err != nil {
				return nil, err
			}
			holders = append(holders, plan.Holder{NodeName: name, Node: node, Volume: v, Fences: fences})
		}
	}
	return holders, nil
}

// shared is the ReadWriteMany RBD volume of a claim.
func (o *Observer) shared(ctx context.Context, claim types.NamespacedName) (v volume.Volume, found bool, err error) {
	name, err := o.boundTo(ctx, claim)
	if name == "" || err != nil {
		return v, false, err
	}
	var pv corev1.PersistentVolume
	if err := o.Reader.Get(ctx, client.ObjectKey{Name: name}, &pv); err != nil {
		return v, false, ignoreNotFound(err, "reading PersistentVolume "+name)
	}
	if !volume.IsRBD(&pv) {
		return v, false, nil
	}
	v, _ = volume.Parse(&pv) // a volume of an unknown form is refused, but held all the same
	return v, v.Shared, nil
}

// holding are the nodes that hold a volume: it is attached to them, or in use as they said last, or used by a pod on them.
func (o *Observer) holding(ctx context.Context, v volume.Volume) ([]string, error) {
	names := map[string]bool{}
	var attachments storagev1.VolumeAttachmentList
	if err := o.Reader.List(ctx, &attachments, client.MatchingFields{indexAttachmentVolume: v.Name}, client.UnsafeDisableDeepCopy); err != nil {
		return nil, fmt.Errorf("listing the VolumeAttachments of PersistentVolume %s: %w", v.Name, err)
	}
	for i := range attachments.Items {
		names[attachments.Items[i].Spec.NodeName] = true
	}
	users, err := o.Users(ctx, v.Claim)
	if err != nil {
		return nil, err
	}
	for _, pod := range users {
		if pod.Spec.NodeName != "" && !volume.Finished(pod) {
			names[pod.Spec.NodeName] = true
		}
	}
	var nodes corev1.NodeList
	if err := o.Reader.List(ctx, &nodes, client.UnsafeDisableDeepCopy); err != nil {
		return nil, fmt.Errorf("listing nodes: %w", err)
	}
	for i := range nodes.Items {
		if slices.Contains(nodes.Items[i].Status.VolumesInUse, corev1.UniqueVolumeName(v.UniqueName)) {
			names[nodes.Items[i].Name] = true
		}
	}
	return slices.Sorted(maps.Keys(names)), nil
}

func (o *Observer) fencesOf(ctx context.Context, node string) ([]*v1alpha1.NodeFence, error) {
	var list v1alpha1.NodeFenceList
	if err := o.Reader.List(ctx, &list, client.MatchingFields{indexFenceNode: node}, client.UnsafeDisableDeepCopy); err != nil {
		return nil, fmt.Errorf("listing the NodeFences of node %s: %w", node, err)
	}
	fences := make([]*v1alpha1.NodeFence, len(list.Items))
	for i := range list.Items {
		fences[i] = &list.Items[i]
	}
	return fences, nil
}
