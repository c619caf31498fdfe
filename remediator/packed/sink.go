package packed

import (
	"context"
	"fmt"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	toolscache "k8s.io/client-go/tools/cache"
)

// sink is where a reflector puts what it reads.
type sink struct{ informer *Informer }

var _ toolscache.TransformingStore = sink{}

// Transformer packs objects as they come while the reflector collects all of them.
func (s sink) Transformer() toolscache.TransformFunc {
	return func(o any) (any, error) { return s.pack(o) }
}

// pack strips an object and packs what is left.
func (s sink) pack(o any) (*draft, error) {
	if d, is := o.(*draft); is {
		return d, nil
	}
	stripped, err := s.informer.transform(o)
	if err != nil {
		return nil, fmt.Errorf("stripping %T: %w", o, err)
	}
	store := s.informer.store
	store.lock.Lock()
	defer store.lock.Unlock()
	return store.draft(stripped)
}

// Add is like Update.
func (s sink) Add(o any) error { return s.Update(o) }

// Update keeps an object.
func (s sink) Update(o any) error {
	s.informer.telling.Lock()
	defer s.informer.telling.Unlock()
	d, err := s.pack(o)
	if err != nil {
		return err
	}
	return s.tell(s.informer.store.keep(d))
}

// Delete forgets an object.
func (s sink) Delete(o any) error {
	s.informer.telling.Lock()
	defer s.informer.telling.Unlock()
	return s.tell(s.informer.store.forget(o))
}

func (s sink) tell(c change, err error) error {
	if err != nil {
		return err
	}
	s.informer.tell([]change{c}, false)
	s.informer.store.tidy()
	return nil
}

// Replace keeps these objects, and no other. Of those that are as they were nobody is told.
func (s sink) Replace(all []any, version string) error {
	s.informer.telling.Lock()
	defer s.informer.telling.Unlock()
	for i, o := range all {
		d, err := s.pack(o)
		if err != nil {
			return err
		}
		all[i] = d
	}
	changes, err := s.informer.store.replace(all, version)
	if err != nil {
		return err
	}
	first := !s.informer.HasSynced()
	if first {
		close(s.informer.synced) // before handlers are told: one may read what it is told of
	}
	s.informer.tell(changes, first)
	s.informer.store.tidy()
	return nil
}

// Resync tells the handlers of all objects again.
func (s sink) Resync() error {
	s.informer.telling.Lock()
	defer s.informer.telling.Unlock()
	if len(s.informer.handlers) == 0 {
		return nil
	}
	for o := range s.informer.store.All() {
		for _, h := range s.informer.handlers {
			h.OnUpdate(o, o)
		}
	}
	return nil
}

// pageSize is how many objects a page of a list has.
const pageSize = 500

// drafts is a list of them.
type drafts struct {
	metav1.TypeMeta
	metav1.ListMeta
	Items []runtime.Object
}

// DeepCopyObject gives the same one: it is never changed.
func (d *drafts) DeepCopyObject() runtime.Object { return d }

// pages has what cannot be streamed (Kubernetes before 1.34, or by a feature gate) listed page by page, and each object packed before
// the next page is asked for. A list from the server's cache, as reflectors ask for it, comes as a whole whatever its limit is.
func (s sink) pages(from toolscache.ListerWatcher) toolscache.ListerWatcher {
	whole := toolscache.ToListerWatcherWithContext(from)
	return &toolscache.ListWatch{
		WatchFuncWithContext: whole.WatchWithContext,
		ListWithContextFunc: func(ctx context.Context, options metav1.ListOptions) (runtime.Object, error) {
			options.ResourceVersion, options.ResourceVersionMatch, options.Limit = "", "", pageSize
			all := &drafts{}
			for {
				page, err := whole.ListWithContext(ctx, options)
				if err != nil {
					return nil, err
				}
				if err := meta.EachListItem(page, func(o runtime.Object) error {
					d, err := s.pack(o)
					all.Items = append(all.Items, d)
					return err
				}); err != nil {
					return nil, err
				}
				list, err := meta.ListAccessor(page)
				if err != nil {
					return nil, fmt.Errorf("reading a page of %T: %w", page, err)
				}
				all.ResourceVersion = list.GetResourceVersion()
				if options.Continue = list.GetContinue(); options.Continue == "" {
					return all, nil
				}
			}
		},
	}
}
