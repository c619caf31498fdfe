package webhook

import (
	"errors"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rbd-rescue/rbd-rescue/volume"
)

func TestWhichChangesOfVolumesBringTheirNodesBack(t *testing.T) {
	t.Parallel()
	bound := persistentVolume("pv-0", rbdDriver, "shop", "data-0")
	unbound := persistentVolume("pv-0", rbdDriver, "", "")
	released := persistentVolume("pv-0", rbdDriver, "shop", "data-0")
	released.Status.Phase = corev1.VolumeReleased
	detached := attachment("pv-0", "node-a")
	detached.Status.Attached = false
	for name, test := range map[string]struct {
		put, remove client.Object
		want        []string
	}{
		"an attachment":                                {put: attachment("pv-9", "node-c"), want: []string{"node-c"}},
		"not one that is known":                        {put: attachment("pv-0", "node-a")},
		"one that is detached":                         {put: detached, want: []string{"node-a"}},
		"not one that is not attached yet":             {put: func() client.Object { va := attachment("pv-9", "node-a"); va.Status.Attached = false; return va }()},
		"one that is deleted":                          {remove: attachment("pv-0", "node-b"), want: []string{"node-b"}},
		"not one that was not known":                   {remove: attachment("pv-9", "node-b")},
		"a volume that is bound, of all its nodes":     {put: bound, want: []string{"node-a", "node-b"}},
		"a volume that is released":                    {put: released, want: []string{"node-a", "node-b"}},
		"not one in which nothing has changed":         {put: unbound},
		"not the record that is written on it":         {put: recordedOn(persistentVolume("pv-0", rbdDriver, "", ""), "node-a")},
		"not a volume that is attached to no node":     {put: persistentVolume("pv-7", rbdDriver, "shop", "data-7")},
		"a volume that comes after its attachment":     {put: persistentVolume("pv-1", rbdDriver, "shop", "data-1"), want: []string{"node-b"}},
		"a volume that is deleted":                     {remove: bound, want: []string{"node-a", "node-b"}},
		"not a volume of another driver that comes":    {put: persistentVolume("pv-1", "ebs.csi.aws.com", "shop", "data-1")},
		"not a volume of another driver that is gone":  {remove: persistentVolume("pv-1", "ebs.csi.aws.com", "shop", "data-1")},
		"not an attachment that has no volume by name": {put: &storagev1.VolumeAttachment{Spec: storagev1.VolumeAttachmentSpec{NodeName: "node-a"}, Status: storagev1.VolumeAttachmentStatus{Attached: true}}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			k := keep(t, cluster(attachment("pv-0", "node-a"), attachment("pv-0", "node-b"), attachment("pv-1", "node-b"), unbound))
			vs, as := k.stores()
			var err error
			switch object := slices.DeleteFunc([]client.Object{test.put, test.remove}, func(o client.Object) bool { return o == nil })[0].(type) {
			case *storagev1.VolumeAttachment:
				if test.put != nil {
					err = as.Update(object)
				} else {
					err = as.Delete(object)
				}
			case *corev1.PersistentVolume:
				if test.put != nil {
					err = vs.Update(object)
				} else {
					err = vs.Delete(object)
				}
			}
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, k.changed); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

// What a reflector collects at its start has gone through the transformers; what comes by a plain list has not.
func TestANewStartForgetsWhatIsGone(t *testing.T) {
	t.Parallel()
	for name, transformed := range map[string]bool{"by a plain list": false, "by a stream": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			k := keep(t, cluster(attachment("pv-0", "node-a"), persistentVolume("pv-0", rbdDriver, "shop", "data-0"),
				recordedOn(persistentVolume("pv-5", rbdDriver, "shop", "data-5"), "node-a")))
			c := cluster(failedNode("node-b"), attachment("pv-1", "node-b"), persistentVolume("pv-1", rbdDriver, "shop", "data-1"),
				persistentVolume("pv-2", "ebs.csi.aws.com", "shop", "data-2"))
			k.Reader = c
			attachments, pvs := listed(t, c)
			vs, as := k.stores()
			if transformed {
				for i := range attachments {
					attachments[i], _ = as.Transformer()(attachments[i])
				}
				for i := range pvs {
					pvs[i], _ = vs.Transformer()(pvs[i])
				}
			}
			if err := as.Replace(attachments, ""); err != nil {
				t.Fatal(err)
			}
			if want := []string{"node-a", "node-b"}; !slices.Equal(k.changed, want) {
				t.Errorf("nodes %v may have changed, want %v", k.changed, want)
			}
			if err := vs.Replace(pvs, ""); err != nil {
				t.Fatal(err)
			}
			wantHeld(t, filledIndex(t, k), volume.HeldClaims{claim("shop", "data-1"): {heldVolume("shop/data-1", "pv-1", "node-b")}})
			for _, gone := range []string{"pv-0", "pv-2"} {
				if err := k.Get(t.Context(), client.ObjectKey{Name: gone}, &corev1.PersistentVolume{}); !apierrors.IsNotFound(err) {
					t.Errorf("%s: %v, want it not found", gone, err)
				}
			}
			if len(k.recordedOn("node-a")) > 0 {
				t.Error("an old record is left")
			}
		})
	}
}

func TestVolumesOfOneUniqueNameAreAllFound(t *testing.T) {
	t.Parallel()
	alike := func(name string) *corev1.PersistentVolume {
		pv := persistentVolume(name, rbdDriver, "shop", name)
		pv.Spec.CSI.VolumeHandle = "static"
		return pv
	}
	k := keep(t, cluster(alike("pv-0"), alike("pv-1"), alike("pv-2")))
	vs, _ := k.stores()
	left := []string{"pv-0", "pv-1", "pv-2"}
	for _, gone := range []string{"pv-1", "pv-2", "pv-0"} {
		var got []string
		for _, pv := range k.called("kubernetes.io/csi/" + rbdDriver + "^static") {
			got = append(got, pv.Name)
		}
		slices.Sort(got)
		if !slices.Equal(got, left) {
			t.Errorf("found %v, want %v", got, left)
		}
		if err := errors.Join(vs.Update(alike(gone)), vs.Delete(alike(gone))); err != nil {
			t.Fatal(err)
		}
		left = slices.DeleteFunc(left, func(name string) bool { return name == gone })
	}
	if got := k.called("kubernetes.io/csi/" + rbdDriver + "^static"); len(got) > 0 {
		t.Errorf("found %v, which are gone", got)
	}
}

func TestWhatIsNotKeptCannotBeListed(t *testing.T) {
	t.Parallel()
	k := keep(t, cluster(attachment("pv-0", "node-a"), persistentVolume("pv-0", rbdDriver, "shop", "data-0")))
	for _, list := range []client.ObjectList{&storagev1.VolumeAttachmentList{}, &corev1.PersistentVolumeList{}} {
		if err := k.List(t.Context(), list); err == nil {
			t.Errorf("%T: all of them were listed", list)
		}
	}
}
