package lab

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rbd-rescue/rbd-rescue/api/v1alpha1"
	"github.com/rbd-rescue/rbd-rescue/e2e/workload"
	"github.com/rbd-rescue/rbd-rescue/e2e/workload/rbdcheck"
)

// Workload is one application with one RBD volume: a StatefulSet or a Deployment of one replica, whose "container" is the
// CSI plugin's writer.
type Workload struct {
	lab             *Lab
	site            *Site
	Namespace, Name string
	// Volume is the PersistentVolume, Image its RBD image.
	Volume, Image string
}

// WorkloadOptions say what is made.
type WorkloadOptions struct {
	Namespace, Name string
	// StatefulSet, else Deployment.
	StatefulSet bool
	// On is the node that it starts on, if it can.
	On string
	// Patience is the tolerationSeconds of its pods: how long after the NoExecute taint Kubernetes evicts them.
	Patience time.Duration
	// ReadWriteMany makes the volume a block device that many nodes may have.
	ReadWriteMany bool
	// InTree makes the volume one of Kubernetes' own old driver, which no kubelet serves any more: its pod is scheduled, and
	// never runs. Write with Lab.WriteFrom.
	InTree bool
	// Ceph holds the image; the lab's own cluster if nil.
	Ceph *Site
	// IgnoresFence lets its pods be scheduled to a node that rbd-rescue has fenced.
	IgnoresFence bool
	// Features of the image; layering alone if empty, as ceph-csi makes them.
	Features []string
}

// Namespace makes a namespace with a mode; empty for one that does not opt in.
func (l *Lab) MakeNamespace(ctx context.Context, name string, mode v1alpha1.Mode) error {
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}
	if mode != v1alpha1.ModeOff {
		namespace.Annotations = map[string]string{v1alpha1.AnnotationMode: string(mode)}
	}
	if err := l.Client.Create(ctx, namespace); err != nil {
		return fmt.Errorf("making namespace %s: %w", name, err)
	}
	return nil
}

// SetSnapshots says whether safety snapshots are taken of a namespace's volumes.
func (l *Lab) SetSnapshots(ctx context.Context, namespace string, policy v1alpha1.SnapshotPolicy) error {
	patch := fmt.Sprintf(`{"metadata":{"annotations":{%q:%q}}}`, v1alpha1.AnnotationSnapshot, policy)
	object := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace}}
	if err := l.Client.Patch(ctx, object, client.RawPatch(types.MergePatchType, []byte(patch))); err != nil {
		return fmt.Errorf("annotating namespace %s: %w", namespace, err)
	}
	return nil
}

// MakeWorkload makes image, PersistentVolume, claim and application. The PersistentVolume is as ceph-csi provisions them.
func (l *Lab) MakeWorkload(ctx context.Context, o WorkloadOptions) (*Workload, error) {
	w := &Workload{
		lab: l, site: cmp.Or(o.Ceph, l.Ceph), Namespace: o.Namespace, Name: o.Name,
		Volume: "pvc-" + o.Namespace + "-" + o.Name, Image: ImageOf(o.Namespace, o.Name),
	}
	if err := w.site.CreateImage(ctx, Pool, w.Image, 32, o.Features...); err != nil {
		return nil, fmt.Errorf("making image %s: %w", w.Image, err)
	}
	for _, object := range []client.Object{w.persistentVolume(o), w.claim(o), w.application(o)} {
		if err := l.Client.Create(ctx, object); err != nil {
			return nil, fmt.Errorf("making %s %s/%s: %w", object.GetObjectKind().GroupVersionKind().Kind, w.Namespace, object.GetName(), err)
		}
	}
	return w, nil
}

// ImageOf is the image of a claim.
func ImageOf(namespace, claim string) string { return "csi-vol-" + imageID(namespace, claim) }

// imageID is what ceph-csi names an image by: a UUID, here always the same one for the same claim.
func imageID(namespace, claim string) string {
	return uuid.NewSHA1(uuid.NameSpaceURL, []byte(namespace+"/"+claim)).String()
}

func (o WorkloadOptions) accessMode() corev1.PersistentVolumeAccessMode {
	if o.ReadWriteMany {
		return corev1.ReadWriteMany
	}
	return corev1.ReadWriteOnce
}

func (o WorkloadOptions) volumeMode() corev1.PersistentVolumeMode {
	if o.ReadWriteMany {
		return corev1.PersistentVolumeBlock
	}
	return corev1.PersistentVolumeFilesystem
}

func (w *Workload) persistentVolume(o WorkloadOptions) *corev1.PersistentVolume {
	pv := w.csiVolume(o)
	if o.InTree {
		pv.Annotations, pv.Spec.PersistentVolumeSource = nil, corev1.PersistentVolumeSource{RBD: &corev1.RBDPersistentVolumeSource{
			CephMonitors: w.site.Monitors(), RBDPool: Pool, RBDImage: w.Image, RadosUser: csiUser,
			SecretRef: &corev1.SecretReference{Name: "ceph", Namespace: w.Namespace},
		}}
	}
	return pv
}

func (w *Workload) csiVolume(o WorkloadOptions) *corev1.PersistentVolume {
	features, fsType := "layering", "ext4"
	if len(o.Features) > 0 {
		features = strings.Join(o.Features, ",")
	}
	if o.ReadWriteMany {
		fsType = "" // a block device
	}
	return &corev1.PersistentVolume{
		ObjectMeta: metav1.ObjectMeta{Name: w.Volume, Annotations: map[string]string{"pv.kubernetes.io/provisioned-by": Driver}},
		Spec: corev1.PersistentVolumeSpec{
			Capacity:                      corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("32Mi")},
			AccessModes:                   []corev1.PersistentVolumeAccessMode{o.accessMode()},
			VolumeMode:                    new(o.volumeMode()),
			PersistentVolumeReclaimPolicy: corev1.PersistentVolumeReclaimRetain,
			StorageClassName:              "rbd",
			ClaimRef:                      &corev1.ObjectReference{APIVersion: "v1", Kind: "PersistentVolumeClaim", Namespace: w.Namespace, Name: w.Name},
			PersistentVolumeSource: corev1.PersistentVolumeSource{CSI: &corev1.CSIPersistentVolumeSource{
				Driver: Driver, FSType: fsType,
				VolumeHandle: fmt.Sprintf("0001-%04x-%s-%016x-%s", len(w.site.ClusterID), w.site.ClusterID, 1, imageID(w.Namespace, w.Name)),
				VolumeAttributes: map[string]string{
					"clusterID": w.site.ClusterID, "pool": Pool, "journalPool": Pool, "imageName": w.Image, "imageFeatures": features,
					"storage.kubernetes.io/csiProvisionerIdentity": "1700000000000-8081-" + Driver,
				},
			}},
		},
	}
}

func (w *Workload) claim(o WorkloadOptions) *corev1.PersistentVolumeClaim {
	return &corev1.PersistentVolumeClaim{
		ObjectMeta: metav1.ObjectMeta{Namespace: w.Namespace, Name: w.Name},
		Spec: corev1.PersistentVolumeClaimSpec{
			AccessModes:      []corev1.PersistentVolumeAccessMode{o.accessMode()},
			VolumeMode:       new(o.volumeMode()),
			StorageClassName: new("rbd"),
			VolumeName:       w.Volume,
			Resources:        corev1.VolumeResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("32Mi")}},
		},
	}
}

func (w *Workload) application(o WorkloadOptions) client.Object {
	labels := map[string]string{"app": w.Name}
	meta := metav1.ObjectMeta{Namespace: w.Namespace, Name: w.Name}
	template := corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels}, Spec: w.podSpec(o)}
	selector := &metav1.LabelSelector{MatchLabels: labels}
	if o.StatefulSet {
		return &appsv1.StatefulSet{
			TypeMeta: metav1.TypeMeta{Kind: "StatefulSet"}, ObjectMeta: meta,
			Spec: appsv1.StatefulSetSpec{Replicas: new(int32(1)), Selector: selector, Template: template, ServiceName: w.Name},
		}
	}
	return &appsv1.Deployment{
		TypeMeta: metav1.TypeMeta{Kind: "Deployment"}, ObjectMeta: meta,
		Spec: appsv1.DeploymentSpec{Replicas: new(int32(1)), Selector: selector, Template: template},
	}
}

func (w *Workload) podSpec(o WorkloadOptions) corev1.PodSpec {
	spec := corev1.PodSpec{
		TerminationGracePeriodSeconds: new(int64(5)),
		DNSPolicy:                     corev1.DNSDefault,
		Containers: []corev1.Container{{
			Name: "writer", Image: "writer:1",
			VolumeMounts: []corev1.VolumeMount{{Name: "data", MountPath: "/data"}},
		}},
		Volumes: []corev1.Volume{{Name: "data", VolumeSource: corev1.VolumeSource{
			PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: w.Name},
		}}},
	}
	if o.ReadWriteMany {
		spec.Containers[0].VolumeMounts, spec.Containers[0].VolumeDevices = nil, []corev1.VolumeDevice{{Name: "data", DevicePath: "/dev/data"}}
	}
	for _, key := range []string{corev1.TaintNodeUnreachable, corev1.TaintNodeNotReady} {
		spec.Tolerations = append(spec.Tolerations, corev1.Toleration{
			Key: key, Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoExecute,
			TolerationSeconds: new(int64(o.Patience / time.Second)),
		})
	}
	if o.IgnoresFence {
		spec.Tolerations = append(spec.Tolerations, corev1.Toleration{Key: v1alpha1.TaintFenced, Operator: corev1.TolerationOpExists})
	}
	spec.Affinity = &corev1.Affinity{NodeAffinity: &corev1.NodeAffinity{}}
	if o.On != "" {
		spec.Affinity.NodeAffinity.PreferredDuringSchedulingIgnoredDuringExecution = []corev1.PreferredSchedulingTerm{{
			Weight: 100, Preference: onOneOf(o.On),
		}}
	}
	if spares := w.lab.options.Spares; len(spares) > 0 {
		spec.Affinity.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution = &corev1.NodeSelector{
			NodeSelectorTerms: []corev1.NodeSelectorTerm{onOneOf(append(slices.Clone(spares), o.On)...)},
		}
	}
	return spec
}

func onOneOf(nodes ...string) corev1.NodeSelectorTerm {
	return corev1.NodeSelectorTerm{MatchExpressions: []corev1.NodeSelectorRequirement{{
		Key: corev1.LabelHostname, Operator: corev1.NodeSelectorOpIn, Values: nodes,
	}}}
}

// Pods are the application's pods.
func (w *Workload) Pods(ctx context.Context) ([]corev1.Pod, error) {
	var pods corev1.PodList
	if err := w.lab.Client.List(ctx, &pods, client.InNamespace(w.Namespace), client.MatchingLabels{"app": w.Name}); err != nil {
		return nil, fmt.Errorf("listing the pods of %s/%s: %w", w.Namespace, w.Name, err)
	}
	return pods.Items, nil
}

// RunsOn is the node on which a pod of the application runs that nobody wants gone; empty for none.
func (w *Workload) RunsOn(ctx context.Context) (string, error) {
	pods, err := w.Pods(ctx)
	if err != nil {
		return "", err
	}
	for _, pod := range pods {
		if pod.Status.Phase == corev1.PodRunning && pod.DeletionTimestamp == nil {
			return pod.Spec.NodeName, nil
		}
	}
	return "", nil
}

// Recorded are the Ceph clients that are recorded for a node; none while rbd-rescue does not know them, or has not looked at
// them since the application's pods run there.
func (w *Workload) Recorded(ctx context.Context, node string) ([]string, error) {
	pods, err := w.Pods(ctx)
	if err != nil {
		return nil, err
	}
	pv := &corev1.PersistentVolume{}
	if err := w.lab.Client.Get(ctx, client.ObjectKey{Name: w.Volume}, pv); err != nil {
		return nil, fmt.Errorf("reading PersistentVolume %s: %w", w.Volume, err)
	}
	return recordedClients(pv, node, pods)
}

// Check reads the image back and proves what its writers were told.
func (w *Workload) Check(ctx context.Context) (workload.Report, error) {
	return rbdcheck.Check(ctx, w.site.ConfFile(), Pool, w.Image, w.lab.AckDir())
}

// CheckSnapshot reads a snapshot of the image back and proves what the writers on a node were told.
func (w *Workload) CheckSnapshot(ctx context.Context, snapshot, node string) (workload.Report, error) {
	return rbdcheck.CheckSnapshot(ctx, w.site.ConfFile(), Pool, w.Image, snapshot, w.lab.AckDir(), node)
}
