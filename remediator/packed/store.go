package packed

import (
	"fmt"
	"hash/maphash"
	"iter"
	"maps"
	"slices"
	"sync"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// Form says how the objects of one kind are packed.
type Form struct {
	empty  func() client.Object
	fields func(*Codec, client.Object)
	keeps  func(client.Object) bool
}

// FormOf a kind: fields goes over what is kept beside namespace and name; objects for which keeps does not hold are left out. nil
// keeps all.
func FormOf[T any, P interface {
	*T
	client.Object
}](fields func(*Codec, P), keeps func(P) bool) Form {
	return Form{
		empty:  func() client.Object { return P(new(T)) },
		fields: func(c *Codec, o client.Object) { fields(c, o.(P)) },
		keeps:  func(o client.Object) bool { return keeps == nil || keeps(o.(P)) },
	}
}

// Keeps tells whether an object is kept.
func (f Form) Keeps(o client.Object) bool { return f.keeps(o) }

// Store keeps the objects of one kind. Each that it gives is made anew: it belongs to who asked.
type Store struct {
	form Form
	seed maphash.Seed

	lock     sync.RWMutex
	words    words
	records  []string // by slot; empty for none
	free     []uint32
	keys     table
	indexers toolscache.Indexers
	indexes  map[string]*index
	buffer   []byte
	version  string
}

// index finds records by what a function says of their objects.
type index struct {
	values toolscache.IndexFunc
	slots  table
	// counts says how many records have a value. It is kept from the first time on that somebody lists the values.
	counts map[string]int
}

// NewStore makes an empty one.
func NewStore(form Form, indexers toolscache.Indexers) *Store {
	s := &Store{form: form, seed: maphash.MakeSeed(), words: newWords(), indexers: toolscache.Indexers{}, indexes: map[string]*index{}}
	_ = s.AddIndexers(indexers) // of an empty store it does not fail
	return s
}

var _ toolscache.Indexer = &Store{}

func (s *Store) hash(text string) uint32 { return uint32(maphash.String(s.seed, text)) } //nolint:gosec // part of it is enough

// pack makes the record of an object. The lock is held for writing.
func (s *Store) pack(o client.Object) string {
	namespace, name := o.GetNamespace(), o.GetName()
	c := Codec{words: &s.words, writing: true, out: s.buffer[:0]}
	Word(&c, &namespace)
	Text(&c, &name)
	s.form.fields(&c, o)
	s.buffer = c.out
	return string(c.out)
}

// unpack makes the object of a record. The lock is held.
func (s *Store) unpack(record string) client.Object {
	c, namespace, name := s.open(record)
	o := s.form.empty()
	o.SetNamespace(namespace)
	o.SetName(name)
	s.form.fields(c, o)
	return o
}

func (s *Store) open(record string) (c *Codec, namespace, name string) {
	c = &Codec{words: &s.words, in: record}
	Word(c, &namespace)
	Text(c, &name)
	return c, namespace, name
}

func (s *Store) keyOf(record string) string {
	_, namespace, name := s.open(record)
	return keyOf(namespace, name)
}

func keyOf(namespace, name string) string {
	if namespace == "" {
		return name
	}
	return namespace + "/" + name
}

func (s *Store) find(key string) (slot uint32, found bool) {
	for slot := range s.keys.at(s.hash(key)) {
		if s.keyOf(s.records[slot]) == key {
			return slot, true
		}
	}
	return 0, false
}

// put keeps a record, or forgets what was kept under the key if it is empty, and gives what was kept before. The lock is held for
// writing.
func (s *Store) put(key, record string) (before string) {
	slot, found := s.find(key)
	switch {
	case found:
		before = s.records[slot]
		if before == record {
			return before
		}
		s.index(before, slot, (*table).remove, -1)
	case record == "":
		return ""
	case len(s.free) > 0:
		slot, s.free = s.free[len(s.free)-1], s.free[:len(s.free)-1]
		s.keys.add(s.hash(key), slot)
	default:
		slot = uint32(len(s.records)) //nolint:gosec // far fewer than 4 billion
		s.records = append(s.records, "")
		s.keys.add(s.hash(key), slot)
	}
	s.records[slot] = record
	if record == "" {
		s.keys.remove(s.hash(key), slot)
		s.free = append(s.free, slot)
		return before
	}
	s.index(record, slot, (*table).add, 1)
	return before
}

// index puts a record into all indexes, or takes it out.
func (s *Store) index(record string, slot uint32, change func(t *table, hash, slot uint32), count int) {
	if len(s.indexes) == 0 {
		return
	}
	o := s.unpack(record)
	for _, x := range s.indexes {
		x.change(s, o, slot, change, count)
	}
}

func (x *index) change(s *Store, o client.Object, slot uint32, change func(t *table, hash, slot uint32), count int) {
	for _, value := range x.of(o) {
		change(&x.slots, s.hash(value), slot)
		if x.counts == nil {
			continue
		}
		if x.counts[value] += count; x.counts[value] == 0 {
			delete(x.counts, value)
		}
	}
}

func (x *index) of(o client.Object) []string {
	values, err := x.values(o)
	if err != nil {
		panic(fmt.Errorf("indexing %T %s: %w", o, o.GetName(), err)) // as client-go's does
	}
	if len(values) > 1 {
		values = slices.Clone(values)
		slices.Sort(values)
		values = slices.Compact(values)
	}
	return values
}

// tidy forgets words that no record names, when there are many new ones. No record may be under way.
func (s *Store) tidy() {
	s.lock.Lock()
	defer s.lock.Unlock()
	if len(s.words.ids) < s.words.due {
		return
	}
	s.words.sweep(func() {
		for _, record := range s.records {
			if record != "" {
				s.unpack(record)
			}
		}
	})
}

// All are the objects, one made after the other: those that change meanwhile may be as they were or as they are.
func (s *Store) All() iter.Seq[client.Object] {
	return func(yield func(client.Object) bool) {
		for slot := 0; ; slot++ {
			o, more := s.inSlot(slot)
			if !more || o != nil && !yield(o) {
				return
			}
		}
	}
}

func (s *Store) inSlot(slot int) (o client.Object, more bool) {
	s.lock.RLock()
	defer s.lock.RUnlock()
	if slot >= len(s.records) {
		return nil, false
	}
	if record := s.records[slot]; record != "" {
		o = s.unpack(record)
	}
	return o, true
}

// Has tells whether there is an object, without making it.
func (s *Store) Has(key string) bool {
	s.lock.RLock()
	defer s.lock.RUnlock()
	_, found := s.find(key)
	return found
}

// GetByKey gives the object of a key.
func (s *Store) GetByKey(key string) (item any, exists bool, err error) {
	s.lock.RLock()
	defer s.lock.RUnlock()
	slot, found := s.find(key)
	if !found {
		return nil, false, nil
	}
	return s.unpack(s.records[slot]), true, nil
}

// Get gives the object with the key of another.
func (s *Store) Get(o any) (item any, exists bool, err error) {
	key, err := toolscache.DeletionHandlingMetaNamespaceKeyFunc(o)
	if err != nil {
		return nil, false, err
	}
	return s.GetByKey(key)
}

// List gives all objects at once; All takes less.
func (s *Store) List() []any {
	var all []any
	for o := range s.All() {
		all = append(all, o)
	}
	return all
}

// ListKeys gives the keys of all objects.
func (s *Store) ListKeys() []string {
	s.lock.RLock()
	defer s.lock.RUnlock()
	var keys []string
	for _, record := range s.records {
		if record != "" {
			keys = append(keys, s.keyOf(record))
		}
	}
	return keys
}

// ByIndex gives the objects that have a value in an index.
func (s *Store) ByIndex(name, value string) ([]any, error) {
	s.lock.RLock()
	defer s.lock.RUnlock()
	if name == toolscache.NamespaceIndex {
		return s.inNamespace(value), nil
	}
	x, known := s.indexes[name]
	if !known {
		return nil, fmt.Errorf("there is no index %s", name)
	}
	slots := slices.Sorted(x.slots.at(s.hash(value)))
	var items []any
	for _, slot := range slices.Compact(slots) {
		if o := s.unpack(s.records[slot]); slices.Contains(x.of(o), value) {
			items = append(items, o)
		}
	}
	return items, nil
}

// inNamespace goes over the names of all. The lock is held.
func (s *Store) inNamespace(wanted string) []any {
	var items []any
	for _, record := range s.records {
		if record == "" {
			continue
		}
		if _, namespace, _ := s.open(record); namespace == wanted {
			items = append(items, s.unpack(record))
		}
	}
	return items
}

// Index gives the objects that have a value in an index which another has too.
func (s *Store) Index(name string, o any) ([]any, error) {
	values, known := s.GetIndexers()[name]
	if !known {
		return nil, fmt.Errorf("there is no index %s", name)
	}
	texts, err := values(o)
	if err != nil {
		return nil, err
	}
	byKey := map[string]any{}
	for _, value := range texts {
		items, err := s.ByIndex(name, value)
		if err != nil {
			return nil, err
		}
		for _, item := range items {
			byKey[keyOf(item.(client.Object).GetNamespace(), item.(client.Object).GetName())] = item
		}
	}
	return slices.Collect(maps.Values(byKey)), nil
}

// IndexKeys gives the keys of the objects that have a value in an index.
func (s *Store) IndexKeys(name, value string) ([]string, error) {
	items, err := s.ByIndex(name, value)
	keys := make([]string, len(items))
	for i, item := range items {
		keys[i] = keyOf(item.(client.Object).GetNamespace(), item.(client.Object).GetName())
	}
	return keys, err
}

// ListIndexFuncValues gives all values of an index.
func (s *Store) ListIndexFuncValues(name string) []string {
	s.lock.Lock()
	defer s.lock.Unlock()
	x, known := s.indexes[name]
	if !known {
		return nil
	}
	if x.counts == nil {
		x.counts = map[string]int{}
		for _, record := range s.records {
			if record == "" {
				continue
			}
			for _, value := range x.of(s.unpack(record)) {
				x.counts[value]++
			}
		}
	}
	return slices.Collect(maps.Keys(x.counts))
}

// GetIndexers gives the functions of the indexes.
func (s *Store) GetIndexers() toolscache.Indexers {
	s.lock.RLock()
	defer s.lock.RUnlock()
	return maps.Clone(s.indexers)
}

// AddIndexers adds indexes, of what is kept already as well. An index of namespaces is not kept: few ask for all that is in one.
func (s *Store) AddIndexers(more toolscache.Indexers) error {
	s.lock.Lock()
	defer s.lock.Unlock()
	for name := range more {
		if _, known := s.indexes[name]; known {
			return fmt.Errorf("there is an index %s already", name)
		}
	}
	for name, values := range more {
		if name == toolscache.NamespaceIndex {
			continue
		}
		x := &index{values: values}
		s.indexers[name], s.indexes[name] = values, x
		for slot, record := range s.records {
			if record != "" {
				x.change(s, s.unpack(record), uint32(slot), (*table).add, 0) //nolint:gosec // as it was made
			}
		}
	}
	return nil
}

// Add keeps an object.
func (s *Store) Add(o any) error { return s.Update(o) }

// Update keeps an object.
func (s *Store) Update(o any) error {
	_, err := s.keep(o)
	return err
}

// change is a record that took the place of another; empty for none.
type change struct{ before, now string }

func (s *Store) keep(o any) (change, error) {
	s.lock.Lock()
	defer s.lock.Unlock()
	d, err := s.draft(o)
	if err != nil {
		return change{}, err
	}
	return change{s.put(d.key(), d.record), d.record}, nil
}

// Delete forgets an object.
func (s *Store) Delete(o any) error {
	_, err := s.forget(o)
	return err
}

func (s *Store) forget(o any) (change, error) {
	key, err := toolscache.DeletionHandlingMetaNamespaceKeyFunc(o)
	if err != nil {
		return change{}, err
	}
	s.lock.Lock()
	defer s.lock.Unlock()
	return change{before: s.put(key, "")}, nil
}

// Replace keeps these objects, and no other.
func (s *Store) Replace(all []any, version string) error {
	_, err := s.replace(all, version)
	return err
}

func (s *Store) replace(all []any, version string) ([]change, error) {
	s.lock.Lock()
	defer s.lock.Unlock()
	var changes []change
	put := func(key, record string) uint32 {
		if before := s.put(key, record); before != record {
			changes = append(changes, change{before, record})
		}
		slot, _ := s.find(key)
		return slot
	}
	listed := make([]bool, len(s.records)+len(all))
	for i, o := range all {
		d, err := s.draft(o)
		if err != nil {
			return nil, err
		}
		slot := put(d.key(), d.record)
		listed[slot] = listed[slot] || d.record != ""
		all[i] = nil
	}
	for slot, record := range s.records {
		if record != "" && !listed[slot] {
			put(s.keyOf(record), "")
		}
	}
	s.version = version
	s.records = slices.Clip(s.records)
	return changes, nil
}

// Resync is nothing here.
func (s *Store) Resync() error { return nil }

// Bookmark is a newer version of the whole that changes nothing.
func (s *Store) Bookmark(version string) {
	s.lock.Lock()
	defer s.lock.Unlock()
	s.version = version
}

// LastStoreSyncResourceVersion is the version of the whole.
func (s *Store) LastStoreSyncResourceVersion() string {
	s.lock.RLock()
	defer s.lock.RUnlock()
	return s.version
}

// draft is the record of an object that is on its way into the store, while a reflector collects all of a kind; of one that is not
// kept it is the key.
type draft struct {
	store *Store
	// header is the record of one that is not kept.
	header, record string
}

// draft packs an object, unless it is a draft already. The lock is held for writing.
func (s *Store) draft(o any) (*draft, error) {
	switch o := o.(type) {
	case *draft:
		return o, nil
	case client.Object:
		if s.form.keeps(o) {
			return &draft{store: s, record: s.pack(o)}, nil
		}
		return &draft{store: s, header: keyOf(o.GetNamespace(), o.GetName())}, nil
	default:
		return nil, fmt.Errorf("%T is no object", o)
	}
}

func (d *draft) key() string {
	if d.record == "" {
		return d.header
	}
	return d.store.keyOf(d.record)
}

// GetObjectMeta names it for the reflector.
func (d *draft) GetObjectMeta() metav1.Object {
	d.store.lock.RLock()
	defer d.store.lock.RUnlock()
	return &metav1.ObjectMeta{Name: d.key()}
}

// GetObjectKind makes it an item of a list.
func (d *draft) GetObjectKind() schema.ObjectKind { return schema.EmptyObjectKind }

// DeepCopyObject gives the same one: it is never changed.
func (d *draft) DeepCopyObject() runtime.Object { return d }
