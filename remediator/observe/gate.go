package observe

import (
	"context"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rbd-rescue/rbd-rescue/api/v1alpha1"
	"github.com/rbd-rescue/rbd-rescue/ceph"
	"github.com/rbd-rescue/rbd-rescue/remediator/plan"
	"github.com/rbd-rescue/rbd-rescue/volume"
)

// CachedGateView is what gates are decided on as the cache has it, with the attachments of these PersistentVolumes.
func (o *Observer) CachedGateView(ctx context.Context, persistentVolumes map[string]bool) (plan.GateView, error) {
	nodes, err := o.allNodes(ctx)
	if err != nil {
		return plan.GateView{}, err
	}
	view := viewOf(nodes)
	attachments, err := o.eachAttachment(ctx)
	if err != nil {
		return view, err
	}
	for va := range attachments {
		if name, _ := volume.Attached(va); persistentVolumes[name] {
			view.Attachments = append(view.Attachments, va)
		}
	}
	return view, addFences(ctx, o.Reader, &view)
}

// LiveGateView is that by the API's own word.
func LiveGateView(ctx context.Context, live client.Reader, persistentVolumes map[string]bool) (plan.GateView, error) {
	nodes, err := LiveNodes(ctx, live)
	if err != nil {
		return plan.GateView{}, err
	}
	view := viewOf(nodes)
	err = pages(ctx, live, func(page *storagev1.VolumeAttachmentList) {
		for _, va := range page.Items {
			if name, _ := volume.Attached(&va); persistentVolumes[name] {
				view.Attachments = append(view.Attachments, &va)
			}
		}
	})
	if err != nil {
		return view, fmt.Errorf("listing VolumeAttachments: %w", err)
	}
	return view, addFences(ctx, live, &view)
}

func viewOf(nodes []*corev1.Node) plan.GateView {
	view := plan.GateView{Nodes: make(map[string]*corev1.Node, len(nodes))}
	for _, node := range nodes {
		view.Nodes[node.Name] = node
	}
	return view
}

func addFences(ctx context.Context, from client.Reader, view *plan.GateView) error {
	var fences v1alpha1.NodeFenceList
	if err := from.List(ctx, &fences, client.UnsafeDisableDeepCopy); err != nil {
		return fmt.Errorf("listing NodeFences: %w", err)
	}
	for i := range fences.Items {
		view.Fences = append(view.Fences, &fences.Items[i])
	}
	return nil
}

// SharedVolumes are the RBD volumes of a pod that Kubernetes would let it have beside another node. Which these are the API itself
// says: a claim may have been bound to another volume just now. One that the cache does not know yet is an error.
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
	for _, from := range []client.Reader{o.Reader, o.Live} {
		bound, err := boundTo(ctx, from, claim)
		if err != nil {
			return nil, err
		}
		if bound != "" && !slices.Contains(names, bound) {
			names = append(names, bound)
		}
	}
	return names, nil
}

func (o *Observer) sharedVolume(ctx context.Context, name string) (v plan.SharedVolume, found bool, err error) {
	var pv corev1.PersistentVolume
	switch err := o.Reader.Get(ctx, client.ObjectKey{Name: name}, &pv); {
	case apierrors.IsNotFound(err):
		if err := o.Live.Get(ctx, client.ObjectKey{Name: name}, &pv); err != nil {
			return v, false, ignoreNotFound(err, "reading PersistentVolume "+name)
		}
		return v, false, fmt.Errorf("PersistentVolume %s is not in the cache yet: who holds it is not known (S1)", name)
	case err != nil:
		return v, false, fmt.Errorf("reading PersistentVolume %s: %w", name, err)
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
