package node

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/rbd-rescue/rbd-rescue/api/v1alpha1"
)

func TestS3OnlyAnotherClientIsCertainlyNotFenced(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		mapped, fenced string
		want           bool
	}{
		"the client":                         {"10.0.0.1:0/42", "10.0.0.1:0/42", true},
		"in another form":                    {"[::ffff:10.0.0.1]:0/42", "v1:10.0.0.1:0/42", true},
		"known to Ceph by another address":   {"192.168.0.5:0/42", "10.0.0.1:0/42", true},
		"a later client":                     {"10.0.0.1:0/43", "10.0.0.1:0/42", false},
		"any, where the host is fenced":      {"10.0.0.1:0/43", "10.0.0.1:0/0", true},
		"one whose address means nothing":    {"", "10.0.0.1:0/42", true},
		"one, where the entry means nothing": {"10.0.0.1:0/43", "?", true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := Fenced(Mapping{Client: test.mapped}, []v1alpha1.FencedClient{{Address: test.fenced}}); got != test.want {
				t.Errorf("fenced: %v", got)
			}
		})
	}
}

func TestOnlyWhatHasMovedAwayIsCleared(t *testing.T) {
	t.Parallel()
	s := Survey{BootID: bootID, Mappings: []Mapping{
		{ID: 0, Device: "/dev/rbd0", Pool: "rbd", Image: "moved", Client: "10.0.0.1:0/42"},
		{ID: 1, Device: "/dev/rbd1", Pool: "rbd", Image: "neighbour", Client: "10.0.0.1:0/42", Pods: []Pod{{UID: "u", Namespace: "web", Name: "files-0"}}},
		{ID: 2, Device: "/dev/rbd2", Pool: "rbd", Image: "releasing", Client: "10.0.0.1:0/42"},
		{ID: 3, Device: "/dev/rbd3", Pool: "rbd", Image: "moved", Client: "10.0.0.1:0/43"},
	}, Processes: []Process{{9, "rbd-nbd"}}}
	nf := &v1alpha1.NodeFence{Status: v1alpha1.NodeFenceStatus{
		Clients: []v1alpha1.FencedClient{{Address: "10.0.0.1:0/42"}},
		Volumes: []v1alpha1.FencedVolume{
			{Image: "rbd/moved", Phase: v1alpha1.VolumeRecovered}, {Image: "rbd/releasing", Phase: v1alpha1.VolumeReleasing},
		},
	}}
	if got := MovedAway(s, nf); len(got) != 1 || got[0].ID != 0 {
		t.Errorf("moved away: %v", got)
	}
	want := v1alpha1.Cleared{BootID: bootID, Clients: []string{"10.0.0.1:0/42"}, Left: []v1alpha1.LeftMapping{
		{Device: "/dev/rbd0", Image: "rbd/moved", Client: "10.0.0.1:0/42"},
		{Device: "/dev/rbd1", Image: "rbd/neighbour", Client: "10.0.0.1:0/42", Pods: []string{"pod web/files-0"}},
		{Device: "/dev/rbd2", Image: "rbd/releasing", Client: "10.0.0.1:0/42"},
		{Device: "process 9 (rbd-nbd)"},
	}}
	if diff := cmp.Diff(want, Cleared(s, nf)); diff != "" {
		t.Error(diff)
	}
}

func TestS3NothingIsSaidOfAWholeHostBeforeItsFenceIsProven(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		client v1alpha1.FencedClient
		want   []string
	}{
		"a host that may still map":       {v1alpha1.FencedClient{Address: "10.0.0.1:0/0"}, nil},
		"a host that cannot map any more": {v1alpha1.FencedClient{Address: "10.0.0.1:0/0", Epoch: 7}, []string{"10.0.0.1:0/0"}},
		"a client":                        {v1alpha1.FencedClient{Address: "10.0.0.1:0/42"}, []string{"10.0.0.1:0/42"}},
	} {
		nf := &v1alpha1.NodeFence{Status: v1alpha1.NodeFenceStatus{Clients: []v1alpha1.FencedClient{test.client}}}
		if diff := cmp.Diff(test.want, Cleared(Survey{BootID: bootID}, nf).Clients); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}
