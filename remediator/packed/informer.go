package packed

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"k8s.io/apimachinery/pkg/runtime"
	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// Informer keeps a Store up to date, and tells handlers what changed: one after the other, in the order in which they were added, and
// after the store has it. A handler must not wait for long: nothing new is read meanwhile.
type Informer struct {
	from      toolscache.ListerWatcher
	example   runtime.Object
	resync    time.Duration
	store     *Store
	transform toolscache.TransformFunc
	reflector atomic.Pointer[toolscache.Reflector]
	synced    chan struct{}
	stopped   atomic.Bool

	// telling is held while the store changes and handlers are told, so that a new one misses nothing and is told nothing twice.
	telling  sync.Mutex
	handlers []*registration
}

// registration is one handler.
type registration struct {
	toolscache.ResourceEventHandler
	informer *Informer
}

// HasSynced tells whether the handler was told all that there was when it was added.
func (r *registration) HasSynced() bool { return r.informer.HasSynced() }

// HasSyncedChecker is for those who wait for that.
func (r *registration) HasSyncedChecker() toolscache.DoneChecker {
	return r.informer.HasSyncedChecker()
}

// NewInformer makes one that has not started. example is an empty object of its kind.
func NewInformer(form Form, from toolscache.ListerWatcher, example runtime.Object, resync time.Duration, indexers toolscache.Indexers) *Informer {
	return &Informer{
		from: from, example: example, resync: resync, store: NewStore(form, indexers), synced: make(chan struct{}),
		transform: func(o any) (any, error) { return o, nil },
	}
}

var _ toolscache.SharedIndexInformer = &Informer{}

// RunWithContext reads the API until ctx ends.
func (i *Informer) RunWithContext(ctx context.Context) {
	defer i.stopped.Store(true)
	s := sink{i}
	reflector := toolscache.NewReflectorWithOptions(s.pages(i.from), i.example, s, toolscache.ReflectorOptions{
		Name: "packed", TypeDescription: fmt.Sprintf("%T", i.example), ResyncPeriod: i.resync,
	})
	i.reflector.Store(reflector)
	reflector.RunWithContext(ctx)
}

// Run reads the API until stop is closed.
func (i *Informer) Run(stop <-chan struct{}) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() {
		select {
		case <-stop:
			cancel()
		case <-ctx.Done():
		}
	}()
	i.RunWithContext(ctx)
}

// AddEventHandlerWithOptions tells the handler what there is, and from then on what changes.
func (i *Informer) AddEventHandlerWithOptions(handler toolscache.ResourceEventHandler, _ toolscache.HandlerOptions) (toolscache.ResourceEventHandlerRegistration, error) {
	i.telling.Lock()
	defer i.telling.Unlock()
	for o := range i.store.All() {
		handler.OnAdd(o, true)
	}
	r := &registration{handler, i}
	i.handlers = append(i.handlers, r)
	return r, nil
}

// AddEventHandler is AddEventHandlerWithOptions.
func (i *Informer) AddEventHandler(handler toolscache.ResourceEventHandler) (toolscache.ResourceEventHandlerRegistration, error) {
	return i.AddEventHandlerWithOptions(handler, toolscache.HandlerOptions{})
}

// AddEventHandlerWithResyncPeriod is AddEventHandlerWithOptions; the period is the informer's.
func (i *Informer) AddEventHandlerWithResyncPeriod(handler toolscache.ResourceEventHandler, _ time.Duration) (toolscache.ResourceEventHandlerRegistration, error) {
	return i.AddEventHandlerWithOptions(handler, toolscache.HandlerOptions{})
}

// RemoveEventHandler tells a handler nothing more.
func (i *Informer) RemoveEventHandler(handle toolscache.ResourceEventHandlerRegistration) error {
	i.telling.Lock()
	defer i.telling.Unlock()
	i.handlers = slices.DeleteFunc(i.handlers, func(r *registration) bool { return r == handle })
	return nil
}

// tell tells the handlers of changes. telling is locked.
func (i *Informer) tell(changes []change, first bool) {
	if len(i.handlers) == 0 {
		return
	}
	for _, c := range changes {
		before, now := i.store.objects(c)
		for _, h := range i.handlers {
			switch {
			case before != nil && now != nil:
				h.OnUpdate(before, now)
			case now != nil:
				h.OnAdd(now, first)
			case before != nil:
				h.OnDelete(before)
			}
		}
	}
}

// objects are those of a change; nil for none.
func (s *Store) objects(c change) (before, now client.Object) {
	s.lock.RLock()
	defer s.lock.RUnlock()
	if c.before != "" {
		before = s.unpack(c.before)
	}
	if c.now != "" {
		now = s.unpack(c.now)
	}
	return before, now
}

// Store is what is kept.
func (i *Informer) Store() *Store { return i.store }

// GetIndexer is the store.
func (i *Informer) GetIndexer() toolscache.Indexer { return i.store }

// GetStore is the store.
func (i *Informer) GetStore() toolscache.Store { return i.store }

// AddIndexers adds indexes, of what is kept already as well.
func (i *Informer) AddIndexers(indexers toolscache.Indexers) error {
	return i.store.AddIndexers(indexers)
}

// SetTransform says, before the start, what of an object is packed.
func (i *Informer) SetTransform(transform toolscache.TransformFunc) error {
	if transform != nil {
		i.transform = transform
	}
	return nil
}

// HasSynced tells whether all there is has been read once.
func (i *Informer) HasSynced() bool {
	select {
	case <-i.synced:
		return true
	default:
		return false
	}
}

// HasSyncedChecker is for those who wait for that.
func (i *Informer) HasSyncedChecker() toolscache.DoneChecker { return i }

// Name says what is waited for.
func (i *Informer) Name() string { return fmt.Sprintf("the cache of %T", i.example) }

// Done is closed once all there is has been read.
func (i *Informer) Done() <-chan struct{} { return i.synced }

// IsStopped tells whether it reads no more.
func (i *Informer) IsStopped() bool { return i.stopped.Load() }

// LastSyncResourceVersion is that of the last change that was read.
func (i *Informer) LastSyncResourceVersion() string {
	if reflector := i.reflector.Load(); reflector != nil {
		return reflector.LastSyncResourceVersion()
	}
	return ""
}

// GetController gives none: client-go's is not used.
func (i *Informer) GetController() toolscache.Controller { return nil }

var errNoHandler = errors.New("a reflector cannot be given a handler of its errors: it logs them")

// SetWatchErrorHandler fails.
func (i *Informer) SetWatchErrorHandler(toolscache.WatchErrorHandler) error { return errNoHandler }

// SetWatchErrorHandlerWithContext fails.
func (i *Informer) SetWatchErrorHandlerWithContext(toolscache.WatchErrorHandlerWithContext) error {
	return errNoHandler
}
