package observe

import (
	"context"
	"fmt"
	"net/netip"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rbd-rescue/rbd-rescue/api/v1alpha1"
	"github.com/rbd-rescue/rbd-rescue/remediator/plan"
	"github.com/rbd-rescue/rbd-rescue/volume"
)

// FailedNodes are the names of the nodes that have failed whatever their pods do: nothing is heard of them, somebody has
// tainted them as out of service, or they are gone while volumes are attached to them.
func (o *Observer) FailedNodes(ctx context.Context) ([]string, error) {
	names, err := o.nodesThatAre(ctx, nodeFailed)
	if err != nil {
		return nil, err
	}
	gone, err := o.GoneNodes(ctx)
	return append(names, gone...), err
}

// NodesInTrouble are the failed ones, and those that are not Ready: on these pods may be stuck.
func (o *Observer) NodesInTrouble(ctx context.Context) ([]string, error) {
	names, err := o.FailedNodes(ctx)
	if err != nil {
		return nil, err
	}
	notReady, err := o.nodesThatAre(ctx, nodeNotReady)
	return append(names, notReady...), err
}

func (o *Observer) nodesThatAre(ctx context.Context, state string) ([]string, error) {
	var nodes corev1.NodeList
	if err := o.Reader.List(ctx, &nodes, client.MatchingFields{indexNodeState: state}, client.UnsafeDisableDeepCopy); err != nil {
		return nil, fmt.Errorf("listing nodes that are %s: %w", state, err)
	}
	names := make([]string, len(nodes.Items))
	for i := range nodes.Items {
		names[i] = nodes.Items[i].Name
	}
	return names, nil
}

// GoneNodes are the nodes that VolumeAttachments of RBD drivers name and that have no Node object. What another driver left
// behind is not looked after here, and would keep the breaker open for ever.
func (o *Observer) GoneNodes(ctx context.Context) ([]string, error) {
	if o.Stores != nil {
		return o.Stores.goneNodes(), nil
	}
	var nodes corev1.NodeList
	if err := o.Reader.List(ctx, &nodes, client.UnsafeDisableDeepCopy); err != nil {
		return nil, fmt.Errorf("listing nodes: %w", err)
	}
	var attachments storagev1.VolumeAttachmentList
	if err := o.Reader.List(ctx, &attachments, client.UnsafeDisableDeepCopy); err != nil {
		return nil, fmt.Errorf("listing VolumeAttachments: %w", err)
	}
	seen := map[string]bool{}
	for i := range nodes.Items {
		seen[nodes.Items[i].Name] = true
	}
	var gone []string
	for i := range attachments.Items {
		for _, name := range nodeOfRBDVolume(&attachments.Items[i]) {
			if !seen[name] {
				seen[name] = true
				gone = append(gone, name)
			}
		}
	}
	return gone, nil
}

// nodes reads what the snapshot says of all nodes: the addresses of the others, and how many are well.
func (o *Observer) nodes(ctx context.Context, name string, s *plan.Snapshot) error {
	s.OtherNodes = map[netip.Addr]string{}
	var list corev1.NodeList
	if err := o.Reader.List(ctx, &list, client.UnsafeDisableDeepCopy); err != nil {
		return fmt.Errorf("listing nodes: %w", err)
	}
	nodes := make([]*corev1.Node, len(list.Items))
	for i := range list.Items {
		nodes[i] = &list.Items[i]
		if nodes[i].Name == name {
			continue
		}
		for _, ip := range volume.Addresses(nodes[i]) {
			s.OtherNodes[ip] = nodes[i].Name
		}
	}
	gone, err := o.GoneNodes(ctx)
	s.Health = plan.HealthOf(nodes, len(gone), s.Now)
	return err
}

// paused says who asked that nothing new is fenced: an annotation on the node or on rbd-rescue's own namespace.
func (o *Observer) paused(ctx context.Context, name string, s *plan.Snapshot) error {
	if s.Node != nil && s.Node.Annotations[v1alpha1.AnnotationPaused] == "true" {
		s.Paused = fmt.Sprintf("annotation %s on node %s pauses it", v1alpha1.AnnotationPaused, name)
		return nil
	}
	var namespace corev1.Namespace
	if err := o.Reader.Get(ctx, client.ObjectKey{Name: o.Namespace}, &namespace); err != nil {
		return ignoreNotFound(err, "reading namespace "+o.Namespace)
	}
	if namespace.Annotations[v1alpha1.AnnotationPaused] == "true" {
		s.Paused = fmt.Sprintf("annotation %s on namespace %s pauses rbd-rescue", v1alpha1.AnnotationPaused, o.Namespace)
	}
	return nil
}
