package ceph_test

import (
	"context"
	"errors"
	"slices"
	"syscall"
	"testing"
	"time"

	clocktesting "k8s.io/utils/clock/testing"

	"github.com/rbd-rescue/rbd-rescue/ceph"
	"github.com/rbd-rescue/rbd-rescue/ceph/cephtest"
)

func TestTheRightsToTheBlocklistAreTriedWithoutAnEffect(t *testing.T) {
	t.Parallel()
	refused := &ceph.CommandError{Command: "osd blocklist", Errno: syscall.EACCES}
	for name, test := range map[string]struct {
		old         bool
		errors      []error // of the calls in turn: remove, add
		word        string
		add, remove error
	}{
		"both":                               {word: "blocklist"},
		"both, by the old word":              {old: true, word: "blacklist"},
		"neither":                            {errors: []error{refused, refused}, word: "blocklist", add: syscall.EACCES, remove: syscall.EACCES},
		"to add alone, as ceph-csi has it":   {errors: []error{refused}, word: "blocklist", remove: syscall.EACCES},
		"not known, since Ceph did not tell": {errors: []error{ceph.ErrInDoubt, ceph.ErrInDoubt}, word: "blocklist", add: ceph.ErrInDoubt, remove: ceph.ErrInDoubt},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			fake := cephtest.New(clocktesting.NewFakeClock(time.Now()))
			fake.Old = test.old
			for _, err := range test.errors {
				fake.FailNext("osd blocklist", err)
			}
			before := fake.Epoch()
			rights := ceph.NewCluster(fake).TryBlocklist(context.Background())
			if rights.Word != test.word || !errors.Is(rights.Add, test.add) || !errors.Is(rights.Remove, test.remove) {
				t.Errorf("got %+v", rights)
			}
			if len(fake.Blocklist()) > 0 || fake.Epoch() != before {
				t.Errorf("left %v, and OSD map %d after %d", fake.Blocklist(), fake.Epoch(), before)
			}
		})
	}
}

func TestAClustersTimeIsThatOfItsLog(t *testing.T) {
	t.Parallel()
	clock := clocktesting.NewFakeClock(time.Date(2026, 11, 26, 3, 0, 0, 5000, time.UTC))
	fake := cephtest.New(clock)
	if told, err := ceph.NewCluster(fake).Time(context.Background()); err != nil || !told.Equal(clock.Now()) {
		t.Errorf("told %v (%v)", told, err)
	}
	fake.FailNext("log last", ceph.ErrInDoubt)
	if _, err := ceph.NewCluster(fake).Time(context.Background()); !errors.Is(err, ceph.ErrInDoubt) {
		t.Errorf("no answer is %v", err)
	}
	if !slices.Contains(fake.Calls(), "log last") {
		t.Error(fake.Calls())
	}
}
