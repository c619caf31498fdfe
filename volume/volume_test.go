package volume

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

func csiVolume(driver, handle string, attributes map[string]string, modes ...corev1.PersistentVolumeAccessMode) *corev1.PersistentVolume {
	return &corev1.PersistentVolume{
		ObjectMeta: metav1.ObjectMeta{Name: "pv"},
		Spec: corev1.PersistentVolumeSpec{
			AccessModes: modes,
			ClaimRef:    &corev1.ObjectReference{Namespace: "shop", Name: "data", UID: "claim"},
			PersistentVolumeSource: corev1.PersistentVolumeSource{CSI: &corev1.CSIPersistentVolumeSource{
				Driver: driver, VolumeHandle: handle, VolumeAttributes: attributes,
			}},
		},
	}
}

// monitorsSum is `printf 10.0.0.1:6789,10.0.0.2:6789 | md5sum`.
const monitorsSum = "7302cda58640a2caf560f9ff34394c6d"

func inTree(annotations map[string]string, modes ...corev1.PersistentVolumeAccessMode) *corev1.PersistentVolume {
	pv := csiVolume("", "", nil, modes...)
	pv.Annotations = annotations
	pv.Spec.PersistentVolumeSource = corev1.PersistentVolumeSource{RBD: &corev1.RBDPersistentVolumeSource{
		CephMonitors: []string{"10.0.0.1:6789", "10.0.0.2:6789"}, RBDImage: "csi-vol-1", RBDPool: "rbd",
	}}
	return pv
}

func TestParse(t *testing.T) {
	t.Parallel()
	common := Volume{
		Name: "pv", Claim: types.NamespacedName{Namespace: "shop", Name: "data"}, ClaimUID: "claim",
		ClusterID: "c1", Pool: "rbd", Image: "csi-vol-1", Exclusive: true,
	}
	with := func(change func(*Volume)) Volume {
		v := common
		change(&v)
		return v
	}
	for name, test := range map[string]struct {
		pv      *corev1.PersistentVolume
		want    Volume
		problem string
	}{
		"provisioned by ceph-csi": {
			pv:   csiVolume("rbd.csi.ceph.com", "0001-h", map[string]string{"clusterID": "c1", "pool": "rbd", "imageName": "csi-vol-1"}, corev1.ReadWriteOnce),
			want: with(func(v *Volume) { v.UniqueName = "kubernetes.io/csi/rbd.csi.ceph.com^0001-h" }),
		},
		"provisioned by Rook, in a RADOS namespace": {
			pv: csiVolume("rook-ceph.rbd.csi.ceph.com", "0001-h", map[string]string{
				"clusterID": "c1", "pool": "rbd", "imageName": "csi-vol-1", "radosNamespace": "tenant",
			}, corev1.ReadWriteOncePod),
			want: with(func(v *Volume) {
				v.UniqueName, v.Namespace = "kubernetes.io/csi/rook-ceph.rbd.csi.ceph.com^0001-h", "tenant"
			}),
		},
		"static: the handle is the image": {
			pv:   csiVolume("rbd.csi.ceph.com", "csi-vol-1", map[string]string{"clusterID": "c1", "pool": "rbd", "staticVolume": "true"}, corev1.ReadWriteOnce),
			want: with(func(v *Volume) { v.UniqueName = "kubernetes.io/csi/rbd.csi.ceph.com^csi-vol-1" }),
		},
		"in-tree": {
			pv: inTree(nil, corev1.ReadWriteOnce),
			want: with(func(v *Volume) {
				v.ClusterID, v.UniqueName = monitorsSum, "kubernetes.io/rbd/rbd:csi-vol-1"
			}),
		},
		"in-tree, migrated to ceph-csi": {
			pv: inTree(map[string]string{"pv.kubernetes.io/migrated-to": "rbd.csi.ceph.com"}, corev1.ReadWriteOnce),
			want: with(func(v *Volume) {
				v.ClusterID, v.UniqueName = monitorsSum, "kubernetes.io/csi/rbd.csi.ceph.com^mig_mons-"+monitorsSum+"_image-csi-vol-1_726264"
			}),
		},
		"for many nodes": {
			pv: csiVolume("rbd.csi.ceph.com", "h", map[string]string{"clusterID": "c1", "pool": "rbd", "imageName": "csi-vol-1"}, corev1.ReadWriteOnce, corev1.ReadWriteMany),
			want: with(func(v *Volume) {
				v.UniqueName, v.Exclusive, v.Shared = "kubernetes.io/csi/rbd.csi.ceph.com^h", false, true
			}),
		},
		"for many readers": {
			pv:   csiVolume("rbd.csi.ceph.com", "h", map[string]string{"clusterID": "c1", "pool": "rbd", "imageName": "csi-vol-1"}, corev1.ReadWriteOnce, corev1.ReadOnlyMany),
			want: with(func(v *Volume) { v.UniqueName, v.Exclusive = "kubernetes.io/csi/rbd.csi.ceph.com^h", false }),
		},
		"without an image name": {
			pv:      csiVolume("rbd.csi.ceph.com", "h", map[string]string{"clusterID": "c1", "pool": "rbd"}, corev1.ReadWriteOnce),
			want:    with(func(v *Volume) { v.UniqueName, v.Image = "kubernetes.io/csi/rbd.csi.ceph.com^h", "" }),
			problem: "volumeAttributes.imageName",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := Parse(test.pv)
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if (err == nil) != (test.problem == "") || (err != nil && !strings.Contains(err.Error(), test.problem)) {
				t.Errorf("error %v, want %q in it", err, test.problem)
			}
		})
	}
}

func TestIsRBD(t *testing.T) {
	t.Parallel()
	for driver, want := range map[string]bool{
		"rbd.csi.ceph.com": true, "rook-ceph.rbd.csi.ceph.com": true, "cephfs.csi.ceph.com": false, "evilrbd.csi.ceph.com": false,
	} {
		if got := IsRBD(csiVolume(driver, "h", nil)); got != want {
			t.Errorf("%s: %v", driver, got)
		}
	}
	if IsRBD(&corev1.PersistentVolume{}) {
		t.Error("a volume that is no CSI volume is RBD's")
	}
}

func TestClaims(t *testing.T) {
	t.Parallel()
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "web"}, Spec: corev1.PodSpec{Volumes: []corev1.Volume{
		{Name: "data", VolumeSource: corev1.VolumeSource{PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: "data"}}},
		{Name: "tmp", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}},
		{Name: "scratch", VolumeSource: corev1.VolumeSource{Ephemeral: &corev1.EphemeralVolumeSource{}}},
	}}}
	want := []types.NamespacedName{{Namespace: "shop", Name: "data"}, {Namespace: "shop", Name: "web-scratch"}}
	if diff := cmp.Diff(want, Claims(pod, "shop")); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	pod.Name = "" // generateName, in admission
	if got := Claims(pod, "shop"); len(got) != 1 {
		t.Errorf("a pod without a name uses %v", got)
	}
	if name := UnfencedStorage(pod); name != "" {
		t.Errorf("%s is taken for storage that cannot be fenced", name)
	}
	pod.Spec.Volumes = append(pod.Spec.Volumes, corev1.Volume{Name: "share", VolumeSource: corev1.VolumeSource{NFS: &corev1.NFSVolumeSource{}}})
	if name := UnfencedStorage(pod); name != "share" {
		t.Errorf("NFS is not found: %q", name)
	}
}

func TestFailed(t *testing.T) {
	t.Parallel()
	for status, want := range map[corev1.ConditionStatus]struct{ failed, ready bool }{
		corev1.ConditionUnknown: {true, false}, corev1.ConditionFalse: {false, false}, corev1.ConditionTrue: {false, true}, "": {false, false},
	} {
		node := &corev1.Node{}
		if status != "" {
			node.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeMemoryPressure, Status: corev1.ConditionUnknown}, {Type: corev1.NodeReady, Status: status}}
		}
		if _, failed := Failed(node); failed != want.failed || Ready(node) != want.ready {
			t.Errorf("Ready=%q: failed %v, ready %v", status, failed, Ready(node))
		}
	}
}

func TestAttachmentIsRequiredUnlessTheDriverSaysOtherwise(t *testing.T) {
	t.Parallel()
	for required, want := range map[*bool]bool{nil: true, new(true): true, new(false): false} {
		if got := AttachmentRequired(&storagev1.CSIDriver{Spec: storagev1.CSIDriverSpec{AttachRequired: required}}); got != want {
			t.Errorf("attachRequired %v: %v", required, got)
		}
	}
}

// ceph-csi starts rbd-nbd processes again by itself.
func TestParseTellsWhereAClientIsAProcess(t *testing.T) {
	t.Parallel()
	for attribute, want := range map[string]bool{"mounter=rbd-nbd": true, "tryOtherMounters=true": true, "mounter=rbd": false, "mapOptions=krbd:rxbounce": false} {
		name, value, _ := strings.Cut(attribute, "=")
		v, err := Parse(csiVolume("rbd.csi.ceph.com", "h", map[string]string{"clusterID": "c1", "pool": "rbd", "imageName": "i", name: value}, corev1.ReadWriteOnce))
		if err != nil || v.Userspace != want {
			t.Errorf("%s: %v, %v", attribute, v.Userspace, err)
		}
	}
}
