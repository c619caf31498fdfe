package plan

import (
	"errors"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"

	"github.com/rbd-rescue/rbd-rescue/api/v1alpha1"
	"github.com/rbd-rescue/rbd-rescue/ceph"
)

// movedTo: somebody has called node-a out of service, so that Kubernetes has moved the volume to node-b, where its pod runs.
func movedTo(node string) option {
	return func(s *Snapshot) {
		pod := podOn(node, "db-0")
		pod.Status.Phase = corev1.PodRunning
		s.Pods, s.Volumes[0].Users = nil, []*corev1.Pod{pod}
		s.Volumes[0].Attachments = []*storagev1.VolumeAttachment{attachment("pv-1", node)}
		s.OtherClients[ceph.MustParseAddress(otherClient)] = node
		watcherAt(otherClient)(s)
	}
}

// hostUnfit: a daemon of Ceph lives on the node, as in a hyperconverged cluster.
func hostUnfit(s *Snapshot) {
	s.changeCluster(func(c *Cluster) { c.Daemons[ceph.MustParseAddress(deadClient).IP] = ceph.Monitor })
}

func movedUnfenced(reason string) effect {
	return effect{
		Phase: v1alpha1.PhaseRefused, Fenced: reason, Volume: "Refused " + reason,
		Events: []string{"NodeFence MovedUnfenced", "PersistentVolumeClaim MovedUnfenced", "NodeFence FenceRefused", "Node FenceRefused"},
	}
}

func TestAVolumeThatKubernetesHasMovedIsCutOffFromTheBootThatHadIt(t *testing.T) {
	t.Parallel()
	checkNext(t, map[string]nextCase{
		"S1: with the whole host, since no pod is left to tell whether the record is whole": {
			snapshot: incident(movedTo("node-b")), want: fencingWith(deadClient + ", " + deadHost),
		},
		"S1: by the client on record, where the whole host cannot be": {
			snapshot: incident(movedTo("node-b"), hostUnfit), want: fencingWith(deadClient),
		},
		"S1: though the new node's client is not on record yet, and lies on that node's address": {
			snapshot: incident(movedTo("node-b"), hostUnfit, func(s *Snapshot) { clear(s.OtherClients) }), want: fencingWith(deadClient),
		},
		"S1: whose host is known by nothing but its own address": {
			snapshot: incident(movedTo("node-b"), noRecord, nodeAddressed), want: fencingWith(deadHost),
		},
		"S2: never by a client that is the new node's": {
			snapshot: incident(movedTo("node-b"), hostUnfit, func(s *Snapshot) { s.Volumes[0].Record.Clients = []string{otherClient} }),
			want:     movedUnfenced("HealthyClient"),
		},
		"and is said to be in danger where nothing tells the client": {
			snapshot: incident(movedTo("node-b"), noRecord), want: movedUnfenced("ClientUnknown"),
		},
		"and where a watcher may be of either node": {
			snapshot: incident(movedTo("node-b"), hostUnfit, watcherAt("10.9.9.9:0/1")), want: movedUnfenced("ForeignClient"),
		},
		"S6: and is left alone in a namespace that has not opted in": {
			snapshot: incident(movedTo("node-b"), func(s *Snapshot) { s.Policies["shop"] = v1alpha1.Policy{} }),
			want:     effect{Phase: v1alpha1.PhasePending, Fenced: "NoDemand"},
		},
		"S2: and not once the node is Ready again": {
			snapshot: incident(movedTo("node-b"), nodeReady("boot-1")),
			want:     effect{Phase: v1alpha1.PhaseCancelled, Fenced: "FenceCancelled", Events: []string{"NodeFence FenceCancelled", "Node FenceCancelled"}},
		},
		"S2: and not where its kubelet has let it go": {
			snapshot: incident(movedTo("node-b"), func(s *Snapshot) { s.Node.Status.VolumesInUse = nil }),
			want:     effect{Phase: v1alpha1.PhasePending, Fenced: "NoDemand"},
		},
	})
}

func TestAMovedVolumeOfANodeThatIsGoneIsNotForgotten(t *testing.T) {
	t.Parallel()
	s := incident(cephError(errors.New("timed out"))) // nothing could be done before it was moved
	status := Next(s).Status
	s = incident(movedTo("node-b"), hostUnfit, gone, func(s *Snapshot) {
		s.Fence.Status, s.Volumes[0].Record.Addresses = status, []string{"10.0.0.1"}
	})
	if got, want := steps(Next(s).Steps), fencingWith(deadClient).Steps[1:]; !slices.Equal(got, want) {
		t.Errorf("S1: %v, want %v", got, want)
	}
}

func TestTheWarningOfAMovedVolumeNamesWhatAPersonNeeds(t *testing.T) {
	t.Parallel()
	note := Next(incident(movedTo("node-b"), noRecord)).Events[0].Note
	for _, want := range []string{"claim shop/data (image rbd/img)", "moved it to node node-b", "Power node node-a off."} {
		if !strings.Contains(note, want) {
			t.Errorf("%q does not say %q", note, want)
		}
	}
}

func TestAMovedVolumeIsDetected(t *testing.T) {
	t.Parallel()
	s := incident(movedTo("node-b"))
	s.Fence = nil
	if v := Detect(s); v.Create == nil {
		t.Errorf("no NodeFence: %s", v.Why)
	}
}

// There is nothing to release, but volumesInUse to clear.
func TestAMovedVolumeRecoversAtOnce(t *testing.T) {
	t.Parallel()
	first := incident(movedTo("node-b"), hostUnfit)
	s := incident(movedTo("node-b"), hostUnfit, listedFor(entryTTL), barrierAt(10), taintedNode, func(s *Snapshot) { s.Fence.Status = Next(first).Status })
	d := Next(s)
	if got := effectOf(d); got.Volume != "Recovered" || !slices.Equal(got.Steps, []string{clear1}) {
		t.Errorf("%+v", got)
	}
}
