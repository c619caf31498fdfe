package webhook

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"unique"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	toolscache "k8s.io/client-go/tools/cache"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/apiutil"

	"github.com/rbd-rescue/rbd-rescue/volume"
)

// synced tells whether, and when, a kind has been read once.
type synced struct {
	done chan struct{}
	once *sync.Once
}

func newSynced() synced { return synced{done: make(chan struct{}), once: &sync.Once{}} }

func (s synced) now() { s.once.Do(func() { close(s.done) }) }

// reflect keeps the volumes up to date until ctx ends, and calls changed with the names of nodes whose volumes have, or may have.
func (v *volumes) reflect(ctx context.Context, mgr ctrl.Manager, changed func(nodes ...string)) error {
	codecs := serializer.NewCodecFactory(mgr.GetScheme())
	for _, kind := range []struct {
		object client.Object
		path   string
		store  toolscache.ReflectorStore
	}{
		{&storagev1.VolumeAttachment{}, "volumeattachments", &attachmentStore{v, changed}},
		{&corev1.PersistentVolume{}, "persistentvolumes", &volumeStore{v, changed}},
	} {
		gvk, err := apiutil.GVKForObject(kind.object, mgr.GetScheme())
		if err != nil {
			return fmt.Errorf("finding the kind of %T: %w", kind.object, err)
		}
		rest, err := apiutil.RESTClientForGVK(gvk, false, false, mgr.GetConfig(), codecs, mgr.GetHTTPClient())
		if err != nil {
			return fmt.Errorf("making a client of %s: %w", kind.path, err)
		}
		from := toolscache.NewListWatchFromClient(rest, kind.path, metav1.NamespaceAll, fields.Everything())
		reflector := toolscache.NewReflectorWithOptions(from, kind.object, kind.store, toolscache.ReflectorOptions{Name: "volumes", TypeDescription: kind.path})
		go reflector.RunWithContext(ctx)
	}
	return nil
}

// waitForSync returns when both kinds have been read, or false when ctx ends before.
func (v *volumes) waitForSync(ctx context.Context) bool {
	for _, s := range []synced{v.attachmentsSynced, v.volumesSynced} {
		select {
		case <-s.done:
		case <-ctx.Done():
			return false
		}
	}
	return true
}

// namedAttachment is what is kept of a VolumeAttachment while the reflector collects all; it wants a name. One that is not
// attached has no more.
type namedAttachment struct {
	name   string
	node   shared
	volume id
}

// GetObjectMeta names it for the reflector.
func (a *namedAttachment) GetObjectMeta() metav1.Object { return &metav1.ObjectMeta{Name: a.name} }

// attachmentStore is where a reflector puts VolumeAttachments.
type attachmentStore struct {
	volumes *volumes
	changed func(nodes ...string)
}

// Add is like Update.
func (s *attachmentStore) Add(o any) error { return s.Update(o) }

// Update puts one in, or takes it out if it is not attached.
func (s *attachmentStore) Update(o any) error {
	va := o.(*storagev1.VolumeAttachment)
	pv, attached := volume.Attached(va)
	if !attached {
		return s.Delete(o)
	}
	if s.volumes.putAttachment(va.Spec.NodeName, keptAttachment{idOf(va.Name), idOf(pv)}) {
		s.changed(va.Spec.NodeName)
	}
	return nil
}

// Delete takes one out.
func (s *attachmentStore) Delete(o any) error {
	va := o.(*storagev1.VolumeAttachment)
	if s.volumes.removeAttachment(va.Spec.NodeName, va.Name) {
		s.changed(va.Spec.NodeName)
	}
	return nil
}

// Transformer gives what is kept of a VolumeAttachment while all are collected.
func (s *attachmentStore) Transformer() toolscache.TransformFunc {
	return func(o any) (any, error) {
		va, is := o.(*storagev1.VolumeAttachment)
		if !is {
			return o, nil
		}
		kept := &namedAttachment{name: va.Name}
		if pv, attached := volume.Attached(va); attached {
			kept.node, kept.volume = unique.Make(va.Spec.NodeName), idOf(pv)
		}
		return kept, nil
	}
}

// Replace puts all in, and nothing else.
func (s *attachmentStore) Replace(all []any, _ string) error {
	byNode := map[string][]keptAttachment{}
	for _, o := range all {
		o, _ := s.Transformer()(o) // those of a plain list are as they came
		if a := o.(*namedAttachment); a.node != (shared{}) {
			node := a.node.Value()
			byNode[node] = append(byNode[node], keptAttachment{idOf(a.name), a.volume})
		}
	}
	for node, list := range byNode {
		byNode[node] = slices.Clip(list)
	}
	nodes := s.volumes.replaceAttachments(byNode)
	s.volumes.attachmentsSynced.now()
	s.changed(nodes...)
	return nil
}

// Resync is nothing here.
func (s *attachmentStore) Resync() error { return nil }

// GetObjectMeta names it for the reflector.
func (p *keptVolume) GetObjectMeta() metav1.Object { return &metav1.ObjectMeta{Name: p.name} }

// volumeStore is where a reflector puts PersistentVolumes.
type volumeStore struct {
	volumes *volumes
	changed func(nodes ...string)
}

// Add is like Update.
func (s *volumeStore) Add(o any) error { return s.Update(o) }

// Update puts one in if it is RBD's.
func (s *volumeStore) Update(o any) error {
	p, isRBD := compact(o.(*corev1.PersistentVolume))
	if isRBD && s.volumes.putVolume(p) {
		s.changed(s.volumes.nodesOf(p.name)...)
	}
	return nil
}

// Delete takes one out.
func (s *volumeStore) Delete(o any) error {
	name := o.(*corev1.PersistentVolume).Name
	if s.volumes.removeVolume(name) {
		s.changed(s.volumes.nodesOf(name)...)
	}
	return nil
}

// Transformer gives what is kept of a PersistentVolume.
func (s *volumeStore) Transformer() toolscache.TransformFunc {
	return func(o any) (any, error) {
		if pv, is := o.(*corev1.PersistentVolume); is {
			p, _ := compact(pv)
			return p, nil
		}
		return o, nil
	}
}

// Replace puts all in, and nothing else.
func (s *volumeStore) Replace(all []any, _ string) error {
	kept := make([]*keptVolume, 0, len(all))
	for _, o := range all {
		o, _ := s.Transformer()(o) // those of a plain list are as they came
		if p := o.(*keptVolume); p.driver != (shared{}) {
			kept = append(kept, p)
		}
	}
	s.volumes.replaceVolumes(kept)
	s.volumes.volumesSynced.now()
	nodes, err := s.volumes.NodesWithAttachments(context.Background())
	s.changed(nodes...)
	return err
}

// Resync is nothing here.
func (s *volumeStore) Resync() error { return nil }
