package observe

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	"github.com/rbd-rescue/rbd-rescue/remediator/plan"
)

// S6: a claim of which nothing is known may be of any storage.
func TestOnlyStorageThatIsKnownToBeFencedCountsAsFenced(t *testing.T) {
	t.Parallel()
	builder := fake.NewClientBuilder()
	claim := func(name, volume string) {
		builder.WithObjects(&corev1.PersistentVolumeClaim{
			ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: name}, Spec: corev1.PersistentVolumeClaimSpec{VolumeName: volume},
		})
	}
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "db-0"}}
	s := plan.Snapshot{Pods: []*corev1.Pod{pod}, UnfencedClaims: map[types.NamespacedName]string{}}
	fenced := map[string]bool{"rbd": true, "local": true, "nfs": false, "without-volume": false, "unbound": false, "unknown": false}
	for name := range fenced {
		pod.Spec.Volumes = append(pod.Spec.Volumes, corev1.Volume{Name: name, VolumeSource: corev1.VolumeSource{
			PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: name},
		}})
	}
	for _, name := range []string{"rbd", "local", "nfs", "without-volume"} {
		claim(name, "pv-"+name)
	}
	claim("unbound", "")
	for name, source := range map[string]corev1.PersistentVolumeSource{
		"rbd":   {CSI: &corev1.CSIPersistentVolumeSource{Driver: "rbd.csi.ceph.com"}},
		"local": {HostPath: &corev1.HostPathVolumeSource{Path: "/srv"}},
		"nfs":   {NFS: &corev1.NFSVolumeSource{Server: "nfs"}},
	} {
		builder.WithObjects(&corev1.PersistentVolume{
			ObjectMeta: metav1.ObjectMeta{Name: "pv-" + name}, Spec: corev1.PersistentVolumeSpec{PersistentVolumeSource: source},
		})
	}
	o := &Observer{Reader: builder.Build()}
	if err := o.unfencedClaims(t.Context(), "node-a", &s); err != nil {
		t.Fatal(err)
	}
	for name, want := range fenced {
		if storage, unfenced := s.UnfencedClaims[types.NamespacedName{Namespace: "shop", Name: name}]; unfenced == want {
			t.Errorf("claim %s passes for fenced: %v (%s)", name, !unfenced, storage)
		}
	}
}
