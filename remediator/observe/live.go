package observe

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rbd-rescue/rbd-rescue/volume"
)

// pageSize is how many objects are read from the API at a time: an API server may have 100,000 attachments, and a node takes 16 kB.
const pageSize = 250

// pages has the API itself list all objects of a kind page by page, and visit look at each page.
func pages[T any, L interface {
	*T
	client.ObjectList
}](ctx context.Context, live client.Reader, visit func(L), options ...client.ListOption) error {
	for next, more := "", true; more; {
		page := L(new(T))
		if err := live.List(ctx, page, append(slices.Clone(options), client.Limit(pageSize), client.Continue(next))...); err != nil {
			return err
		}
		visit(page)
		next, more = page.GetContinue(), page.GetContinue() != ""
	}
	return nil
}

// LiveNodes are all nodes by the API's own word, without what takes much memory and is not read: their images above all.
func LiveNodes(ctx context.Context, live client.Reader) ([]*corev1.Node, error) {
	var nodes []*corev1.Node
	err := pages(ctx, live, func(page *corev1.NodeList) {
		for _, node := range page.Items {
			node.ManagedFields, node.Labels = nil, nil
			node.Status.Images, node.Status.VolumesAttached, node.Status.Capacity, node.Status.Allocatable = nil, nil, nil, nil
			nodes = append(nodes, &node)
		}
	})
	if err != nil {
		return nil, fmt.Errorf("listing nodes: %w", err)
	}
	return nodes, nil
}

// liveAttachments are all attachments of RBD drivers, by the API's own word. Nothing selects those of one volume, so that one list
// serves everyone who asked before it began.
type liveAttachments struct {
	lock  sync.Mutex
	began time.Time
	nodes map[string][]string // by PersistentVolume, sorted
}

// HasNow tells whether just these nodes have a PersistentVolume, by the API's own word, as the cache has it: attached, or, where
// none is, by pods of its claim.
func (o *Observer) HasNow(ctx context.Context, persistentVolume string, claim types.NamespacedName, cached []*corev1.Node) (bool, error) {
	names, err := o.attachedNow(ctx, persistentVolume)
	if err != nil {
		return false, err
	}
	if len(names) == 0 {
		if names, err = o.usingNow(ctx, claim); err != nil {
			return false, err
		}
	}
	return slices.Equal(names, namesOf(cached)), nil
}

func namesOf(nodes []*corev1.Node) []string {
	names := make([]string, len(nodes))
	for i, node := range nodes {
		names[i] = node.Name
	}
	slices.Sort(names)
	return slices.Compact(names)
}

func (o *Observer) attachedNow(ctx context.Context, persistentVolume string) ([]string, error) {
	asked := time.Now()
	o.attachments.lock.Lock()
	defer o.attachments.lock.Unlock()
	if !o.attachments.began.After(asked) {
		began := time.Now()
		nodes, err := o.listAttachments(ctx)
		if err != nil {
			return nil, err
		}
		o.attachments.began, o.attachments.nodes = began, nodes
	}
	return o.attachments.nodes[persistentVolume], nil
}

func (o *Observer) listAttachments(ctx context.Context) (map[string][]string, error) {
	nodes := map[string][]string{}
	err := pages(ctx, o.Live, func(page *storagev1.VolumeAttachmentList) {
		for i := range page.Items {
			va := &page.Items[i]
			if name, attached := volume.Attached(va); attached {
				nodes[name] = append(nodes[name], va.Spec.NodeName)
			}
		}
	})
	if err != nil {
		return nil, fmt.Errorf("listing VolumeAttachments: %w", err)
	}
	for name := range nodes {
		slices.Sort(nodes[name])
		nodes[name] = slices.Compact(nodes[name])
	}
	return nodes, nil
}

func (o *Observer) usingNow(ctx context.Context, claim types.NamespacedName) ([]string, error) {
	if claim.Name == "" {
		return nil, nil
	}
	var names []string
	err := pages(ctx, o.Live, func(page *corev1.PodList) {
		for i := range page.Items {
			pod := &page.Items[i]
			if pod.Spec.NodeName != "" && !volume.Finished(pod) && slices.Contains(volume.Claims(pod, pod.Namespace), claim) {
				names = append(names, pod.Spec.NodeName)
			}
		}
	}, client.InNamespace(claim.Namespace))
	if err != nil {
		return nil, fmt.Errorf("listing the pods of namespace %s: %w", claim.Namespace, err)
	}
	slices.Sort(names)
	return slices.Compact(names), nil
}

// AsNow tells whether a node is, by the API's own word, as the cache has it, as far as its clients go: its boot, its addresses, and
// whether it is Ready.
func (o *Observer) AsNow(ctx context.Context, cached *corev1.Node) (bool, error) {
	node, err := ReadNode(ctx, o.Live, cached.Name)
	if node == nil || err != nil {
		return node == nil && cached.UID == "", err // one that is gone has a name and nothing else
	}
	return node.UID == cached.UID && volume.BootID(node) == volume.BootID(cached) && volume.Ready(node) == volume.Ready(cached) &&
		slices.Equal(volume.Addresses(node), volume.Addresses(cached)), nil
}
