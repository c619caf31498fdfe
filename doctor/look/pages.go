package look

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rbd-rescue/rbd-rescue/api/v1alpha1"
)

// pageSize is how many objects are read at a time: what is not kept of them is free again before the next, since the remediator has
// the same memory limit.
const pageSize = 500

// objects are all of the kinds that the remediator watches, with what is kept of them and the newest resourceVersion of each kind.
type objects struct {
	nodes       []corev1.Node
	volumes     []corev1.PersistentVolume
	attachments []storagev1.VolumeAttachment
	pods        []corev1.Pod
	drivers     []storagev1.CSIDriver
	newest      map[string]uint64
}

// list reads them all, page by page; each kind's error is apart.
func list(ctx context.Context, from client.Reader) (o objects, unread map[string]error) {
	o.newest, unread = map[string]uint64{}, map[string]error{}
	claims, namespaces, fences := metadata("v1", "PersistentVolumeClaim"), metadata("v1", "Namespace"), metadata(v1alpha1.GroupVersion.String(), "NodeFence")
	for _, kind := range []struct {
		name string
		list client.ObjectList
		keep func(client.Object)
	}{
		{"Node", &corev1.NodeList{}, func(x client.Object) { o.nodes = append(o.nodes, *x.(*corev1.Node)) }},
		{"PersistentVolume", &corev1.PersistentVolumeList{}, func(x client.Object) { o.volumes = append(o.volumes, *x.(*corev1.PersistentVolume)) }},
		{"VolumeAttachment", &storagev1.VolumeAttachmentList{}, func(x client.Object) { o.attachments = append(o.attachments, *x.(*storagev1.VolumeAttachment)) }},
		{"CSIDriver", &storagev1.CSIDriverList{}, func(x client.Object) { o.drivers = append(o.drivers, *x.(*storagev1.CSIDriver)) }},
		{"Pod", &corev1.PodList{}, func(x client.Object) { o.keepPod(x.(*corev1.Pod)) }},
		{"PersistentVolumeClaim", claims, nil},
		{"Namespace", namespaces, nil},
		{"NodeFence", fences, nil},
	} {
		newest, err := eachObject(ctx, from, kind.list, kind.keep)
		if err != nil {
			unread[kind.name] = err
			continue
		}
		o.newest[kind.name] = newest
	}
	return o, unread
}

// metadata lists objects without the rest of them.
func metadata(apiVersion, kind string) *metav1.PartialObjectMetadataList {
	list := &metav1.PartialObjectMetadataList{}
	list.SetGroupVersionKind(schemaKind(apiVersion, kind+"List"))
	return list
}

// keepPod keeps of a pod that runs with a claim what tells who uses the claim.
func (o *objects) keepPod(pod *corev1.Pod) {
	if pod.Status.Phase != corev1.PodRunning || pod.Spec.NodeName == "" {
		return
	}
	kept := corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: pod.Namespace, Name: pod.Name, UID: pod.UID},
		Spec:       corev1.PodSpec{NodeName: pod.Spec.NodeName},
		Status:     corev1.PodStatus{Phase: pod.Status.Phase, StartTime: pod.Status.StartTime},
	}
	for _, v := range pod.Spec.Volumes {
		if v.PersistentVolumeClaim != nil {
			kept.Spec.Volumes = append(kept.Spec.Volumes, v)
		}
		if v.Ephemeral != nil {
			kept.Spec.Volumes = append(kept.Spec.Volumes, corev1.Volume{Name: v.Name, VolumeSource: corev1.VolumeSource{Ephemeral: &corev1.EphemeralVolumeSource{}}})
		}
	}
	if len(kept.Spec.Volumes) > 0 {
		o.pods = append(o.pods, kept)
	}
}

// roomy reads a page only where there is room for it.
type roomy struct {
	client.Reader
	room func() error
}

func (r roomy) List(ctx context.Context, list client.ObjectList, options ...client.ListOption) error {
	if r.room != nil {
		if err := r.room(); err != nil {
			return err
		}
	}
	return r.Reader.List(ctx, list, options...)
}

// eachObject visits all objects of a kind, without their managedFields, and gives the newest resourceVersion among them.
func eachObject(ctx context.Context, from client.Reader, list client.ObjectList, visit func(client.Object)) (newest uint64, err error) {
	for next := ""; ; {
		if err := from.List(ctx, list, client.Limit(pageSize), client.Continue(next)); err != nil {
			return 0, fmt.Errorf("listing %T: %w", list, err)
		}
		err := meta.EachListItem(list, func(item runtime.Object) error {
			object, is := item.(client.Object)
			if !is {
				return errors.New("an item is no object")
			}
			object.SetManagedFields(nil)
			version, err := strconv.ParseUint(object.GetResourceVersion(), 10, 64)
			if err != nil {
				return fmt.Errorf("resourceVersion %q of %s is no number: %w", object.GetResourceVersion(), object.GetName(), err)
			}
			newest = max(newest, version)
			if visit != nil {
				visit(object)
			}
			return nil
		})
		if err != nil {
			return 0, fmt.Errorf("reading %T: %w", list, err)
		}
		if next = list.GetContinue(); next == "" {
			return newest, nil
		}
		empty(list)
	}
}

// empty makes the list one of new objects: what a visit has kept must not be written over by the next page.
func empty(list client.ObjectList) {
	items := reflect.ValueOf(list).Elem().FieldByName("Items")
	items.Set(reflect.Zero(items.Type()))
}
