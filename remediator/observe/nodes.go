package observe

import (
	"context"
	"fmt"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rbd-rescue/rbd-rescue/api/v1alpha1"
	"github.com/rbd-rescue/rbd-rescue/remediator/plan"
	"github.com/rbd-rescue/rbd-rescue/volume"
)

// ReadNode reads a node from the cache or from the API itself; nil if it is gone.
func ReadNode(ctx context.Context, from client.Reader, name string) (*corev1.Node, error) {
	node := &corev1.Node{}
	switch err := from.Get(ctx, client.ObjectKey{Name: name}, node); {
	case apierrors.IsNotFound(err):
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("reading node %s: %w", name, err)
	}
	return node, nil
}

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
	nodes, err := o.allNodes(ctx)
	if err != nil {
		return nil, err
	}
	return o.GoneBeside(ctx, nodes)
}

// GoneBeside are those that are none of the given nodes, which are all: the cache may not have heard yet that some were deleted.
func (o *Observer) GoneBeside(ctx context.Context, nodes []*corev1.Node) ([]string, error) {
	names, err := o.nodesOfRBDVolumes(ctx)
	if err != nil {
		return nil, err
	}
	there := map[string]bool{}
	for _, node := range nodes {
		there[node.Name] = true
	}
	return slices.DeleteFunc(names, func(name string) bool { return there[name] }), nil
}

// nodesOfRBDVolumes are those that RBD volumes are attached to, by name, be there such nodes or not.
func (o *Observer) nodesOfRBDVolumes(ctx context.Context) ([]string, error) {
	if o.Stores != nil {
		return o.Stores.nodesOfRBDVolumes(), nil
	}
	attachments, err := o.eachAttachment(ctx)
	if err != nil {
		return nil, err
	}
	var names []string
	for va := range attachments {
		names = append(names, nodeOfRBDVolume(va)...)
	}
	return distinct(names), nil
}

// nodes reads what the snapshot says of all nodes: the addresses of the others, and how many are well.
func (o *Observer) nodes(ctx context.Context, name string, s *plan.Snapshot) error {
	s.OtherNodes = map[netip.Addr]string{}
	nodes, err := o.allNodes(ctx)
	if err != nil {
		return err
	}
	for _, node := range nodes {
		if node.Name == name {
			continue
		}
		for _, ip := range volume.Addresses(node) {
			s.OtherNodes[ip] = node.Name
		}
	}
	gone, err := o.GoneNodes(ctx)
	s.Health = plan.HealthOf(nodes, len(gone), s.Now)
	return err
}

func (o *Observer) allNodes(ctx context.Context) ([]*corev1.Node, error) {
	nodes, err := o.eachNode(ctx)
	if err != nil {
		return nil, err
	}
	return slices.Collect(nodes), nil
}

// Health of all nodes, for the breaker.
func (o *Observer) Health(ctx context.Context) (plan.Health, error) {
	nodes, err := o.allNodes(ctx)
	if err != nil {
		return plan.Health{}, err
	}
	gone, err := o.GoneNodes(ctx)
	return plan.HealthOf(nodes, len(gone), o.Clock.Now()), err
}

// paused says who asked that nothing new is fenced: an annotation on the node or on rbd-rescue's own namespace.
func (o *Observer) paused(ctx context.Context, name string, s *plan.Snapshot) error {
	if s.Node != nil && pauses(s.Node) {
		s.Paused = fmt.Sprintf("annotation %s on node %s pauses it", v1alpha1.AnnotationPaused, name)
		return nil
	}
	whole, err := o.PausedWhole(ctx)
	if whole {
		s.Paused = fmt.Sprintf("annotation %s on namespace %s pauses rbd-rescue", v1alpha1.AnnotationPaused, o.Namespace)
	}
	return err
}

// PausedWhole tells whether somebody asked that nothing new is fenced, whatever the node.
func (o *Observer) PausedWhole(ctx context.Context) (bool, error) {
	var namespace corev1.Namespace
	if err := o.Reader.Get(ctx, client.ObjectKey{Name: o.Namespace}, &namespace); err != nil {
		return false, ignoreNotFound(err, "reading namespace "+o.Namespace)
	}
	return pauses(&namespace), nil
}

// PausedNodes counts the nodes of which somebody asked that they are not fenced.
func (o *Observer) PausedNodes(ctx context.Context) (int, error) {
	nodes, err := o.nodesThatAre(ctx, nodePaused)
	return len(nodes), err
}

func pauses(object client.Object) bool {
	return object.GetAnnotations()[v1alpha1.AnnotationPaused] == "true"
}
