package history

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"

	jsonpatch "github.com/evanphx/json-patch/v5"
	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rbd-rescue/rbd-rescue/api/v1alpha1"
)

// key names one object of the API.
type key struct {
	kind            string
	namespace, name string
}

func kindOf(o client.Object) string { return reflect.TypeOf(o).Elem().Name() }

func keyOf(o client.Object) key { return key{kindOf(o), o.GetNamespace(), o.GetName()} }

// objects is one state of the API: of each kind, all objects in the order of their names, so that a history can be repeated.
// Neither an object nor a list in it is ever changed, only replaced, so that a cache catches up by taking the list over.
type objects map[string][]client.Object

// find gives where an object is, or would be, among those of its kind.
func (o objects) find(k key) (at int, there bool) {
	return slices.BinarySearchFunc(o[k.kind], k, func(object client.Object, k key) int {
		return cmp.Or(strings.Compare(object.GetNamespace(), k.namespace), strings.Compare(object.GetName(), k.name))
	})
}

func (o objects) get(k key) (client.Object, bool) {
	at, there := o.find(k)
	if !there {
		return nil, false
	}
	return o[k.kind][at], true
}

func (o objects) put(object client.Object) {
	k := keyOf(object)
	at, there := o.find(k)
	if there {
		o[k.kind] = slices.Clone(o[k.kind])
		o[k.kind][at] = object
		return
	}
	o[k.kind] = slices.Insert(slices.Clip(o[k.kind]), at, object)
}

func (o objects) remove(k key) {
	if at, there := o.find(k); there {
		o[k.kind] = slices.Delete(slices.Clone(o[k.kind]), at, at+1)
	}
}

// api is the API server: resource versions, preconditions, patches, graceful deletion of pods.
type api struct {
	now     func() time.Time
	objects objects
	version int
}

var resource = schema.GroupResource{Resource: "objects"}

func notFound(k key) error { return apierrors.NewNotFound(resource, k.kind+" "+k.name) }

func conflict(k key, why string) error {
	return apierrors.NewConflict(resource, k.kind+" "+k.name, fmt.Errorf("%s", why))
}

// put stores a new version of an object.
func (a *api) put(o client.Object) {
	a.version++
	o.SetResourceVersion(fmt.Sprint(a.version))
	a.objects.put(o)
}

func (a *api) create(o client.Object) error {
	if _, there := a.objects.find(keyOf(o)); there {
		return apierrors.NewAlreadyExists(resource, o.GetName())
	}
	o.SetUID(types.UID(fmt.Sprintf("uid-%d", a.version)))
	o.SetCreationTimestamp(metav1.NewTime(a.now()))
	a.put(o)
	return nil
}

// remove takes an object away for good; one with finalizers is only marked.
func (a *api) remove(k key) {
	o, there := a.objects.get(k)
	switch {
	case !there:
	case len(o.GetFinalizers()) > 0:
		if o.GetDeletionTimestamp() == nil {
			marked := o.DeepCopyObject().(client.Object)
			marked.SetDeletionTimestamp(new(metav1.NewTime(a.now())))
			a.put(marked)
		}
	default:
		a.objects.remove(k)
	}
}

// change replaces an object by a changed copy.
func change[T client.Object](a *api, o T, by func(T)) {
	changed := o.DeepCopyObject().(T)
	by(changed)
	a.put(changed)
}

func get[T client.Object](from objects, namespace, name string) (T, bool) {
	var none T
	o, there := from.get(key{reflect.TypeFor[T]().Elem().Name(), namespace, name})
	if !there {
		return none, false
	}
	return o.(T), true
}

// list gives the objects of a type.
func list[T client.Object](from objects) []T {
	all := from[reflect.TypeFor[T]().Elem().Name()]
	found := make([]T, len(all))
	for i, o := range all {
		found[i] = o.(T)
	}
	return found
}

// kube is one process's client: it reads from a state, be it the API's or a cache's, and writes to the API.
type kube struct {
	client.Client // nil: what is not used here is not there
	world         *world
	state         func() objects
}

var _ client.Client = kube{}

func (c kube) Get(_ context.Context, name client.ObjectKey, into client.Object, _ ...client.GetOption) error {
	if err := c.world.process.alive(); err != nil {
		return err
	}
	k := key{kindOf(into), name.Namespace, name.Name}
	o, there := c.state().get(k)
	if !there {
		return notFound(k)
	}
	reflect.ValueOf(into).Elem().Set(reflect.ValueOf(o.DeepCopyObject()).Elem())
	return nil
}

func (c kube) List(_ context.Context, into client.ObjectList, opts ...client.ListOption) error {
	if err := c.world.process.alive(); err != nil {
		return err
	}
	options := (&client.ListOptions{}).ApplyOptions(opts)
	switch l := into.(type) {
	case *corev1.NodeList:
		l.Items = selected[*corev1.Node, corev1.Node](c, options)
	case *corev1.PodList:
		l.Items = selected[*corev1.Pod, corev1.Pod](c, options)
	case *corev1.PersistentVolumeList:
		l.Items = selected[*corev1.PersistentVolume, corev1.PersistentVolume](c, options)
	case *storagev1.VolumeAttachmentList:
		l.Items = selected[*storagev1.VolumeAttachment, storagev1.VolumeAttachment](c, options)
	case *v1alpha1.NodeFenceList:
		l.Items = selected[*v1alpha1.NodeFence, v1alpha1.NodeFence](c, options)
	default:
		return fmt.Errorf("no list of %T", into)
	}
	return nil
}

// selected lists by namespace and by the indexes that the real cache would have.
func selected[P interface {
	*T
	client.Object
}, T any](c kube, options *client.ListOptions) []T {
	var items []T
	for _, o := range list[P](c.state()) {
		if options.Namespace != "" && o.GetNamespace() != options.Namespace || !c.world.matches(o, options) {
			continue
		}
		items = append(items, *o)
	}
	return items
}

func (w *world) matches(o client.Object, options *client.ListOptions) bool {
	if options.FieldSelector == nil {
		return true
	}
	for _, r := range options.FieldSelector.Requirements() {
		if !slices.Contains(w.indexValues(o, r.Field), r.Value) {
			return false
		}
	}
	return true
}

// indexValues are kept of PersistentVolumes: their records take long to read, and seldom change.
func (w *world) indexValues(o client.Object, field string) []string {
	if w.indexed[indexed{o, field}] != nil {
		return w.indexed[indexed{o, field}]
	}
	index, known := w.indexes[kindOf(o)+" "+field]
	if !known {
		panic("no index " + field)
	}
	values := index(o)
	if _, is := o.(*corev1.PersistentVolume); is {
		w.indexed[indexed{o, field}] = append([]string{}, values...)
	}
	return values
}

// indexed is an object, never changed, and the name of an index.
type indexed struct {
	object client.Object
	field  string
}

// indexer takes the indexes that observe.AddIndexes gives.
type indexer map[string]client.IndexerFunc

func (x indexer) IndexField(_ context.Context, o client.Object, field string, values client.IndexerFunc) error {
	x[kindOf(o)+" "+field] = values
	return nil
}

func (c kube) Create(_ context.Context, o client.Object, _ ...client.CreateOption) error {
	if err := c.world.process.write("create " + kindOf(o)); err != nil {
		return err
	}
	created := o.DeepCopyObject().(client.Object)
	return c.world.api.create(created)
}

// replace stores what a write made of an object, if nobody else wrote it since version was read.
func (c kube) replace(o client.Object, version string) error {
	k := keyOf(o)
	now, there := c.world.api.objects.get(k)
	switch {
	case !there:
		return notFound(k)
	case version != "" && now.GetResourceVersion() != version:
		return conflict(k, "it was written meanwhile")
	}
	c.world.api.put(o)
	if len(o.GetFinalizers()) == 0 && o.GetDeletionTimestamp() != nil && k.kind != "Pod" {
		c.world.api.objects.remove(k)
	}
	return nil
}

func (c kube) Update(_ context.Context, o client.Object, _ ...client.UpdateOption) error {
	if err := c.world.process.write("update " + kindOf(o)); err != nil {
		return err
	}
	stored := o.DeepCopyObject().(client.Object)
	if err := c.replace(stored, o.GetResourceVersion()); err != nil {
		return err
	}
	o.SetResourceVersion(stored.GetResourceVersion())
	return nil
}

func (c kube) Patch(_ context.Context, o client.Object, patch client.Patch, _ ...client.PatchOption) error {
	if err := c.world.process.write("patch " + kindOf(o)); err != nil {
		return err
	}
	before, _ := c.world.api.objects.get(keyOf(o))
	if err := c.patch(o, patch); err != nil {
		return err
	}
	if pod, is := before.(*corev1.Pod); is {
		c.world.checkPodPatched(pod)
	}
	return nil
}

func (c kube) patch(o client.Object, patch client.Patch) error {
	now, there := c.world.api.objects.get(keyOf(o))
	if !there {
		return notFound(keyOf(o))
	}
	text, err := patch.Data(o)
	if err != nil {
		return err
	}
	before, err := json.Marshal(now)
	if err != nil {
		return err
	}
	var after []byte
	version := ""
	if patch.Type() == types.JSONPatchType {
		operations, err := jsonpatch.DecodePatch(text)
		if err != nil {
			return err
		}
		if after, err = operations.Apply(before); err != nil {
			return apierrors.NewInvalid(schema.GroupKind{Kind: kindOf(o)}, o.GetName(), nil) // a test that does not hold
		}
	} else {
		var meta struct{ Metadata metav1.ObjectMeta }
		if err := json.Unmarshal(text, &meta); err != nil {
			return err
		}
		version = meta.Metadata.ResourceVersion
		if after, err = jsonpatch.MergePatch(before, text); err != nil {
			return err
		}
	}
	patched := reflect.New(reflect.TypeOf(o).Elem()).Interface().(client.Object)
	if err := json.Unmarshal(after, patched); err != nil {
		return err
	}
	return c.replace(patched, version)
}

func (c kube) Delete(_ context.Context, o client.Object, opts ...client.DeleteOption) error {
	k := keyOf(o)
	options := (&client.DeleteOptions{}).ApplyOptions(opts)
	if err := c.world.process.write("delete " + k.kind); err != nil {
		return err
	}
	now, there := c.world.api.objects.get(k)
	if !there {
		return notFound(k)
	}
	if p := options.Preconditions; p != nil {
		if p.UID != nil && *p.UID != now.GetUID() || p.ResourceVersion != nil && *p.ResourceVersion != now.GetResourceVersion() {
			return conflict(k, "precondition")
		}
	}
	c.world.checkDelete(now, options)
	if pod, is := now.(*corev1.Pod); is && options.GracePeriodSeconds == nil {
		c.world.askToGo(pod)
		return nil
	}
	c.world.api.remove(k)
	return nil
}

func (c kube) Status() client.SubResourceWriter { return status{kube: c} }

type status struct {
	client.SubResourceWriter
	kube kube
}

func (s status) Update(_ context.Context, o client.Object, _ ...client.SubResourceUpdateOption) error {
	if err := s.kube.world.process.write("update status of " + kindOf(o)); err != nil {
		return err
	}
	stored := o.DeepCopyObject().(client.Object)
	if err := s.kube.replace(stored, o.GetResourceVersion()); err != nil {
		return err
	}
	o.SetResourceVersion(stored.GetResourceVersion())
	if nf, is := stored.(*v1alpha1.NodeFence); is {
		s.kube.world.rely(nf)
		s.kube.world.checkSnapshots(nf)
	}
	return nil
}

func (s status) Patch(_ context.Context, o client.Object, patch client.Patch, _ ...client.SubResourcePatchOption) error {
	if err := s.kube.world.process.write("patch status of " + kindOf(o)); err != nil {
		return err
	}
	before, _ := get[*corev1.Node](s.kube.world.api.objects, "", o.GetName())
	if err := s.kube.patch(o, patch); err != nil {
		return err
	}
	s.kube.world.checkVolumesInUse(before)
	return nil
}

// catchUp makes a cache hold all objects of some kinds as they are.
func (o objects) catchUp(from objects, kinds ...string) {
	for _, kind := range kinds {
		o[kind] = from[kind]
	}
}
