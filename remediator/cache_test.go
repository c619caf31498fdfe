package remediator

import (
	"reflect"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rbd-rescue/rbd-rescue/api/v1alpha1"
	"github.com/rbd-rescue/rbd-rescue/remediator/packed"
	"github.com/rbd-rescue/rbd-rescue/volume"
)

func full() metav1.ObjectMeta {
	return metav1.ObjectMeta{
		Namespace: "n", Name: "x", GenerateName: "g", UID: "u", ResourceVersion: "7", Generation: 3,
		CreationTimestamp: metav1.Unix(1, 0), DeletionTimestamp: new(metav1.Unix(2, 0)), DeletionGracePeriodSeconds: new(int64(30)),
		Labels: map[string]string{"rbd-rescue.io/held": "true", "other": "text"},
		Annotations: map[string]string{
			"rbd-rescue.io/held-volumes": "[]", "rbd-rescue.io/clients": "{}", "rbd-rescue.io/paused": "true", "pv.kubernetes.io/migrated-to": "d", "other": "text",
		},
		Finalizers:      []string{"f"},
		OwnerReferences: []metav1.OwnerReference{{Name: "a"}, {APIVersion: "apps/v1", Kind: "StatefulSet", Name: "b", UID: "c", Controller: new(true)}},
		ManagedFields:   []metav1.ManagedFieldsEntry{{Manager: "m"}},
	}
}

func lean(change func(*metav1.ObjectMeta)) metav1.ObjectMeta {
	meta := metav1.ObjectMeta{
		Namespace: "n", Name: "x", UID: "u", ResourceVersion: "7",
		CreationTimestamp: metav1.Unix(1, 0), DeletionTimestamp: new(metav1.Unix(2, 0)), DeletionGracePeriodSeconds: new(int64(30)),
	}
	if change != nil {
		change(&meta)
	}
	return meta
}

func TestCachesKeepOnlyWhatIsRead(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct{ whole, want client.Object }{
		"Pod": {
			&corev1.Pod{
				ObjectMeta: full(),
				Spec: corev1.PodSpec{
					NodeName: "n", SchedulingGates: []corev1.PodSchedulingGate{{Name: "g"}}, Containers: []corev1.Container{{Name: "c"}},
					Volumes: []corev1.Volume{
						{Name: "token", VolumeSource: corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{}}},
						{Name: "data", VolumeSource: corev1.VolumeSource{PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: "c"}}},
						{Name: "cache", VolumeSource: corev1.VolumeSource{Ephemeral: &corev1.EphemeralVolumeSource{VolumeClaimTemplate: &corev1.PersistentVolumeClaimTemplate{}}}},
						{Name: "share", VolumeSource: corev1.VolumeSource{NFS: &corev1.NFSVolumeSource{Server: "s"}}},
					},
				},
				Status: corev1.PodStatus{Phase: corev1.PodRunning, PodIP: "1.2.3.4"},
			},
			&corev1.Pod{
				ObjectMeta: lean(func(m *metav1.ObjectMeta) {
					m.Labels = map[string]string{"rbd-rescue.io/held": "true"}
					m.Annotations = map[string]string{"rbd-rescue.io/held-volumes": "[]"}
					m.OwnerReferences = []metav1.OwnerReference{{Controller: new(true)}}
				}),
				Spec: corev1.PodSpec{
					NodeName: "n", SchedulingGates: []corev1.PodSchedulingGate{{Name: "g"}},
					Volumes: []corev1.Volume{
						{Name: "data", VolumeSource: corev1.VolumeSource{PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: "c"}}},
						{Name: "cache", VolumeSource: corev1.VolumeSource{Ephemeral: &corev1.EphemeralVolumeSource{}}},
						{Name: "share"}, // on a network, whatever it is
					},
				},
				Status: corev1.PodStatus{Phase: corev1.PodRunning},
			},
		},
		"Node": {
			&corev1.Node{
				ObjectMeta: full(),
				Spec:       corev1.NodeSpec{ProviderID: "p", Taints: []corev1.Taint{{Key: "t"}}},
				Status: corev1.NodeStatus{
					Capacity:   corev1.ResourceList{},
					Conditions: []corev1.NodeCondition{{Type: corev1.NodeDiskPressure}, {Type: corev1.NodeReady, Status: "True", Reason: "r", LastHeartbeatTime: metav1.Unix(3, 0), LastTransitionTime: metav1.Unix(4, 0)}},
					Addresses:  []corev1.NodeAddress{{Address: "10.0.0.1"}}, NodeInfo: corev1.NodeSystemInfo{BootID: "b", MachineID: "m", SystemUUID: "s", KernelVersion: "k"},
					Images: []corev1.ContainerImage{{SizeBytes: 1}}, VolumesInUse: []corev1.UniqueVolumeName{"v"}, VolumesAttached: []corev1.AttachedVolume{{Name: "v"}},
				},
			},
			&corev1.Node{
				ObjectMeta: lean(func(m *metav1.ObjectMeta) { m.Annotations = map[string]string{"rbd-rescue.io/paused": "true"} }),
				Spec:       corev1.NodeSpec{Taints: []corev1.Taint{{Key: "t"}}},
				Status: corev1.NodeStatus{
					Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: "True", Reason: "r", LastTransitionTime: metav1.Unix(4, 0)}},
					Addresses:  []corev1.NodeAddress{{Address: "10.0.0.1"}}, NodeInfo: corev1.NodeSystemInfo{BootID: "b", MachineID: "m", SystemUUID: "s"},
					VolumesInUse: []corev1.UniqueVolumeName{"v"},
				},
			},
		},
		"PersistentVolumeClaim": {
			&corev1.PersistentVolumeClaim{ObjectMeta: full(), Spec: corev1.PersistentVolumeClaimSpec{VolumeName: "v", StorageClassName: new("s")}, Status: corev1.PersistentVolumeClaimStatus{Phase: corev1.ClaimBound}},
			&corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Namespace: "n", Name: "x"}, Spec: corev1.PersistentVolumeClaimSpec{VolumeName: "v"}},
		},
		"VolumeAttachment": {
			&storagev1.VolumeAttachment{
				ObjectMeta: full(), Spec: storagev1.VolumeAttachmentSpec{Attacher: "a", NodeName: "n", Source: storagev1.VolumeAttachmentSource{PersistentVolumeName: new("v")}},
				Status: storagev1.VolumeAttachmentStatus{Attached: true, AttachmentMetadata: map[string]string{"a": "b"}},
			},
			&storagev1.VolumeAttachment{
				ObjectMeta: lean(func(m *metav1.ObjectMeta) { m.Finalizers = []string{"f"} }),
				Spec:       storagev1.VolumeAttachmentSpec{Attacher: "a", NodeName: "n", Source: storagev1.VolumeAttachmentSource{PersistentVolumeName: new("v")}},
				Status:     storagev1.VolumeAttachmentStatus{Attached: true},
			},
		},
		"PersistentVolume": {
			pv(corev1.PersistentVolumeSource{CSI: &corev1.CSIPersistentVolumeSource{
				Driver: "rbd.csi.ceph.com", VolumeHandle: "h", FSType: "ext4", VolumeAttributes: map[string]string{"clusterID": "c", "other": "text"},
			}}),
			&corev1.PersistentVolume{
				ObjectMeta: lean(func(m *metav1.ObjectMeta) {
					m.Annotations = map[string]string{"rbd-rescue.io/clients": "{}", "pv.kubernetes.io/migrated-to": "d"}
				}),
				Spec: corev1.PersistentVolumeSpec{
					AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteMany}, ClaimRef: &corev1.ObjectReference{Namespace: "n", Name: "c", UID: "u"},
					PersistentVolumeSource: corev1.PersistentVolumeSource{CSI: &corev1.CSIPersistentVolumeSource{
						Driver: "rbd.csi.ceph.com", VolumeHandle: "h", VolumeAttributes: map[string]string{"clusterID": "c"},
					}},
				},
				Status: corev1.PersistentVolumeStatus{Phase: corev1.VolumeReleased},
			},
		},
	} {
		if diff := cmp.Diff(test.want, cached(t, test.whole)); diff != "" {
			t.Errorf("%s: -want +got:\n%s", name, diff)
		}
	}
}

func pv(source corev1.PersistentVolumeSource, modes ...corev1.PersistentVolumeAccessMode) *corev1.PersistentVolume {
	if modes == nil {
		modes = []corev1.PersistentVolumeAccessMode{corev1.ReadWriteMany}
	}
	return &corev1.PersistentVolume{
		ObjectMeta: full(),
		Spec: corev1.PersistentVolumeSpec{
			StorageClassName: "s", AccessModes: modes, ClaimRef: &corev1.ObjectReference{Kind: "k", Namespace: "n", Name: "c", UID: "u", ResourceVersion: "5"},
			PersistentVolumeSource: source,
		},
		Status: corev1.PersistentVolumeStatus{Phase: corev1.VolumeReleased, Message: "m"},
	}
}

// cached is an object as the cache has it: stripped, packed and made anew.
func cached(t *testing.T, whole client.Object) client.Object {
	t.Helper()
	before := whole.DeepCopyObject()
	for object, options := range CacheOptions().ByObject {
		if reflect.TypeOf(object) != reflect.TypeOf(whole) {
			continue
		}
		stripped, err := options.Transform(whole)
		if err != nil {
			t.Fatal(err)
		}
		store := packed.NewStore(forms[reflect.TypeOf(whole)], nil)
		if err := store.Add(stripped); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(before, any(whole)); diff != "" {
			t.Errorf("%T: the whole object was changed:\n%s", object, diff)
		}
		for _, one := range store.List() {
			return one.(client.Object)
		}
	}
	t.Fatalf("the cache does not keep %T %s", whole, whole.GetName())
	return nil
}

// A field that is stripped to be read has to be packed, too.
func TestWhatIsLeftOfAnObjectIsPacked(t *testing.T) {
	t.Parallel()
	inTree, local := &corev1.PersistentVolume{}, &corev1.PersistentVolume{}
	fill(reflect.ValueOf(inTree).Elem())
	fill(reflect.ValueOf(local).Elem())
	inTree.Spec.CSI, local.Spec.CSI, local.Spec.RBD = nil, nil, nil
	objects := []client.Object{inTree, local}
	for kind := range forms {
		object := reflect.New(kind.Elem())
		fill(object.Elem())
		objects = append(objects, object.Interface().(client.Object))
	}
	for _, whole := range objects {
		if diff := cmp.Diff(Stripped(whole), cached(t, whole)); diff != "" {
			t.Errorf("%T: -stripped +packed:\n%s", whole, diff)
		}
	}
}

// fill gives each field of an object a value.
func fill(v reflect.Value) {
	switch v.Kind() { //nolint:exhaustive // the kinds that there are
	case reflect.String:
		v.SetString("x")
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int32, reflect.Int64:
		v.SetInt(7)
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(v.Elem())
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		fill(v.Index(0))
	case reflect.Map:
		if v.Type() == reflect.TypeFor[map[string]string]() {
			all := map[string]string{v1alpha1.LabelHeld: "l", v1alpha1.AnnotationHeldVolumes: "v", v1alpha1.AnnotationClients: "c", v1alpha1.AnnotationPaused: "p", volume.AnnotationMigrated: "m"}
			for _, name := range attributes {
				all[name] = "of " + name
			}
			v.Set(reflect.ValueOf(all))
		}
	case reflect.Struct:
		switch o := v.Addr().Interface().(type) {
		case *metav1.Time:
			*o = metav1.Unix(5, 0)
		case *corev1.NodeCondition:
			*o = corev1.NodeCondition{Type: corev1.NodeReady, Status: "True", Reason: "r", Message: "m", LastHeartbeatTime: metav1.Unix(3, 0), LastTransitionTime: metav1.Unix(4, 0)}
		default:
			for _, field := range v.Fields() {
				if field.CanSet() {
					fill(field)
				}
			}
		}
	}
}

// Nearly all pods of a cluster have no claim; no decision is about them.
func TestOnlyPodsWithAClaimAFlagOrAGateAreKept(t *testing.T) {
	t.Parallel()
	with := func(change func(*corev1.Pod)) *corev1.Pod {
		pod := &corev1.Pod{Spec: corev1.PodSpec{Volumes: []corev1.Volume{{VolumeSource: corev1.VolumeSource{NFS: &corev1.NFSVolumeSource{}}}}}}
		change(pod)
		return stripPod(pod)
	}
	for name, test := range map[string]struct {
		pod  *corev1.Pod
		want bool
	}{
		"without a claim": {with(func(pod *corev1.Pod) { pod.Labels = map[string]string{"app": "a"} }), false},
		"with a claim": {with(func(pod *corev1.Pod) {
			pod.Spec.Volumes = append(pod.Spec.Volumes, corev1.Volume{VolumeSource: corev1.VolumeSource{PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{}}})
		}), true},
		"with a claim of its own": {with(func(pod *corev1.Pod) {
			pod.Spec.Volumes = append(pod.Spec.Volumes, corev1.Volume{VolumeSource: corev1.VolumeSource{Ephemeral: &corev1.EphemeralVolumeSource{}}})
		}), true},
		"with the label":      {with(func(pod *corev1.Pod) { pod.Labels = map[string]string{"rbd-rescue.io/held": "true"} }), true},
		"with the annotation": {with(func(pod *corev1.Pod) { pod.Annotations = map[string]string{"rbd-rescue.io/held-volumes": "[]"} }), true},
		"with the gate": {with(func(pod *corev1.Pod) {
			pod.Spec.SchedulingGates = []corev1.PodSchedulingGate{{Name: "rbd-rescue.io/held"}}
		}), true},
	} {
		if got := Keeps(test.pod); got != test.want {
			t.Errorf("%s: kept: %v", name, got)
		}
	}
}

func TestAVolumeIsTheSameInTheCache(t *testing.T) {
	t.Parallel()
	csi := func(driver string, attributes map[string]string) corev1.PersistentVolumeSource {
		return corev1.PersistentVolumeSource{CSI: &corev1.CSIPersistentVolumeSource{Driver: driver, VolumeHandle: "h", VolumeAttributes: attributes}}
	}
	image := map[string]string{"clusterID": "c", "pool": "p", "radosNamespace": "r", "imageName": "i", "journalPool": "j"}
	for name, source := range map[string]corev1.PersistentVolumeSource{
		"of ceph-csi":          csi("rbd.csi.ceph.com", image),
		"of Rook, static":      csi("rook-ceph.rbd.csi.ceph.com", map[string]string{"clusterID": "c", "pool": "p", "staticVolume": "true"}),
		"in user space":        csi("rbd.csi.ceph.com", map[string]string{"clusterID": "c", "pool": "p", "imageName": "i", "mounter": "rbd-nbd"}),
		"maybe in user space":  csi("rbd.csi.ceph.com", map[string]string{"clusterID": "c", "pool": "p", "imageName": "i", "tryOtherMounters": "true"}),
		"in-tree, migrated":    {RBD: &corev1.RBDPersistentVolumeSource{CephMonitors: []string{"m"}, RBDPool: "p", RBDImage: "i", RadosUser: "u"}},
		"of an unknown form":   csi("rbd.csi.ceph.com", nil),
		"of another driver":    csi("ebs.csi.aws.com", image),
		"of the node":          {Local: &corev1.LocalVolumeSource{Path: "/p"}},
		"of the node's folder": {HostPath: &corev1.HostPathVolumeSource{Path: "/p"}},
		"on a network":         {NFS: &corev1.NFSVolumeSource{Server: "s"}},
	} {
		for _, modes := range [][]corev1.PersistentVolumeAccessMode{{corev1.ReadWriteOnce}, {corev1.ReadOnlyMany}, {corev1.ReadWriteMany}} {
			whole := pv(source, modes...)
			whole.Spec.PersistentVolumeReclaimPolicy = corev1.PersistentVolumeReclaimDelete
			stripped := cached(t, whole).(*corev1.PersistentVolume)
			type read struct {
				Volume                          volume.Volume
				Reclaim                         corev1.PersistentVolumeReclaimPolicy
				IsRBD, ReadOnly, Local, HostDir bool
			}
			reads := func(pv *corev1.PersistentVolume) read {
				r := read{Reclaim: pv.Spec.PersistentVolumeReclaimPolicy, IsRBD: volume.IsRBD(pv), ReadOnly: volume.ReadOnlyModes(pv), Local: pv.Spec.Local != nil, HostDir: pv.Spec.HostPath != nil}
				if r.IsRBD {
					r.Volume, _ = volume.Parse(pv)
				}
				return r
			}
			if diff := cmp.Diff(reads(whole), reads(stripped)); diff != "" {
				t.Errorf("%s, %v: -whole +cached:\n%s", name, modes, diff)
			}
		}
	}
}

func TestAPodsUnfencedStorageIsTheSameInTheCache(t *testing.T) {
	t.Parallel()
	sources := []corev1.VolumeSource{
		{EmptyDir: &corev1.EmptyDirVolumeSource{}}, {Secret: &corev1.SecretVolumeSource{}}, {NFS: &corev1.NFSVolumeSource{}},
		{CSI: &corev1.CSIVolumeSource{Driver: "d"}}, {Ephemeral: &corev1.EphemeralVolumeSource{}}, {},
	}
	for i := range sources {
		pod := &corev1.Pod{ObjectMeta: full()}
		for j, source := range slices.Concat(sources[i:], sources[:i]) {
			pod.Spec.Volumes = append(pod.Spec.Volumes, corev1.Volume{Name: string(rune('a' + j)), VolumeSource: source})
		}
		stripped := cached(t, pod).(*corev1.Pod)
		if got, want := volume.UnfencedStorage(stripped), volume.UnfencedStorage(pod); got != want {
			t.Errorf("unfenced storage %q, in the whole pod it is %q", got, want)
		}
		if diff := cmp.Diff(volume.Claims(pod, "n"), volume.Claims(stripped, "n")); diff != "" {
			t.Errorf("claims: -whole +cached:\n%s", diff)
		}
	}
}
