package manifests

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/rbd-rescue/rbd-rescue/api/v1alpha1"
	"github.com/rbd-rescue/rbd-rescue/ceph"
)

// live is a volume as the API server gives it, with its claim.
func live() (*corev1.PersistentVolume, *corev1.PersistentVolumeClaim) {
	pv := &corev1.PersistentVolume{
		ObjectMeta: metav1.ObjectMeta{
			Name: "pvc-1", UID: "uid-1", ResourceVersion: "17", CreationTimestamp: metav1.Unix(1, 0), Finalizers: []string{"kubernetes.io/pv-protection"},
			ManagedFields: []metav1.ManagedFieldsEntry{{Manager: "kubectl"}}, Labels: map[string]string{"team": "shop"},
			Annotations: map[string]string{
				"pv.kubernetes.io/provisioned-by": "rbd.csi.ceph.com", "pv.kubernetes.io/bound-by-controller": "yes",
				v1alpha1.AnnotationClients: `{"a":{"bootID":"boot-1","clients":["10.0.0.1:0/42"]}}`,
			},
		},
		Spec: corev1.PersistentVolumeSpec{
			Capacity: storage("1Gi"), AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce},
			PersistentVolumeReclaimPolicy: corev1.PersistentVolumeReclaimDelete, StorageClassName: "rbd",
			ClaimRef: &corev1.ObjectReference{Kind: "PersistentVolumeClaim", APIVersion: "v1", Namespace: "shop", Name: "data", UID: "uid-2", ResourceVersion: "12"},
			PersistentVolumeSource: corev1.PersistentVolumeSource{CSI: &corev1.CSIPersistentVolumeSource{
				Driver: "rbd.csi.ceph.com", VolumeHandle: "0001-1", FSType: "ext4",
				VolumeAttributes: map[string]string{
					"clusterID": "c1", "pool": "rbd", "imageName": "csi-vol-1", "journalPool": "rbd", "imageFeatures": "layering",
					"storage.kubernetes.io/csiProvisionerIdentity": "17-rbd.csi.ceph.com",
				},
				NodeStageSecretRef: &corev1.SecretReference{Namespace: "ceph", Name: "node"},
			}},
		},
		Status: corev1.PersistentVolumeStatus{Phase: corev1.VolumeBound},
	}
	claim := &corev1.PersistentVolumeClaim{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: "shop", Name: "data", UID: "uid-2", ResourceVersion: "18", Finalizers: []string{"kubernetes.io/pvc-protection"},
			OwnerReferences: []metav1.OwnerReference{{Kind: "StatefulSet", Name: "db", UID: "uid-3"}}, Labels: map[string]string{"app": "db"},
			Annotations: map[string]string{
				"pv.kubernetes.io/bind-completed": "yes", corev1.LastAppliedConfigAnnotation: "{}", "volume.kubernetes.io/selected-node": "a", "note": "kept",
			},
		},
		Spec: corev1.PersistentVolumeClaimSpec{
			AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce}, StorageClassName: new("rbd"), VolumeName: "pvc-1",
			Resources:  corev1.VolumeResourceRequirements{Requests: storage("1Gi")},
			DataSource: &corev1.TypedLocalObjectReference{Kind: "VolumeSnapshot", Name: "s"},
			Selector:   &metav1.LabelSelector{MatchLabels: map[string]string{"a": "b"}},
		},
		Status: corev1.PersistentVolumeClaimStatus{Phase: corev1.ClaimBound, Capacity: storage("1Gi")},
	}
	return pv, claim
}

func storage(size string) corev1.ResourceList {
	return corev1.ResourceList{corev1.ResourceStorage: resource.MustParse(size)}
}

// rebuilt is what the two objects of live become again, with changes.
func rebuilt(change func(*corev1.PersistentVolume, *corev1.PersistentVolumeClaim)) [2]any {
	pv := &corev1.PersistentVolume{
		TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "PersistentVolume"},
		ObjectMeta: metav1.ObjectMeta{
			Name: "pvc-1", Labels: map[string]string{"team": "shop"}, Annotations: map[string]string{"pv.kubernetes.io/provisioned-by": "rbd.csi.ceph.com"},
		},
		Spec: corev1.PersistentVolumeSpec{
			Capacity: storage("1Gi"), AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce},
			PersistentVolumeReclaimPolicy: corev1.PersistentVolumeReclaimRetain, StorageClassName: "rbd",
			ClaimRef: &corev1.ObjectReference{Kind: "PersistentVolumeClaim", APIVersion: "v1", Namespace: "shop", Name: "data"},
			PersistentVolumeSource: corev1.PersistentVolumeSource{CSI: &corev1.CSIPersistentVolumeSource{
				Driver: "rbd.csi.ceph.com", VolumeHandle: "0001-1", FSType: "ext4",
				VolumeAttributes: map[string]string{
					"clusterID": "c1", "pool": "rbd", "imageName": "csi-vol-1", "journalPool": "rbd", "imageFeatures": "layering",
					"storage.kubernetes.io/csiProvisionerIdentity": "17-rbd.csi.ceph.com",
				},
				NodeStageSecretRef: &corev1.SecretReference{Namespace: "ceph", Name: "node"},
			}},
		},
	}
	claim := &corev1.PersistentVolumeClaim{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "PersistentVolumeClaim"},
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "data", Labels: map[string]string{"app": "db"}, Annotations: map[string]string{"note": "kept"}},
		Spec: corev1.PersistentVolumeClaimSpec{
			AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce}, StorageClassName: new("rbd"), VolumeName: "pvc-1",
			Resources: corev1.VolumeResourceRequirements{Requests: storage("1Gi")},
		},
	}
	if change != nil {
		change(pv, claim)
	}
	return [2]any{pv, claim}
}

func TestRebuild(t *testing.T) {
	t.Parallel()
	asClone := func(pool, namespace, image string) func(*corev1.PersistentVolume, *corev1.PersistentVolumeClaim) {
		return func(pv *corev1.PersistentVolume, claim *corev1.PersistentVolumeClaim) {
			pv.Name, claim.Spec.VolumeName, pv.Annotations = "restored-"+strings.ToLower(image), "restored-"+strings.ToLower(image), nil
			pv.Spec.CSI.VolumeHandle = image
			pv.Spec.CSI.VolumeAttributes = map[string]string{
				"clusterID": "c1", "pool": pool, "imageName": image, "imageFeatures": "layering", "staticVolume": "true",
			}
			if namespace != "" {
				pv.Spec.CSI.VolumeAttributes["radosNamespace"] = namespace
			}
		}
	}
	for name, test := range map[string]struct {
		target Target
		change func(*corev1.PersistentVolume, *corev1.PersistentVolumeClaim)
		want   func(*corev1.PersistentVolume, *corev1.PersistentVolumeClaim)
		refuse string
	}{
		"as it was, retained, bound by name, with nothing of the cluster that it was in": {},
		"its own image is no clone": {target: Target{Image: ceph.Image{Pool: "rbd", Name: "csi-vol-1"}, Size: 1 << 30}},
		"as another claim in another namespace": {
			target: Target{Namespace: "trial", Claim: "copy", Volume: "pv-copy"},
			want: func(pv *corev1.PersistentVolume, claim *corev1.PersistentVolumeClaim) {
				pv.Name, claim.Name, claim.Namespace, claim.Spec.VolumeName = "pv-copy", "copy", "trial", "pv-copy"
				pv.Spec.ClaimRef.Namespace, pv.Spec.ClaimRef.Name = "trial", "copy"
			},
		},
		"a clone is a static volume": {
			target: Target{Image: ceph.Image{Pool: "rbd", Name: "csi-vol-1-s"}}, want: asClone("rbd", "", "csi-vol-1-s"),
		},
		"a clone in a namespace of RADOS, whose name is none of Kubernetes'": {
			target: Target{Image: ceph.Image{Pool: "fast", Namespace: "ns", Name: "Vol"}}, want: asClone("fast", "ns", "Vol"),
		},
		"an image smaller than the volume was": {
			target: Target{Size: 512 << 20},
			want: func(pv *corev1.PersistentVolume, claim *corev1.PersistentVolumeClaim) {
				pv.Spec.Capacity, claim.Spec.Resources.Requests = storage("512Mi"), storage("512Mi")
			},
		},
		"a name that can't be": {target: Target{Claim: "No_Name", Namespace: "a.b"}, refuse: "no name of a claim"},
		"a volume whose image can't be told": {
			change: func(pv *corev1.PersistentVolume, _ *corev1.PersistentVolumeClaim) { pv.Spec.CSI.VolumeAttributes = nil }, refuse: "image cannot be told",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			liveVolume, liveClaim := live()
			if test.change != nil {
				test.change(liveVolume, liveClaim)
			}
			pv, claim, err := Of(liveVolume, liveClaim).Rebuild(test.target)
			if test.refuse != "" {
				if err == nil || !strings.Contains(err.Error(), test.refuse) {
					t.Fatalf("got %v", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if len(pv.Annotations) == 0 {
				pv.Annotations = nil
			}
			if diff := cmp.Diff(rebuilt(test.want), [2]any{pv, claim}); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestARebuiltVolumeOfTheOldDriverIsAnotherImage(t *testing.T) {
	t.Parallel()
	pv, claim := live()
	pv.Annotations["pv.kubernetes.io/migrated-to"] = "rbd.csi.ceph.com"
	pv.Spec.PersistentVolumeSource = corev1.PersistentVolumeSource{RBD: &corev1.RBDPersistentVolumeSource{CephMonitors: []string{"10.0.0.9"}, RBDPool: "rbd", RBDImage: "old"}}
	got, _, err := Of(pv, claim).Rebuild(Target{Image: ceph.Image{Pool: "rbd", Name: "new"}})
	if err != nil || got.Spec.RBD.RBDImage != "new" || got.Name != "restored-new" || got.Annotations["pv.kubernetes.io/migrated-to"] != "" {
		t.Errorf("got %v: %v", got, err)
	}
	if _, _, err := Of(pv, claim).Rebuild(Target{Image: ceph.Image{Pool: "rbd", Namespace: "ns", Name: "new"}}); err == nil {
		t.Error("named a namespace of RADOS that the old driver does not know")
	}
}

func TestManifestsComeBackAsTheyWereKept(t *testing.T) {
	t.Parallel()
	pv, claim := live()
	kept := Of(pv, claim)
	kept.SavedAt = metav1.NewTime(time.Date(2026, 11, 23, 3, 0, 0, 0, time.UTC))
	text, err := kept.Encode()
	if err != nil {
		t.Fatal(err)
	}
	for _, lost := range []string{"uid-1", "uid-2", "uid-3", "pv-protection", "kubectl", "boundby"} {
		if strings.Contains(text, lost) {
			t.Errorf("%q is in %s", lost, text)
		}
	}
	t.Logf("%d bytes", len(text))
	back, err := Decode(text)
	if err != nil {
		t.Fatal(err)
	}
	if !back.Same(Of(pv, claim)) || !back.SavedAt.Equal(&kept.SavedAt) || back.Clients["a"].BootID != "boot-1" {
		t.Errorf("came back as %+v", back)
	}
	claim.Labels["app"] = "another"
	if back.Same(Of(pv, claim)) {
		t.Error("a changed label is no change")
	}
}

func TestDecodeRefusesWhatItCannotTrust(t *testing.T) {
	t.Parallel()
	for name, text := range map[string]string{
		"no JSON": "{", "nothing": "{}", "a newer form": `{"version":2,"persistentVolume":{"metadata":{"name":"a"}},"persistentVolumeClaim":{"metadata":{"namespace":"b","name":"c"}}}`,
		"no RBD volume": `{"version":1,"persistentVolume":{"metadata":{"name":"a"}},"persistentVolumeClaim":{"metadata":{"namespace":"b","name":"c"}}}`,
		"no claim":      `{"version":1,"persistentVolume":{"metadata":{"name":"a"}}}`, "no name": `{"version":1,"persistentVolume":{},"persistentVolumeClaim":{}}`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if m, err := Decode(text); err == nil {
				t.Errorf("took %+v", m)
			}
		})
	}
}

func TestManifestsThatAreTooLargeAreNotKept(t *testing.T) {
	t.Parallel()
	pv, claim := live()
	claim.Annotations["note"] = strings.Repeat("x", maxBytes)
	if _, err := Of(pv, claim).Encode(); !errors.Is(err, ErrTooLarge) {
		t.Errorf("got %v", err)
	}
}

func FuzzDecode(f *testing.F) {
	pv, claim := live()
	text, err := Of(pv, claim).Encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	f.Fuzz(func(_ *testing.T, text string) {
		if m, err := Decode(text); err == nil {
			_, _, _ = m.Rebuild(Target{Image: ceph.Image{Pool: "p", Name: "i"}, Size: 1})
		}
	})
}
