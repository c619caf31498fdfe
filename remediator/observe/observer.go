package observe

import (
	"cmp"
	"context"
	"fmt"
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

// Observer reads snapshots.
type Observer struct {
	// Reader is a cache with the indexes of AddIndexes.
	Reader client.Reader
	// Live reads the API itself: the node of an incident, the other NodeFences, and what a record goes by.
	Live client.Reader
	// Stores are those of the same cache; nil has the Reader asked, which costs more.
	Stores   *Stores
	Clusters *ceph.Clusters
	Clock    clock.PassiveClock
	// Namespace is rbd-rescue's own: an annotation there pauses it.
	Namespace string
	Settings  plan.Settings

	attachments liveAttachments
}

// Node reads what Kubernetes says about a node, with its newest NodeFence if there is one; nothing is asked of Ceph.
func (o *Observer) Node(ctx context.Context, name string) (plan.Snapshot, error) {
	var fences v1alpha1.NodeFenceList
	if err := o.Reader.List(ctx, &fences, client.MatchingFields{indexFenceNode: name}); err != nil {
		return plan.Snapshot{}, fmt.Errorf("listing the NodeFences of node %s: %w", name, err)
	}
	return o.kubernetes(ctx, name, newest(fences.Items), o.Reader)
}

// Identity is the node's last boot, as the API itself says.
func (o *Observer) Identity(ctx context.Context, name string) (plan.Identity, error) {
	s, err := o.kubernetes(ctx, name, nil, o.Live)
	if err != nil {
		return plan.Identity{}, err
	}
	return plan.IdentityOf(s), nil
}

// Incident reads everything about a NodeFence's node, from Kubernetes and from Ceph. What Ceph does not tell is no error:
// it is in the snapshot, so that the decision can say so.
//
// The node itself is read from the API: a cache that is old may show the boot before the one that is fenced, Ready, so that it
// would be lifted (S3) or not renewed (S4), or the node without its taint, which nobody would take away any more. So are the
// other NodeFences: one of them may be about to remove an entry that this one needs (S1).
func (o *Observer) Incident(ctx context.Context, nf *v1alpha1.NodeFence) (plan.Snapshot, error) {
	s, err := o.kubernetes(ctx, nf.Spec.NodeName, nf, o.Live)
	if err != nil {
		return s, err
	}
	return s, o.complete(ctx, &s)
}

// newest prefers an active NodeFence to one that has ended. It is the same one whatever the order of the list.
func newest(fences []v1alpha1.NodeFence) *v1alpha1.NodeFence {
	if len(fences) == 0 {
		return nil
	}
	best := slices.MaxFunc(fences, func(a, b v1alpha1.NodeFence) int {
		if a.Active() != b.Active() {
			if a.Active() {
				return 1
			}
			return -1
		}
		return cmp.Or(a.CreationTimestamp.Compare(b.CreationTimestamp.Time), strings.Compare(a.Name, b.Name))
	})
	return &best
}

// kubernetes reads the node and the other NodeFences from one reader, and all else from the cache.
func (o *Observer) kubernetes(ctx context.Context, name string, nf *v1alpha1.NodeFence, from client.Reader) (plan.Snapshot, error) {
	s := plan.Snapshot{
		Now: o.Clock.Now(), NodeName: name, Fence: nf, Settings: o.Settings,
		Policies: map[string]v1alpha1.Policy{}, UnfencedClaims: map[types.NamespacedName]string{},
	}
	var err error
	if s.Node, err = ReadNode(ctx, from, name); err != nil {
		return s, err
	}
	for _, read := range []func(context.Context, string, *plan.Snapshot) error{
		o.pods, o.volumes, o.unfencedClaims, o.policies, o.nodes, o.paused,
	} {
		if err := read(ctx, name, &s); err != nil {
			return s, err
		}
	}
	return s, otherFences(ctx, from, &s)
}

func (o *Observer) pods(ctx context.Context, name string, s *plan.Snapshot) error {
	var pods corev1.PodList
	if err := o.Reader.List(ctx, &pods, client.MatchingFields{indexPodNode: name}, client.UnsafeDisableDeepCopy); err != nil {
		return fmt.Errorf("listing the pods of node %s: %w", name, err)
	}
	for i := range pods.Items {
		s.Pods = append(s.Pods, &pods.Items[i])
	}
	return nil
}

func otherFences(ctx context.Context, from client.Reader, s *plan.Snapshot) error {
	var fences v1alpha1.NodeFenceList
	if err := from.List(ctx, &fences, client.UnsafeDisableDeepCopy); err != nil {
		return fmt.Errorf("listing NodeFences: %w", err)
	}
	for i := range fences.Items {
		if nf := &fences.Items[i]; nf.Active() && (s.Fence == nil || nf.Name != s.Fence.Name) {
			s.OtherFences = append(s.OtherFences, nf)
		}
	}
	return nil
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
	for _, pod := range s.Pods { // a volume without a VolumeAttachment is held by its pods alone
		for _, claim := range volume.Claims(pod, pod.Namespace) {
			name, err := boundTo(ctx, o.Reader, claim)
			if err != nil {
				return err
			}
			names = append(names, name)
		}
	}
	if s.Fence != nil {
		for _, entry := range s.Fence.Status.Volumes {
			names = append(names, entry.PersistentVolume)
		}
	}
	names = slices.DeleteFunc(names, func(name string) bool { return name == "" })
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
	if v.Volume, v.FormError, err = o.parse(ctx, &pv); err != nil {
		return v, false, err
	}
	records, err := ReadRecord(&pv)
	if record, ok := records[node]; ok {
		v.Record = &record
	}
	v.RecordError = err
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

// parse reads a PersistentVolume and what its driver says. formError says why its image cannot be told.
func (o *Observer) parse(ctx context.Context, pv *corev1.PersistentVolume) (v volume.Volume, formError, err error) {
	v, formError = volume.Parse(pv)
	if pv.Spec.CSI == nil {
		return v, formError, nil
	}
	var driver storagev1.CSIDriver
	if err := o.Reader.Get(ctx, client.ObjectKey{Name: pv.Spec.CSI.Driver}, &driver); err != nil {
		return v, formError, ignoreNotFound(err, "reading CSIDriver "+pv.Spec.CSI.Driver) // without one, attachment is required
	}
	if !volume.AttachmentRequired(&driver) {
		v.NeedsNoAttachment()
	}
	return v, formError, nil
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

// unfencedClaims finds claims of the node's pods that can be written to and are not RBD's (S6).
func (o *Observer) unfencedClaims(ctx context.Context, _ string, s *plan.Snapshot) error {
	for _, pod := range s.Pods {
		if volume.Finished(pod) {
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

// unfencedStorage says what a claim's storage is, if it is not known to be fenced with the node's RBD clients; empty if it is. A claim
// that the cache does not have, or has not seen bound, may be of any storage: it is looked up again in the next look.
func (o *Observer) unfencedStorage(ctx context.Context, key types.NamespacedName) (string, error) {
	var claim corev1.PersistentVolumeClaim
	switch err := o.Reader.Get(ctx, key, &claim); {
	case apierrors.IsNotFound(err):
		return "not known: no such claim is there, or not yet", nil
	case err != nil:
		return "", fmt.Errorf("reading claim %s: %w", key, err)
	case claim.Spec.VolumeName == "":
		return "not known: the claim is bound to no PersistentVolume, or not yet", nil
	}
	name := claim.Spec.VolumeName
	var pv corev1.PersistentVolume
	switch err := o.Reader.Get(ctx, client.ObjectKey{Name: name}, &pv); {
	case apierrors.IsNotFound(err):
		return "PersistentVolume " + name + ", which is gone", nil
	case err != nil:
		return "", fmt.Errorf("reading PersistentVolume %s: %w", name, err)
	case volume.IsRBD(&pv), volume.ReadOnlyModes(&pv), pv.Spec.Local != nil, pv.Spec.HostPath != nil:
		return "", nil // RBD is judged by itself; what is the node's own cannot be written to from elsewhere
	}
	return "PersistentVolume " + pv.Name, nil
}

// boundTo is the PersistentVolume that a claim is bound to; empty for none.
func boundTo(ctx context.Context, from client.Reader, key types.NamespacedName) (string, error) {
	var claim corev1.PersistentVolumeClaim
	if err := from.Get(ctx, key, &claim); err != nil {
		return "", ignoreNotFound(err, "reading claim "+key.String())
	}
	return claim.Spec.VolumeName, nil
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
	return Policy(ctx, o.Reader, name)
}

// Policy reads it from the cache or from the API itself.
func Policy(ctx context.Context, from client.Reader, name string) (v1alpha1.Policy, error) {
	var namespace corev1.Namespace
	if err := from.Get(ctx, client.ObjectKey{Name: name}, &namespace); err != nil {
		return v1alpha1.Policy{}, ignoreNotFound(err, "reading namespace "+name)
	}
	if namespace.DeletionTimestamp != nil {
		return v1alpha1.Policy{}, nil
	}
	policy, _ := v1alpha1.ParsePolicy(namespace.Annotations) // a meaningless value gives the zero policy
	return policy, nil
}

func ignoreNotFound(err error, doing string) error {
	if apierrors.IsNotFound(err) {
		return nil
	}
	return fmt.Errorf("%s: %w", doing, err)
}
