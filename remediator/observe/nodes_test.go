package observe

import (
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	"github.com/rbd-rescue/rbd-rescue/remediator/packed"
)

func TestGoneNodesAreThoseThatRBDVolumesAreAttachedTo(t *testing.T) {
	t.Parallel()
	there := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "there"}}
	builder := fake.NewClientBuilder().WithObjects(there)
	nodes := packed.FormOf(func(*packed.Codec, *corev1.Node) {}, nil)
	attachments := packed.FormOf(func(c *packed.Codec, va *storagev1.VolumeAttachment) {
		packed.Word(c, &va.Spec.NodeName)
		packed.Word(c, &va.Spec.Attacher)
		packed.Optional(c, &va.Spec.Source.PersistentVolumeName, packed.Text[string])
		packed.Bool(c, &va.Status.Attached)
	}, nil)
	stores := &Stores{nodes: packed.NewStore(nodes, nil), attachments: packed.NewStore(attachments, attachmentIndexes)}
	if err := stores.nodes.Add(there); err != nil {
		t.Fatal(err)
	}
	for node, attacher := range map[string]string{
		"there": "rbd.csi.ceph.com", "gone": "rook-ceph.rbd.csi.ceph.com", "of-another-driver": "ebs.csi.aws.com", "released": "rbd.csi.ceph.com",
	} {
		va := &storagev1.VolumeAttachment{
			ObjectMeta: metav1.ObjectMeta{Name: node},
			Spec: storagev1.VolumeAttachmentSpec{
				NodeName: node, Attacher: attacher, Source: storagev1.VolumeAttachmentSource{PersistentVolumeName: new("pv-" + node)},
			},
			Status: storagev1.VolumeAttachmentStatus{Attached: node != "released"},
		}
		builder.WithObjects(va)
		if err := stores.attachments.Add(va); err != nil {
			t.Fatal(err)
		}
	}
	for from, o := range map[string]*Observer{"the reader": {Reader: builder.Build()}, "the stores": {Stores: stores}} {
		got, err := o.GoneNodes(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if want := []string{"gone"}; !slices.Equal(got, want) {
			t.Errorf("from %s: got %v, want %v", from, got, want)
		}
		if got, err = o.GoneBeside(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
		if want := []string{"gone", "there"}; !slices.Equal(got, want) {
			t.Errorf("from %s, when the API has no node any more: got %v, want %v", from, got, want)
		}
	}
}
