package e2e

import (
	"errors"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rbd-rescue/rbd-rescue/api/v1alpha1"
	"github.com/rbd-rescue/rbd-rescue/e2e/lab"
	"github.com/rbd-rescue/rbd-rescue/manifests"
)

// deleteAndRestore takes every object of an application's volume away, and its NodeFence, and gets it running again on its old image
// by kubectl rescue restore alone. While it is in use, restoring is refused.
func (s *scenario) deleteAndRestore(w *lab.Workload, nf *v1alpha1.NodeFence) {
	s.Helper()
	image := lab.Pool + "/" + w.Image
	on, err := w.RunsOn(s.ctx)
	s.must(err)
	s.eventually(60*time.Second, "the image carries the manifests, with the client on "+on, func() (bool, error) {
		out, err := s.ceph.RBD(s.ctx, "image-meta", "get", image, manifests.Key)
		if err != nil {
			return false, nil //nolint:nilerr // there is none yet
		}
		m, err := manifests.Decode(strings.TrimSpace(string(out)))
		return err == nil && len(m.Clients[on].Clients) > 0, err
	})
	args := []string{"restore", image, "--ceph-cluster=" + s.ceph.ClusterID}
	out, code := s.plugin("", args...)
	if code == 0 {
		s.Fatalf("restored an image in use: %s", out)
	}
	for _, want := range []string{"claim " + w.Namespace + "/" + w.Name + " exists", "names image " + image + " already", "is open for writing at", "VolumeAttachment", "uses claim"} {
		if !strings.Contains(out, want) {
			s.Errorf("a refusal does not say %q: %s", want, out)
		}
	}
	s.scale(w, 0)
	before, err := w.Check(s.ctx)
	s.must(err)
	for _, object := range []client.Object{
		nf, &corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Namespace: w.Namespace, Name: w.Name}}, &corev1.PersistentVolume{ObjectMeta: metav1.ObjectMeta{Name: w.Volume}},
	} {
		s.must(s.lab.Client.Delete(s.ctx, object))
		s.eventually(60*time.Second, object.GetName()+" is gone", func() (bool, error) {
			err := s.lab.Client.Get(s.ctx, client.ObjectKeyFromObject(object), object)
			return err != nil, client.IgnoreNotFound(err)
		})
	}
	s.eventually(60*time.Second, "kubectl rescue restore does it", func() (bool, error) {
		if out, code = s.plugin("", args...); code != 0 { // a watch may outlive its client for 30 s
			return false, errors.New(out)
		}
		return true, nil
	})
	s.Logf("%s", out)
	s.scale(w, 1)
	s.runsElsewhere(w, "")
	s.eventually(60*time.Second, "another writer goes on where it ended", func() (bool, error) {
		report, err := w.Check(s.ctx)
		return len(report.Writers) > len(before.Writers) && report.Writers[len(report.Writers)-1].Acknowledged > 0, err
	})
	s.proveData(w)
}

// scale sets the replicas of a StatefulSet, and waits for the end of its pod if there are to be none.
func (s *scenario) scale(w *lab.Workload, replicas int32) {
	s.Helper()
	set := &appsv1.StatefulSet{ObjectMeta: metav1.ObjectMeta{Namespace: w.Namespace, Name: w.Name}}
	s.must(s.lab.Client.Get(s.ctx, client.ObjectKeyFromObject(set), set))
	before := set.DeepCopy()
	set.Spec.Replicas = &replicas
	s.must(s.lab.Client.Patch(s.ctx, set, client.MergeFrom(before)))
	if replicas == 0 {
		s.eventually(60*time.Second, w.Name+" is stopped", func() (bool, error) {
			pods, err := w.Pods(s.ctx)
			return len(pods) == 0, err
		})
	}
}
