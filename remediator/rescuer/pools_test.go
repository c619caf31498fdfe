package rescuer

import (
	"context"
	"encoding/json"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/rbd-rescue/rbd-rescue/api/v1alpha1"
	"github.com/rbd-rescue/rbd-rescue/ceph"
)

// second are a volume of namespace web that node-a holds, in pool "slow", through the same client, and its pod, which is
// Terminating as well. The namespace is out.
func second() []client.Object {
	record, err := json.Marshal(v1alpha1.ClientRecord{
		"node-a": {NodeUID: "a", BootID: "boot-1", Clients: []string{deadClient}, Pods: []types.UID{"app"}},
	})
	if err != nil {
		panic(err)
	}
	return []client.Object{
		&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "web"}},
		&corev1.PersistentVolume{
			ObjectMeta: metav1.ObjectMeta{Name: "pv2", Annotations: map[string]string{v1alpha1.AnnotationClients: string(record)}},
			Spec: corev1.PersistentVolumeSpec{
				AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce},
				ClaimRef:    &corev1.ObjectReference{Namespace: "web", Name: "logs"},
				PersistentVolumeSource: corev1.PersistentVolumeSource{CSI: &corev1.CSIPersistentVolumeSource{
					Driver: "rbd.csi.ceph.com", VolumeHandle: "h2",
					VolumeAttributes: map[string]string{"clusterID": "c1", "pool": "slow", "imageName": "img2"},
				}},
			},
		},
		&corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Namespace: "web", Name: "logs"}, Spec: corev1.PersistentVolumeClaimSpec{VolumeName: "pv2"}},
		&storagev1.VolumeAttachment{
			ObjectMeta: metav1.ObjectMeta{Name: "va2", UID: "va2"},
			Spec: storagev1.VolumeAttachmentSpec{
				Attacher: "rbd.csi.ceph.com", NodeName: "node-a", Source: storagev1.VolumeAttachmentSource{PersistentVolumeName: new("pv2")},
			},
			Status: storagev1.VolumeAttachmentStatus{Attached: true},
		},
		&corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{
				Namespace: "web", Name: "app-0", UID: "app", DeletionTimestamp: new(metav1.NewTime(now)), DeletionGracePeriodSeconds: new(int64(30)),
				Finalizers:      []string{"the-fake-client/wants-one"},
				OwnerReferences: []metav1.OwnerReference{{Kind: "StatefulSet", Name: "app", Controller: new(true)}},
			},
			Spec: corev1.PodSpec{NodeName: "node-a", Volumes: []corev1.Volume{{Name: "logs", VolumeSource: corev1.VolumeSource{
				PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: "logs"},
			}}}},
		},
	}
}

// optIn puts a namespace in mode rescue, without safety snapshots.
func (w *world) optIn(namespace string) {
	w.Helper()
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace}}
	if err := w.client.Get(context.Background(), client.ObjectKeyFromObject(ns), ns); err != nil {
		w.Fatal(err)
	}
	ns.Annotations = map[string]string{v1alpha1.AnnotationMode: "rescue", v1alpha1.AnnotationSnapshot: "off"}
	if err := w.client.Update(context.Background(), ns); err != nil {
		w.Fatal(err)
	}
}

func (w *world) look(c *Controller) {
	w.Helper()
	if _, err := c.Reconcile(context.Background(), reconcile.Request{NamespacedName: client.ObjectKey{Name: "nf"}}); err != nil {
		w.Fatal(err)
	}
}

// volume is how far a volume of the incident is.
func (w *world) volume(name string) v1alpha1.FencedVolume {
	w.Helper()
	for _, entry := range w.fence().Status.Volumes {
		if entry.PersistentVolume == name {
			return entry
		}
	}
	return v1alpha1.FencedVolume{}
}

// S1: what one pool has confirmed says nothing of another.
func TestRescueReleasesNoVolumeOfAPoolThatWasNotAsked(t *testing.T) {
	t.Parallel()
	w := newWorld(t, second()...)
	w.ceph.AddPool("slow", 8)
	w.ceph.LagPlacementGroup("slow", 3, true)
	w.optIn("shop")
	c := w.controller()
	w.look(c) // asks for the entry
	w.optIn("web")
	w.look(c) // the entry is listed, and pool rbd has confirmed it
	if first, second := w.volume("pv").Phase, w.volume("pv2").Phase; first != v1alpha1.VolumeReleasing || second != v1alpha1.VolumeHeld {
		t.Fatalf("pv is %s, pv2 is %s", first, second)
	}
	if err := w.settle(c); err != nil {
		t.Fatal(err)
	}
	if got := w.volume("pv2").Phase; got != v1alpha1.VolumeHeld {
		t.Errorf("S1: pv2 is %s while a placement group of its pool lags", got)
	}
	w.ceph.LagPlacementGroup("slow", 3, false)
	if err := w.settle(c); err != nil {
		t.Fatal(err)
	}
	if got := w.volume("pv2").Phase; got != v1alpha1.VolumeReleasing {
		t.Errorf("pv2 is %s once its pool has confirmed", got)
	}
}

// Whoever has a volume after its rescue may delete it; that must not keep the rest of the fence from being proven anew.
func TestRescueProvesTheFenceAnewThoughAReleasedImageIsRemoved(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := w.controller()
	if err := w.settle(c); err != nil {
		t.Fatal(err)
	}
	if err := w.client.Delete(t.Context(), &storagev1.VolumeAttachment{ObjectMeta: metav1.ObjectMeta{Name: "va"}}); err != nil {
		t.Fatal(err)
	}
	if err := w.settle(c); err != nil {
		t.Fatal(err)
	}
	if got := w.volume("pv").Phase; got != v1alpha1.VolumeReleased {
		t.Fatalf("pv is %s", got)
	}
	w.ceph.RemoveImage(ceph.Image{Pool: "rbd", Name: "img"})
	w.ceph.Tamper(ceph.MustParseAddress(deadClient), time.Time{})
	if err := w.settle(c); err != nil {
		t.Fatal(err)
	}
	if nf := w.fence(); nf.Status.Clients[0].Epoch == 0 {
		t.Errorf("the entry is not proven: %s", nf.Status.Message)
	}
}
