package observe

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rbd-rescue/rbd-rescue/api/v1alpha1"
	"github.com/rbd-rescue/rbd-rescue/ceph"
	"github.com/rbd-rescue/rbd-rescue/remediator/plan"
	"github.com/rbd-rescue/rbd-rescue/volume"
)

// Observer reads snapshots. Reader is a cache with the indexes of AddIndexes.
type Observer struct {
	Reader   client.Reader
	Clusters *ceph.Clusters
	Clock    clock.PassiveClock
}

// Node reads what Kubernetes says about a node, with its newest NodeFence if there is one; nothing is asked of Ceph.
func (o *Observer) Node(ctx context.Context, name string) (plan.Snapshot, error) {
	var fences v1alpha1.NodeFenceList
	if err := o.Reader.List(ctx, &fences, client.MatchingFields{indexFenceNode: name}); err != nil {
		return plan.Snapshot{}, fmt.Errorf("listing the NodeFences of node %s: %w", name, err)
	}
	return o.kubernetes(ctx, name, newest(fences.Items))
}

// Incident reads everything about a NodeFence's node, from Kubernetes and from Ceph. What Ceph does not tell is no error:
// it is in the snapshot, so that the decision can say so.
func (o *Observer) Incident(ctx context.Context, nf *v1alpha1.NodeFence) (plan.Snapshot, error) {
	s, err := o.kubernetes(ctx, nf.Spec.NodeName, nf)
	if err != nil || !nf.Active() {
		return s, err
	}
	o.ceph(ctx, &s)
	if s.OtherClients, err = o.otherClients(ctx, s); err != nil {
		return plan.Snapshot{}, err
	}
	return s, nil
}

// FailedNodes are the names of the nodes that count as failed.
func (o *Observer) FailedNodes(ctx context.Context) ([]string, error) {
	var nodes corev1.NodeList
	if err := o.Reader.List(ctx, &nodes, client.MatchingFields{indexNodeFailed: "true"}, client.UnsafeDisableDeepCopy); err != nil {
		return nil, fmt.Errorf("listing failed nodes: %w", err)
	}
	var names []string
	for i := range nodes.Items {
		names = append(names, nodes.Items[i].Name)
	}
	return names, nil
}

// newest prefers an active NodeFence to one that has ended.
func newest(fences []v1alpha1.NodeFence) *v1alpha1.NodeFence {
	var best *v1alpha1.NodeFence
	for i := range fences {
		nf := &fences[i]
		if best == nil || (nf.Active() && !best.Active()) ||
			(nf.Active() == best.Active() && best.CreationTimestamp.Before(&nf.CreationTimestamp)) {
			best = nf
		}
	}
	return best
}

func (o *Observer) kubernetes(ctx context.Context, name string, nf *v1alpha1.NodeFence) (plan.Snapshot, error) {
	s := plan.Snapshot{
		Now: o.Clock.Now(), Fence: nf,
		Policies: map[string]v1alpha1.Policy{}, UnfencedClaims: map[types.NamespacedName]string{},
	}
	var node corev1.Node
	switch err := o.Reader.Get(ctx, client.ObjectKey{Name: name}, &node); {
	case err == nil:
		s.Node = &node
	case !apierrors.IsNotFound(err):
		return s, fmt.Errorf("reading node %s: %w", name, err)
	}
	var pods corev1.PodList
	if err := o.Reader.List(ctx, &pods, client.MatchingFields{indexPodNode: name}, client.UnsafeDisableDeepCopy); err != nil {
		return s, fmt.Errorf("listing the pods of node %s: %w", name, err)
	}
	for i := range pods.Items {
		s.Pods = append(s.Pods, &pods.Items[i])
	}
	for _, read := range []func(context.Context, string, *plan.Snapshot) error{
		o.volumes, o.unfencedClaims, o.policies, o.otherNodes, o.health,
	} {
		if err := read(ctx, name, &s); err != nil {
			return s, err
		}
	}
	return s, nil
}

// volumes are those that are attached to the node, that the node says it uses, or that its NodeFence lists.
func (o *Observer) volumes(ctx context.Context, node string, s *plan.Snapshot) error {
	var names []string
	var attachments storagev1.VolumeAttachmentList
	if err := o.Reader.List(ctx, &attachments, client.MatchingFields{indexAttachmentNode: node}, client.UnsafeDisableDeepCopy); err != nil {
		return fmt.Errorf("listing the VolumeAttachments of node %s: %w", node, err)
	}
	for i := range attachments.Items {
		if name, attached := volume.Attached(&attachments.Items[i]); attached {
			names = append(names, name)
		}
	}
	if s.Node != nil {
		for _, unique := range s.Node.Status.VolumesInUse {
			var pvs corev1.PersistentVolumeList
			if err := o.Reader.List(ctx, &pvs, client.MatchingFields{indexVolumeUniqueName: string(unique)}, client.UnsafeDisableDeepCopy); err != nil {
				return fmt.Errorf("finding the PersistentVolume of %s: %w", unique, err)
			}
			for i := range pvs.Items {
				names = append(names, pvs.Items[i].Name)
			}
		}
	}
	if s.Fence != nil {
		for _, entry := range s.Fence.Status.Volumes {
			names = append(names, entry.PersistentVolume)
		}
	}
	slices.Sort(names)
	for _, name := range slices.Compact(names) {
		v, found, err := o.volume(ctx, node, name)
		if err != nil {
			return err
		}
		if found {
			s.Volumes = append(s.Volumes, v)
		}
	}
	return nil
}

func (o *Observer) volume(ctx context.Context, node, name string) (v plan.Volume, found bool, err error) {
	var pv corev1.PersistentVolume
	if err := o.Reader.Get(ctx, client.ObjectKey{Name: name}, &pv); err != nil {
		if apierrors.IsNotFound(err) {
			return v, false, nil
		}
		return v, false, fmt.Errorf("reading PersistentVolume %s: %w", name, err)
	}
	if !volume.IsRBD(&pv) || volume.ReadOnlyModes(&pv) {
		return v, false, nil
	}
	v.Volume, v.FormError = volume.Parse(&pv)
	if record, ok := Record(&pv)[node]; ok {
		v.Record = &record
	}
	var attachments storagev1.VolumeAttachmentList
	if err := o.Reader.List(ctx, &attachments, client.MatchingFields{indexAttachmentVolume: name}, client.UnsafeDisableDeepCopy); err != nil {
		return v, false, fmt.Errorf("listing the VolumeAttachments of PersistentVolume %s: %w", name, err)
	}
	for i := range attachments.Items {
		v.Attachments = append(v.Attachments, &attachments.Items[i])
	}
	v.Users, err = o.Users(ctx, v.Claim)
	return v, err == nil, err
}

// Users are the pods that name a claim, on any node or on none.
func (o *Observer) Users(ctx context.Context, claim types.NamespacedName) ([]*corev1.Pod, error) {
	if claim.Name == "" {
		return nil, nil
	}
	var pods corev1.PodList
	if err := o.Reader.List(ctx, &pods, client.InNamespace(claim.Namespace),
		client.MatchingFields{indexPodClaim: claim.Name}, client.UnsafeDisableDeepCopy); err != nil {
		return nil, fmt.Errorf("listing the pods that use claim %s: %w", claim, err)
	}
	users := make([]*corev1.Pod, len(pods.Items))
	for i := range pods.Items {
		users[i] = &pods.Items[i]
	}
	return users, nil
}

// unfencedClaims finds claims of the node's Terminating pods that can be written to and are not RBD's (S6).
func (o *Observer) unfencedClaims(ctx context.Context, _ string, s *plan.Snapshot) error {
	for _, pod := range s.Pods {
		if !volume.Terminating(pod) {
			continue
		}
		for _, claim := range volume.Claims(pod, pod.Namespace) {
			storage, err := o.unfencedStorage(ctx, claim)
			if err != nil {
				return err
			}
			if storage != "" {
				s.UnfencedClaims[claim] = storage
			}
		}
	}
	return nil
}

func (o *Observer) unfencedStorage(ctx context.Context, key types.NamespacedName) (string, error) {
	var claim corev1.PersistentVolumeClaim
	if err := o.Reader.Get(ctx, key, &claim); err != nil {
		return "", ignoreNotFound(err, "reading claim "+key.String())
	}
	if claim.Spec.VolumeName == "" {
		return "", nil
	}
	var pv corev1.PersistentVolume
	switch err := o.Reader.Get(ctx, client.ObjectKey{Name: claim.Spec.VolumeName}, &pv); {
	case apierrors.IsNotFound(err):
		return "PersistentVolume " + claim.Spec.VolumeName + ", which is gone", nil
	case err != nil:
		return "", fmt.Errorf("reading PersistentVolume %s: %w", claim.Spec.VolumeName, err)
	case volume.IsRBD(&pv), volume.ReadOnlyModes(&pv), pv.Spec.Local != nil, pv.Spec.HostPath != nil:
		return "", nil // RBD is judged by itself; what is the node's own cannot be written to from elsewhere
	}
	return "PersistentVolume " + pv.Name, nil
}

func (o *Observer) policies(ctx context.Context, _ string, s *plan.Snapshot) error {
	for _, v := range s.Volumes {
		namespace := v.Claim.Namespace
		if _, known := s.Policies[namespace]; known || namespace == "" {
			continue
		}
		policy, err := o.Policy(ctx, namespace)
		if err != nil {
			return err
		}
		s.Policies[namespace] = policy
	}
	return nil
}

// Policy of a namespace. One that is gone or going, or whose annotations mean nothing, has not opted in (S6): where a
// namespace is being deleted its pods are Terminating, but nobody wants their volumes elsewhere.
func (o *Observer) Policy(ctx context.Context, name string) (v1alpha1.Policy, error) {
	var namespace corev1.Namespace
	if err := o.Reader.Get(ctx, client.ObjectKey{Name: name}, &namespace); err != nil {
		return v1alpha1.Policy{}, ignoreNotFound(err, "reading namespace "+name)
	}
	if namespace.DeletionTimestamp != nil {
		return v1alpha1.Policy{}, nil
	}
	policy, _ := v1alpha1.ParsePolicy(namespace.Annotations) // a meaningless value gives the zero policy
	return policy, nil
}

func (o *Observer) otherNodes(ctx context.Context, name string, s *plan.Snapshot) error {
	s.OtherNodes = map[netip.Addr]string{}
	var nodes corev1.NodeList
	if err := o.Reader.List(ctx, &nodes, client.UnsafeDisableDeepCopy); err != nil {
		return fmt.Errorf("listing nodes: %w", err)
	}
	s.Health.Nodes = len(nodes.Items)
	for i := range nodes.Items {
		if nodes.Items[i].Name == name {
			continue
		}
		for _, ip := range volume.Addresses(&nodes.Items[i]) {
			s.OtherNodes[ip] = nodes.Items[i].Name
		}
	}
	return nil
}

func (o *Observer) health(ctx context.Context, _ string, s *plan.Snapshot) error {
	failed, err := o.FailedNodes(ctx)
	s.Health.Failed = len(failed)
	return err
}

// otherClients finds the addresses of the snapshot that a record names for the current boot of another node.
func (o *Observer) otherClients(ctx context.Context, s plan.Snapshot) (map[ceph.Address]string, error) {
	others := map[ceph.Address]string{}
	for _, address := range candidates(s) {
		var pvs corev1.PersistentVolumeList
		if err := o.Reader.List(ctx, &pvs, client.MatchingFields{indexVolumeClient: address.String()}, client.UnsafeDisableDeepCopy); err != nil {
			return nil, fmt.Errorf("finding the records of client %s: %w", address, err)
		}
		for i := range pvs.Items {
			for node, clients := range Record(&pvs.Items[i]) {
				if node == s.Fence.Spec.NodeName || !slices.Contains(clients.Clients, address.String()) {
					continue
				}
				var other corev1.Node
				if err := o.Reader.Get(ctx, client.ObjectKey{Name: node}, &other); err != nil {
					if apierrors.IsNotFound(err) {
						continue
					}
					return nil, fmt.Errorf("reading node %s: %w", node, err)
				}
				if volume.BootID(&other) == clients.BootID {
					others[address] = node
				}
			}
		}
	}
	return others, nil
}

// candidates are the addresses that a decision about the snapshot may come to.
func candidates(s plan.Snapshot) []ceph.Address {
	var addresses []ceph.Address
	for _, v := range s.Volumes {
		for _, watcher := range v.Watchers {
			addresses = append(addresses, watcher.Address)
		}
		if v.Record == nil {
			continue
		}
		for _, text := range v.Record.Clients {
			if address, err := ceph.ParseAddress(text); err == nil {
				addresses = append(addresses, address)
			}
		}
	}
	slices.SortFunc(addresses, func(a, b ceph.Address) int { return strings.Compare(a.String(), b.String()) })
	return slices.Compact(addresses)
}

func ignoreNotFound(err error, doing string) error {
	if apierrors.IsNotFound(err) {
		return nil
	}
	return fmt.Errorf("%s: %w", doing, err)
}
