package observe

import (
	"context"
	"fmt"
	"reflect"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rbd-rescue/rbd-rescue/api/v1alpha1"
)

// Listed is a Reader for one look: each kind is listed once, when it is first asked for, and then answers as a cache with the indexes
// of AddIndexes does, but for the pods of an address, which the API finds: it may have kept none of them. It needs the right to list and
// no other, and is for one goroutine.
type Listed struct {
	from client.Reader
	keep func(client.Object) client.Object
	// indexes by kind and name.
	indexes map[reflect.Type]map[string]client.IndexerFunc
	stores  map[reflect.Type]*store
}

type store struct {
	byKey map[client.ObjectKey]client.Object
	// byIndex is by name of the index, then by value.
	byIndex map[string]map[string][]client.Object
	all     []client.Object
}

// NewListed reads from the API itself. keep gives what is to be kept of an object, or nil for nothing of it.
func NewListed(ctx context.Context, from client.Reader, keep func(client.Object) client.Object) (*Listed, error) {
	l := &Listed{from: from, keep: keep, indexes: map[reflect.Type]map[string]client.IndexerFunc{}, stores: map[reflect.Type]*store{}}
	return l, AddIndexes(ctx, l)
}

// IndexField notes an index.
func (l *Listed) IndexField(_ context.Context, object client.Object, name string, values client.IndexerFunc) error {
	kind := reflect.TypeOf(object)
	if l.indexes[kind] == nil {
		l.indexes[kind] = map[string]client.IndexerFunc{}
	}
	l.indexes[kind][name] = values
	return nil
}

// Get finds an object by its name.
func (l *Listed) Get(ctx context.Context, key client.ObjectKey, into client.Object, _ ...client.GetOption) error {
	s, err := l.store(ctx, into)
	if err != nil {
		return err
	}
	found, is := s.byKey[key]
	if !is {
		return apierrors.NewNotFound(schema.GroupResource{Resource: reflect.TypeOf(into).Elem().Name()}, key.Name)
	}
	reflect.ValueOf(into).Elem().Set(reflect.ValueOf(found.DeepCopyObject()).Elem())
	return nil
}

// List finds objects by namespace and by one index.
func (l *Listed) List(ctx context.Context, into client.ObjectList, options ...client.ListOption) error {
	object, err := itemOf(into)
	if err != nil {
		return err
	}
	asked := client.ListOptions{}
	asked.ApplyOptions(options)
	if asked.FieldSelector != nil && asked.FieldSelector.Requirements()[0].Field == fieldPodIP {
		return l.from.List(ctx, into, options...)
	}
	s, err := l.store(ctx, object)
	if err != nil {
		return err
	}
	candidates := s.all
	if asked.FieldSelector != nil {
		requirement := asked.FieldSelector.Requirements()[0]
		index, is := s.byIndex[requirement.Field]
		if !is {
			return fmt.Errorf("there is no index %s of %T", requirement.Field, object)
		}
		candidates = index[requirement.Value]
	}
	var found []runtime.Object
	for _, candidate := range candidates {
		if asked.Namespace == "" || asked.Namespace == candidate.GetNamespace() {
			found = append(found, candidate)
		}
	}
	return meta.SetList(into, found)
}

// itemOf is an empty object of the kind that a list has.
func itemOf(list client.ObjectList) (client.Object, error) {
	for _, kind := range listed {
		if reflect.TypeOf(kind.list) == reflect.TypeOf(list) {
			return kind.object, nil
		}
	}
	return nil, fmt.Errorf("%T is not listed", list)
}

// listed are the kinds that a snapshot is made of.
var listed = []struct {
	object client.Object
	list   client.ObjectList
}{
	{&corev1.Node{}, &corev1.NodeList{}},
	{&corev1.Pod{}, &corev1.PodList{}},
	{&corev1.Namespace{}, &corev1.NamespaceList{}},
	{&corev1.PersistentVolume{}, &corev1.PersistentVolumeList{}},
	{&corev1.PersistentVolumeClaim{}, &corev1.PersistentVolumeClaimList{}},
	{&storagev1.VolumeAttachment{}, &storagev1.VolumeAttachmentList{}},
	{&storagev1.CSIDriver{}, &storagev1.CSIDriverList{}},
	{&v1alpha1.NodeFence{}, &v1alpha1.NodeFenceList{}},
}

func (l *Listed) store(ctx context.Context, object client.Object) (*store, error) {
	kind := reflect.TypeOf(object)
	if s, is := l.stores[kind]; is {
		return s, nil
	}
	for _, k := range listed {
		if reflect.TypeOf(k.object) != kind {
			continue
		}
		objects, err := l.readAll(ctx, k.list)
		if err != nil {
			return nil, err
		}
		l.stores[kind] = newStore(objects, l.indexes[kind])
		return l.stores[kind], nil
	}
	return nil, fmt.Errorf("%T is not listed", object)
}

// readAll lists a kind page by page, and keeps of each what is to be kept before the next one comes.
func (l *Listed) readAll(ctx context.Context, of client.ObjectList) ([]client.Object, error) {
	var kept []client.Object
	for next, more := "", true; more; {
		page := of.DeepCopyObject().(client.ObjectList)
		if err := l.from.List(ctx, page, client.Limit(pageSize), client.Continue(next)); err != nil {
			return nil, fmt.Errorf("listing %s: %w", strings.TrimSuffix(reflect.TypeOf(of).Elem().Name(), "List")+"s", err)
		}
		items, err := meta.ExtractList(page)
		if err != nil {
			return nil, fmt.Errorf("reading a list: %w", err)
		}
		for _, item := range items {
			if object := l.keep(item.(client.Object)); object != nil {
				kept = append(kept, object)
			}
		}
		next, more = page.GetContinue(), page.GetContinue() != ""
	}
	slices.SortFunc(kept, func(a, b client.Object) int {
		return strings.Compare(client.ObjectKeyFromObject(a).String(), client.ObjectKeyFromObject(b).String())
	})
	return kept, nil
}

func newStore(objects []client.Object, indexes map[string]client.IndexerFunc) *store {
	s := &store{byKey: map[client.ObjectKey]client.Object{}, byIndex: map[string]map[string][]client.Object{}, all: objects}
	for name := range indexes {
		s.byIndex[name] = map[string][]client.Object{}
	}
	for _, object := range objects {
		s.byKey[client.ObjectKeyFromObject(object)] = object
		for name, values := range indexes {
			for _, value := range values(object) {
				s.byIndex[name][value] = append(s.byIndex[name][value], object)
			}
		}
	}
	return s
}
