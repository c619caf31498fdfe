package observe

import (
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
)

func TestGoneNodesAreThoseThatRBDVolumesAreAttachedTo(t *testing.T) {
	t.Parallel()
	builder := fake.NewClientBuilder().WithObjects(&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "there"}})
	for node, attacher := range map[string]string{
		"there": "rbd.csi.ceph.com", "gone": "rook-ceph.rbd.csi.ceph.com", "of-another-driver": "ebs.csi.aws.com",
	} {
		builder.WithObjects(&storagev1.VolumeAttachment{
			ObjectMeta: metav1.ObjectMeta{Name: node},
			Spec: storagev1.VolumeAttachmentSpec{
				NodeName: node, Attacher: attacher, Source: storagev1.VolumeAttachmentSource{PersistentVolumeName: new("pv-" + node)},
			},
			Status: storagev1.VolumeAttachmentStatus{Attached: true},
		})
	}
	o := &Observer{Reader: builder.Build()}
	got, err := o.GoneNodes(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if want := []string{"gone"}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}
