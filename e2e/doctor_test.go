package e2e

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	appsv1 "k8s.io/api/apps/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/util/retry"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rbd-rescue/rbd-rescue/api/v1alpha1"
	"github.com/rbd-rescue/rbd-rescue/doctor"
	"github.com/rbd-rescue/rbd-rescue/e2e/lab"
)

// labsOwn is what is not in the lab as it is in a cluster: rbd-rescue runs as processes, of no Deployment.
var labsOwn = []fault{
	{doctor.Error, doctor.CheckReplicas, "Deployment rbd-rescue/rbd-rescue-remediator is scaled to 0 replicas."},
	{doctor.Error, doctor.CheckReplicas, "Deployment rbd-rescue/rbd-rescue-webhook is scaled to 0 replicas."},
}

// fault is a finding that is expected; its message has this in it.
type fault struct {
	severity doctor.Severity
	check    string
	message  string
}

// Doctor finds nothing where all is well, and then each of many faults that are made at once, and nothing else.
func TestDoctor(t *testing.T) {
	s := begin(t, v1alpha1.ModeRescue)
	s.onlyVolumesInUse()
	s.workload("db", "node-a", true, patience)
	s.eventually(60*time.Second, "doctor finds nothing in a healthy cluster", func() (bool, error) {
		code, findings, err := s.lab.Rescue.Doctor(s.ctx)
		if err != nil {
			return false, err
		}
		checked := map[string]bool{}
		for _, f := range findings {
			checked[f.Check] = true
		}
		for _, check := range doctor.Checks {
			if !checked[check] {
				return false, fmt.Errorf("it says nothing of %s", check)
			}
		}
		return code == 1, unlike(findings, labsOwn) // the replicas
	})

	want := slices.Concat(labsOwn, s.breakObjects(), s.breakRescue())
	clusters, more := s.breakCeph()
	want = append(want, more...)
	s.eventually(90*time.Second, fmt.Sprintf("doctor finds just the %d faults", len(want)), func() (bool, error) {
		code, findings, err := s.lab.Rescue.Doctor(s.ctx, clusters...)
		if err != nil {
			return false, err
		}
		return code == 1, unlike(findings, want)
	})
}

// unlike says which findings are not among those wanted, and which of these were not found.
func unlike(findings []doctor.Finding, want []fault) error {
	var wrong []string
	for _, f := range findings {
		is := func(w fault) bool {
			return w.severity == f.Severity && w.check == f.Check && strings.Contains(f.Message, w.message)
		}
		at := slices.IndexFunc(want, is)
		switch {
		case at >= 0:
			want = slices.Delete(slices.Clone(want), at, at+1)
		case f.Severity != doctor.OK:
			wrong = append(wrong, fmt.Sprintf("found %s %s: %s", f.Severity, f.Check, f.Message))
		}
	}
	for _, w := range want {
		wrong = append(wrong, fmt.Sprintf("not found: %s %s: …%s…", w.severity, w.check, w.message))
	}
	if len(wrong) == 0 {
		return nil
	}
	return fmt.Errorf("%s", strings.Join(wrong, "\n"))
}

// onlyVolumesInUse removes what scenarios before have left: their volumes may be of clusters that only they knew.
func (s *scenario) onlyVolumesInUse() {
	s.Helper()
	var volumes corev1.PersistentVolumeList
	s.must(s.lab.Client.List(s.ctx, &volumes))
	for i := range volumes.Items {
		s.must(client.IgnoreNotFound(s.lab.Client.Delete(s.ctx, &volumes.Items[i])))
	}
}

// make makes an object, and removes it at the end.
func (s *scenario) make(object client.Object) {
	s.Helper()
	s.must(s.lab.Client.Create(s.ctx, object))
	s.Cleanup(func() { s.must(client.IgnoreNotFound(s.lab.Client.Delete(s.ctx, object))) })
}

// change changes an object, and at the end changes it back.
func change[T client.Object](s *scenario, name client.ObjectKey, object T, do, undo func(T)) {
	s.Helper()
	apply := func(f func(T)) {
		s.Helper()
		s.must(retry.RetryOnConflict(retry.DefaultRetry, func() error {
			if err := s.lab.Client.Get(s.ctx, name, object); err != nil {
				return err
			}
			f(object)
			return s.lab.Client.Update(s.ctx, object)
		}))
	}
	apply(do)
	s.Cleanup(func() { apply(undo) })
}

// breakObjects makes faults that are objects of Kubernetes.
func (s *scenario) breakObjects() []fault {
	s.Helper()
	volume := func(name string, modes []corev1.PersistentVolumeAccessMode, attributes map[string]string) {
		s.make(s.strayVolume(name, modes, attributes))
	}
	once := []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce}
	image := func(clusterID string) map[string]string {
		return map[string]string{"clusterID": clusterID, "pool": lab.Pool, "imageName": lab.ImageOf(s.namespace, "db")}
	}
	volume("doctor-elsewhere", once, image("elsewhere"))
	volume("doctor-shapeless", once, map[string]string{"clusterID": lab.ClusterID, "imageName": "x"})
	volume("doctor-many", []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce, corev1.ReadOnlyMany}, image(lab.ClusterID))

	change(s, client.ObjectKey{Name: "spare-a"}, &corev1.Node{},
		func(n *corev1.Node) { metav1.SetMetaDataAnnotation(&n.ObjectMeta, v1alpha1.AnnotationPaused, "true") },
		func(n *corev1.Node) { delete(n.Annotations, v1alpha1.AnnotationPaused) })
	outOfService := corev1.Taint{Key: corev1.TaintNodeOutOfService, Effect: corev1.TaintEffectNoSchedule}
	change(s, client.ObjectKey{Name: "spare-b"}, &corev1.Node{},
		func(n *corev1.Node) { n.Spec.Taints = append(n.Spec.Taints, outOfService) },
		func(n *corev1.Node) {
			n.Spec.Taints = slices.DeleteFunc(n.Spec.Taints, func(t corev1.Taint) bool { return t.Key == outOfService.Key })
		})

	labels := map[string]string{"app": "csi-rbdplugin-provisioner"}
	s.make(&appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Namespace: s.namespace, Name: "csi-rbdplugin-provisioner"},
		Spec: appsv1.DeploymentSpec{Replicas: new(int32(0)), Selector: &metav1.LabelSelector{MatchLabels: labels}, Template: corev1.PodTemplateSpec{
			ObjectMeta: metav1.ObjectMeta{Labels: labels},
			Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "csi", Image: "cephcsi", Args: []string{"--type=rbd", "--enable-fencing=true"}}}},
		}},
	})
	s.make(networkFenceKind())
	fence := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "csiaddons.openshift.io/v1alpha1", "kind": "NetworkFence", "metadata": map[string]any{"name": "by-another"},
		"spec": map[string]any{"fenceState": "Fenced", "cidrs": []any{"192.0.2.7/32"}},
	}}
	s.eventually(30*time.Second, "a NetworkFence can be made", func() (bool, error) {
		return true, s.lab.Client.Create(s.ctx, fence)
	})

	return []fault{
		{doctor.Error, doctor.CheckClusterIDs, "clusterID elsewhere"},
		{doctor.Error, doctor.CheckVolumes, "PersistentVolume doctor-shapeless has no volumeAttributes.pool"},
		{doctor.Warning, doctor.CheckVolumes, "not ReadWriteMany: doctor-many"},
		{doctor.Warning, doctor.CheckPauses, "Node spare-a is paused"},
		{doctor.Warning, doctor.CheckOtherActors, "Node spare-b is tainted node.kubernetes.io/out-of-service"},
		{doctor.Warning, doctor.CheckOtherActors, s.namespace + "/csi-rbdplugin-provisioner fences nodes by itself"},
		{doctor.Warning, doctor.CheckOtherActors, "NetworkFence by-another cuts off 192.0.2.7/32"},
	}
}

func (s *scenario) strayVolume(name string, modes []corev1.PersistentVolumeAccessMode, attributes map[string]string) *corev1.PersistentVolume {
	pv := &corev1.PersistentVolume{}
	s.must(s.lab.Client.Get(s.ctx, client.ObjectKey{Name: "pvc-" + s.namespace + "-db"}, pv))
	spec := pv.Spec.DeepCopy()
	spec.ClaimRef, spec.AccessModes = nil, modes
	spec.CSI.VolumeHandle, spec.CSI.VolumeAttributes = name, attributes
	return &corev1.PersistentVolume{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: *spec}
}

func networkFenceKind() *unstructured.Unstructured {
	return &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": map[string]any{"name": "networkfences.csiaddons.openshift.io"},
		"spec": map[string]any{
			"group": "csiaddons.openshift.io", "scope": "Cluster",
			"names": map[string]any{"plural": "networkfences", "singular": "networkfence", "kind": "NetworkFence", "listKind": "NetworkFenceList"},
			"versions": []any{map[string]any{"name": "v1alpha1", "served": true, "storage": true, "schema": map[string]any{"openAPIV3Schema": map[string]any{
				"type": "object", "x-kubernetes-preserve-unknown-fields": true,
			}}}},
		},
	}}
}

// breakRescue makes faults of rbd-rescue itself. The lab's healing starts its processes again.
func (s *scenario) breakRescue() []fault {
	s.Helper()
	s.must(s.lab.Rescue.KillWebhook())
	s.must(s.lab.Rescue.KillRemediator())
	typo := s.namespace + "-typo"
	s.make(&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: typo, Annotations: map[string]string{v1alpha1.AnnotationMode: "resuce"}}}) // nobody refuses it now

	ours := client.ObjectKey{Name: "rbd-rescue-webhook"}
	change(s, ours, &admissionv1.MutatingWebhookConfiguration{},
		func(c *admissionv1.MutatingWebhookConfiguration) { c.Webhooks[0].FailurePolicy = new(admissionv1.Fail) },
		func(c *admissionv1.MutatingWebhookConfiguration) {
			c.Webhooks[0].FailurePolicy = new(admissionv1.Ignore)
		})
	change(s, ours, &admissionv1.ValidatingWebhookConfiguration{},
		func(c *admissionv1.ValidatingWebhookConfiguration) { c.Webhooks[0].ClientConfig.CABundle = nil },
		func(*admissionv1.ValidatingWebhookConfiguration) {}) // the webhook writes it when it is back
	change(s, client.ObjectKey{Name: "rbd-rescue-nodes"}, &admissionv1.ValidatingAdmissionPolicyBinding{},
		func(b *admissionv1.ValidatingAdmissionPolicyBinding) {
			b.Spec.ValidationActions = []admissionv1.ValidationAction{admissionv1.Warn}
		},
		func(b *admissionv1.ValidatingAdmissionPolicyBinding) {
			b.Spec.ValidationActions = []admissionv1.ValidationAction{admissionv1.Deny}
		})
	deployment := client.ObjectKey{Namespace: lab.Namespace, Name: "rbd-rescue-webhook"}
	var image string
	change(s, deployment, &appsv1.Deployment{},
		func(d *appsv1.Deployment) {
			image, d.Spec.Template.Spec.Containers[0].Image = d.Spec.Template.Spec.Containers[0].Image, "rbd-rescue:older"
		},
		func(d *appsv1.Deployment) { d.Spec.Template.Spec.Containers[0].Image = image })
	change(s, client.ObjectKey{Namespace: lab.Namespace, Name: "rbd-rescue-remediator"}, &coordinationv1.Lease{},
		func(l *coordinationv1.Lease) { l.Spec.RenewTime = new(metav1.NewMicroTime(time.Now().Add(-time.Hour))) },
		func(*coordinationv1.Lease) {}) // the next remediator takes it

	return []fault{
		{doctor.Error, doctor.CheckWebhook, "The API server did not reach the webhook"},
		{doctor.Warning, doctor.CheckWebhook, "has failurePolicy Fail"},
		{doctor.Error, doctor.CheckCertificates, "ValidatingWebhookConfiguration rbd-rescue-webhook has no CA"},
		{doctor.Warning, doctor.CheckCertificates, "The webhook's certificate could not be looked at"},
		{doctor.Error, doctor.CheckNamespaces, "Namespace " + typo + " is not protected"},
		{doctor.Error, doctor.CheckPolicies, "are not bound, or do not deny: rbd-rescue-nodes."},
		{doctor.Warning, doctor.CheckVersions, "and the webhook rbd-rescue:older"},
		{doctor.Error, doctor.CheckRemediator, "No remediator leads"},
		{doctor.Warning, doctor.CheckCaches, "asking the remediator"},
	}
}

// breakCeph gives clusters of which one is asked as a user with ceph-csi's caps for another pool, and one with a wrong key.
func (s *scenario) breakCeph() (clusters []any, faults []fault) {
	s.Helper()
	few, err := s.lab.Ceph.CreateUser(s.ctx, "doctor-few", map[string]string{"mon": "profile rbd", "osd": "profile rbd-read-only pool=another"})
	s.must(err)
	first := s.lab.Ceph.Configuration(lab.ClusterID)
	first["user"], first["keyFile"] = "doctor-few", few
	second := s.lab.SecondCeph.Configuration(s.lab.SecondCeph.ClusterID)
	second["user"], second["keyFile"] = "doctor-unknown", few
	return []any{first, second}, []fault{
		{doctor.Error, doctor.CheckCeph, "Ceph cluster " + s.lab.SecondCeph.ClusterID + " cannot be asked"},
		{doctor.Error, doctor.CheckCephCaps, "client.doctor-few of Ceph cluster lab may not remove from the blocklist"},
		{doctor.Error, doctor.CheckCephCaps, "client.doctor-few of Ceph cluster lab may not read the maps of its daemons"},
		{doctor.Error, doctor.CheckPools, "client.doctor-few may not read pool kubernetes of Ceph cluster lab"},
	}
}
