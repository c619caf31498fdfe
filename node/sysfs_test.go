package node

import (
	"testing"
	"testing/synctest"
	"time"
)

func TestAnImageThatIsBeingUnmappedIsLookedAtAgain(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	before := len(m.survey().Mappings)
	synctest.Test(t, func(t *testing.T) {
		m.remove("sys/block/rbd0") // the kernel takes the block device away first
		time.AfterFunc(settlePause+settlePause/2, func() { m.remove("sys/bus/rbd/devices/0") })
		mappings, err := readMappings(t.Context(), m.path("sys"))
		if err != nil || len(mappings) != before-1 {
			t.Errorf("%+v, %v", mappings, err)
		}
	})
}
