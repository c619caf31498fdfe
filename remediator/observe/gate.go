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
	"github.com/rbd-rescue/rbd-rescue/ceph"
	"github.com/rbd-rescue/rbd-rescue/remediator/plan"
	"github.com/rbd-rescue/rbd-rescue/volume"
)

// GateView reads what gates are decided on, from the cache or from the API itself.
func GateView(ctx context.Context, from client.Reader) (plan.GateView, error) {
	view := plan.GateView{Nodes: map[string]*corev1.Node{}}
	var nodes corev1.NodeList
	if err := from.List(ctx, &nodes, client.UnsafeDisableDeepCopy); err != nil {
		return view, fmt.Errorf("listing nodes: %w", err)
	}
	for i := range nodes.Items {
		view.Nodes[nodes.Items[i].Name] = &nodes.Items[i]
	}
	var attachments storagev1.VolumeAttachmentList
	if err := from.List(ctx, &attachments, client.UnsafeDisableDeepCopy); err != nil {
		return view, fmt.Errorf("listing VolumeAttachments: %w", err)
	}
	for i := range attachments.Items {
		view.Attachments = append(view.Attachments, &attachments.Items[i])
	}
	var fences v1alpha1.NodeFenceList
	if err := from.List(ctx, &fences, client.UnsafeDisableDeepCopy); err != nil {
		return view, fmt.Errorf("listing NodeFences: %w", err)
	}
	for i := range fences.Items {
		view.Fences = append(view.Fences, &fences.Items[i])
	}
	return view, nil
}

// SharedVolumes are the RBD volumes of a pod that Kubernetes would let it have beside another node. They and the pods on
// failed nodes are older than the failure, so that the cache has them.
func (o *Observer) SharedVolumes(ctx context.Context, pod *corev1.Pod) ([]plan.SharedVolume, error) {
	var shared []plan.SharedVolume
	for _, claim := range volume.Claims(pod, pod.Namespace) {
		names, err := o.volumesOf(ctx, claim)
		if err != nil {
			return nil, err
		}
		for _, name := range names {
			v, found, err := o.sharedVolume(ctx, name)
			if err != nil {
				return nil, err
			}
			if !found {
				continue
			}
			if v.Users, err = o.Users(ctx, claim); err != nil {
				return nil, err
			}
			shared = append(shared, v)
		}
	}
	return shared, nil
}

// volumesOf are the PersistentVolumes of a claim: that which it is bound to, and those that are bound to it. Made anew by
// hand, the two sides may not agree yet.
func (o *Observer) volumesOf(ctx context.Context, claim types.NamespacedName) ([]string, error) {
	var pvs corev1.PersistentVolumeList
	if err := o.Reader.List(ctx, &pvs, client.MatchingFields{indexVolumeClaim: claim.String()}, client.UnsafeDisableDeepCopy); err != nil {
		return nil, fmt.Errorf("finding the PersistentVolumes of claim %s: %w", claim, err)
	}
	names := make([]string, len(pvs.Items))
	for i := range pvs.Items {
		names[i] = pvs.Items[i].Name
	}
	bound, err := o.boundTo(ctx, claim)
	if bound != "" && !slices.Contains(names, bound) {
		names = append(names, bound)
	}
	return names, err
}

func (o *Observer) sharedVolume(ctx context.Context, name string) (v plan.SharedVolume, found bool, err error) {
	var pv corev1.PersistentVolume
	if err := o.Reader.Get(ctx, client.ObjectKey{Name: name}, &pv); err != nil {
		return v, false, ignoreNotFound(err, "reading PersistentVolume "+name)
	}
	if !volume.IsRBD(&pv) || volume.ReadOnlyModes(&pv) {
		return v, false, nil
	}
	parsed, _, err := o.parse(ctx, &pv) // a volume of an unknown form is refused, but held all the same
	return plan.SharedVolume{Volume: parsed, Record: Record(&pv)}, parsed.Shared, err
}

// Proof asks Ceph whether every placement group of the pools that hold a volume has the OSD map with the present blocklist, and
// which pools these are. What Ceph does not tell is in the answer.
func (o *Observer) Proof(ctx context.Context, v volume.Volume) (c plan.Cluster, pools []string) {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	c.Known = o.Clusters.Known(v.ClusterID)
	conn, err := o.Clusters.Get(ctx, v.ClusterID)
	if err != nil {
		c.Error = err
		return c, nil
	}
	if c.Map, c.Error = conn.ReadOSDMap(ctx); c.Error != nil {
		return c, nil
	}
	of := plan.Volume{Volume: v}
	use, err := inspect(ctx, conn, of)
	if err != nil {
		c.BarrierError = fmt.Errorf("finding the data pool: %w", err)
		return c, nil
	}
	pools = poolsOf(of, use, nil)
	refs := make([]ceph.PoolRef, len(pools))
	for i, pool := range pools {
		refs[i] = ceph.PoolRef{Pool: pool, Namespace: v.Namespace}
	}
	confirm(ctx, conn, &c, refs, nil)
	return c, pools
}
