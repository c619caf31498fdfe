package observe

import (
	"context"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rbd-rescue/rbd-rescue/volume"
)

// Stores are the informers' own, for what is asked after each event of any pod: a list of a Reader copies every object, and in
// a large cluster there are 100,000 VolumeAttachments.
type Stores struct {
	nodes, attachments toolscache.Indexer
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
		to      *toolscache.Indexer
	}{
		{&corev1.Node{}, nil, &s.nodes},
		{&storagev1.VolumeAttachment{}, attachmentIndexes, &s.attachments},
	} {
		informer, err := informers.GetInformer(ctx, store.object, cache.BlockUntilSynced(false))
		if err != nil {
			return nil, fmt.Errorf("making the cache of %T: %w", store.object, err)
		}
		if err := informer.AddIndexers(store.indexes); err != nil {
			return nil, fmt.Errorf("adding an index of %T: %w", store.object, err)
		}
		indexed, is := informer.(interface{ GetIndexer() toolscache.Indexer })
		if !is {
			return nil, fmt.Errorf("the cache of %T is a %T, which does not show its store", store.object, informer)
		}
		*store.to = indexed.GetIndexer()
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
	return slices.DeleteFunc(s.nodesOfRBDVolumes(), func(name string) bool {
		_, there, _ := s.nodes.GetByKey(name) // a store's own GetByKey never fails
		return there
	})
}

func (s *Stores) nodesOfRBDVolumes() []string {
	names := s.attachments.ListIndexFuncValues(indexNodeOfRBDVolume)
	slices.Sort(names)
	return names
}
