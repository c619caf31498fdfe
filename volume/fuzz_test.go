package volume

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
)

// Whatever stands in a PersistentVolume: its image is told whole, or not at all.
func FuzzParse(f *testing.F) {
	f.Add("rbd.csi.ceph.com", "0001-0009-rook-ceph-0000000000000002-24d8", "rook-ceph", "replicapool", "", "csi-vol-24d8", "")
	f.Add("rook-ceph.rbd.csi.ceph.com", "static-image", "b912", "rbd", "ns", "", "true")
	f.Add("rbd.csi.ceph.com", "mig_mons-b7f67366bb43f32e07d8a261a7840da9_image-e0b45b52-7e09-47d3-8f1b-806995fa4412_706f6f6c5f7265706c6963615f706f6f6c", "b7f6", "", "", "", "true")
	f.Add("nfs.csi.k8s.io", "", "", "", "", "", "")
	f.Fuzz(func(t *testing.T, driver, handle, clusterID, pool, namespace, image, static string) {
		pv := &corev1.PersistentVolume{Spec: corev1.PersistentVolumeSpec{PersistentVolumeSource: corev1.PersistentVolumeSource{
			CSI: &corev1.CSIPersistentVolumeSource{Driver: driver, VolumeHandle: handle, VolumeAttributes: map[string]string{
				"clusterID": clusterID, "pool": pool, "radosNamespace": namespace, "imageName": image, "staticVolume": static,
			}},
		}}}
		if IsRBD(pv) != strings.HasSuffix("."+driver, "."+driverSuffix) {
			t.Errorf("driver %q: IsRBD is %v", driver, IsRBD(pv))
		}
		if !IsRBD(pv) {
			return
		}
		v, err := Parse(pv)
		if err == nil && (v.ClusterID == "" || v.Pool == "" || v.Image == "") {
			t.Errorf("half an image: %+v", v)
		}
		if v.UniqueName != "kubernetes.io/csi/"+driver+"^"+handle {
			t.Errorf("unique name %q", v.UniqueName)
		}
	})
}
