package rescuer

import (
	"testing"
	"testing/synctest"

	"github.com/rbd-rescue/rbd-rescue/api/v1alpha1"
)

// S9: where the placement group of one image's header is down, the other volumes of its cluster are proven and released.
func TestRescueGoesOnWhileAnImageHangs(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		before func(*world, *Controller)
		want   v1alpha1.FencedVolumePhase
	}{
		"from the start":               {func(*world, *Controller) {}, v1alpha1.VolumeHeld},
		"once its clients are settled": {(*world).look, v1alpha1.VolumeHeld},
		"once it is on its way":        {(*world).goOn, v1alpha1.VolumeReleasing},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) { // an image that hangs takes seconds
				w := newWorld(t, second()...)
				w.ceph.AddPool("slow", 8)
				c := w.controller()
				test.before(w, c)
				w.ceph.HangImage(image, true)
				w.optIn("web")
				w.goOn(c)
				hangs, other := w.volume("pv"), w.volume("pv2")
				if hangs.Phase != test.want || other.Phase != v1alpha1.VolumeReleasing {
					t.Errorf("pv, which hangs, is %s (%s), pv2 is %s (%s)", hangs.Phase, hangs.Message, other.Phase, other.Message)
				}
				w.ceph.HangImage(image, false)
				w.goOn(c)
				if got := w.volume("pv"); got.Phase != v1alpha1.VolumeReleasing {
					t.Errorf("pv is %s (%s) once it answers", got.Phase, got.Message)
				}
			})
		})
	}
}

func (w *world) goOn(c *Controller) {
	w.Helper()
	if err := w.settle(c); err != nil {
		w.Fatal(err)
	}
}
