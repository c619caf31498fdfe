package observe

import (
	"context"
	"fmt"
	"iter"
	"slices"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rbd-rescue/rbd-rescue/remediator/packed"
	"github.com/rbd-rescue/rbd-rescue/volume"
)

// Stores are the caches' own, for what is asked after each event of any pod, and for what goes over all objects: a list of a Reader
// holds all of them at once, and in a large cluster there are 100,000 VolumeAttachments.
type Stores struct {
	nodes, attachments, volumes *packed.Store
}

// indexNodeOfRBDVolume has the names of the nodes that RBD volumes are attached to.
const indexNodeOfRBDVolume = "attachment.nodeOfRBDVolume"

var attachmentIndexes = toolscache.Indexers{indexNodeOfRBDVolume: func(o any) ([]string, error) {
	return nodeOfRBDVolume(o.(*storagev1.VolumeAttachment)), nil
}}

// NewStores takes the stores of a cache that has not started.
func NewStores(ctx context.Context, informers cache.Informers) (*Stores, error) {
	s := &Stores{}
	for _, store := range []struct {
		object  client.Object
		indexes toolscache.Indexers
		to      **packed.Store
	}{
		{&corev1.Node{}, nil, &s.nodes},
		{&storagev1.VolumeAttachment{}, attachmentIndexes, &s.attachments},
		{&corev1.PersistentVolume{}, nil, &s.volumes},
	} {
		informer, err := informers.GetInformer(ctx, store.object, cache.BlockUntilSynced(false))
		if err != nil {
			return nil, fmt.Errorf("making the cache of %T: %w", store.object, err)
		}
		if err := informer.AddIndexers(store.indexes); err != nil {
			return nil, fmt.Errorf("adding an index of %T: %w", store.object, err)
		}
		of, is := informer.(*packed.Informer)
		if !is {
			return nil, fmt.Errorf("the cache of %T is a %T, which is not packed", store.object, informer)
		}
		*store.to = of.Store()
	}
	return s, nil
}

func nodeOfRBDVolume(va *storagev1.VolumeAttachment) []string {
	if _, attached := volume.Attached(va); !attached || !volume.IsRBDDriver(va.Spec.Attacher) {
		return nil
	}
	return []string{va.Spec.NodeName}
}

func (s *Stores) goneNodes() []string {
	return slices.DeleteFunc(s.nodesOfRBDVolumes(), func(name string) bool { return s.nodes.Has(name) })
}

func (s *Stores) nodesOfRBDVolumes() []string {
	names := s.attachments.ListIndexFuncValues(indexNodeOfRBDVolume)
	slices.Sort(names)
	return names
}

// Each kind's objects, one after the other. Without stores the Reader is asked for all at once.

func (o *Observer) eachNode(ctx context.Context) (iter.Seq[*corev1.Node], error) {
	if o.Stores != nil {
		return all[*corev1.Node](o.Stores.nodes), nil
	}
	var list corev1.NodeList
	if err := o.Reader.List(ctx, &list, client.UnsafeDisableDeepCopy); err != nil {
		return nil, fmt.Errorf("listing nodes: %w", err)
	}
	return pointers(list.Items), nil
}

func (o *Observer) eachVolume(ctx context.Context) (iter.Seq[*corev1.PersistentVolume], error) {
	if o.Stores != nil {
		return all[*corev1.PersistentVolume](o.Stores.volumes), nil
	}
	var list corev1.PersistentVolumeList
	if err := o.Reader.List(ctx, &list, client.UnsafeDisableDeepCopy); err != nil {
		return nil, fmt.Errorf("listing PersistentVolumes: %w", err)
	}
	return pointers(list.Items), nil
}

func (o *Observer) eachAttachment(ctx context.Context) (iter.Seq[*storagev1.VolumeAttachment], error) {
	if o.Stores != nil {
		return all[*storagev1.VolumeAttachment](o.Stores.attachments), nil
	}
	var list storagev1.VolumeAttachmentList
	if err := o.Reader.List(ctx, &list, client.UnsafeDisableDeepCopy); err != nil {
		return nil, fmt.Errorf("listing VolumeAttachments: %w", err)
	}
	return pointers(list.Items), nil
}

func all[T client.Object](store *packed.Store) iter.Seq[T] {
	return func(yield func(T) bool) {
		for o := range store.All() {
			if !yield(o.(T)) {
				return
			}
		}
	}
}

func pointers[T any](items []T) iter.Seq[*T] {
	return func(yield func(*T) bool) {
		for i := range items {
			if !yield(&items[i]) {
				return
			}
		}
	}
}
