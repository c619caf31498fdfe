package plan

import (
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/rbd-rescue/rbd-rescue/api/v1alpha1"
	"github.com/rbd-rescue/rbd-rescue/ceph"
)

// newMapping is the client through which node-a has mapped the image anew.
const newMapping = "10.0.0.1:0/43"

// recovered follows released: the volume runs on node-b.
func recovered(s *Snapshot) {
	released(s)
	s.Fence.Status = Next(*s).Status
	pod := podOn("node-b", "db-0")
	pod.Status.Phase = corev1.PodRunning
	s.Volumes[0].Users = []*corev1.Pod{pod}
	s.Volumes[0].Attachments = []*storagev1.VolumeAttachment{attachment("pv-1", "node-b")}
	s.Fence.Status = Next(*s).Status
}

// mappedAnew: node-a came back with the same boot, got the volume again for another pod, and has failed again.
func mappedAnew(s *Snapshot) {
	s.Now = now.Add(time.Hour)
	pod := podOn("node-a", "db-1")
	pod.CreationTimestamp = metav1.NewTime(now.Add(30 * time.Minute))
	pod.DeletionTimestamp = new(metav1.NewTime(s.Now.Add(-time.Minute)))
	s.Pods, s.Volumes[0].Users = []*corev1.Pod{pod}, []*corev1.Pod{pod}
	s.Volumes[0].Attachments = []*storagev1.VolumeAttachment{attachment("pv-1", "node-a")}
	s.Volumes[0].Record = recordOf(pod)
	s.Volumes[0].Record.Clients = append(s.Volumes[0].Record.Clients, newMapping)
}

func listedToo(address string) option {
	return func(s *Snapshot) {
		s.Clusters["c1"].Map.Blocklist[ceph.MustParseAddress(address)] = s.Now.Add(entryTTL)
	}
}

const fenceAnew = "add 10.0.0.1:0/43 to the blocklist of cluster c1 for 87600h0m0s"

func TestNextOfAVolumeThatTheFencedBootHasAgain(t *testing.T) {
	t.Parallel()
	anew := effect{Phase: v1alpha1.PhaseRecovered, Fenced: "FenceUnproven", Volume: "Held Waiting", Steps: []string{fenceAnew}}
	releasing := func(s *Snapshot) { proven(s); s.Fence.Status = Next(*s).Status }
	checkNext(t, map[string]nextCase{
		"S1: fences its new client, and releases nothing before": {snapshot: incident(recovered, mappedAnew), want: anew},
		"releases it again once that is proven": {
			snapshot: incident(recovered, mappedAnew, func(s *Snapshot) { s.Fence.Status = Next(*s).Status }, listedToo(newMapping)),
			want: effect{
				Phase: v1alpha1.PhaseReleasing, Fenced: "NodeFenced", Volume: "Releasing", Steps: []string{"force-delete pod shop/db-1"},
			},
		},
		"S1: fences the whole host, when nobody has seen its new client": {
			snapshot: incident(recovered, mappedAnew, func(s *Snapshot) { s.Volumes[0].Record = recordOf() }),
			want: effect{
				Phase: v1alpha1.PhaseRecovered, Fenced: "FenceUnproven", Volume: "Held Waiting",
				Steps: []string{"add 10.0.0.1:0/0 to the blocklist of cluster c1 for 87600h0m0s"},
			},
		},
		"S1: fences the whole host, when nothing but an attachment tells": {
			snapshot: incident(recovered, mappedAnew, func(s *Snapshot) {
				s.Volumes[0].Record, s.Pods, s.Volumes[0].Users = recordOf(), nil, []*corev1.Pod{podOn("", "db-2")}
			}),
			want: effect{
				Phase: v1alpha1.PhaseRecovered, Fenced: "FenceUnproven", Volume: "Held Waiting",
				Steps: []string{"add 10.0.0.1:0/0 to the blocklist of cluster c1 for 87600h0m0s"},
			},
		},
		"waits while its pod there is not to go": {
			snapshot: incident(recovered, mappedAnew, func(s *Snapshot) { s.Pods[0].DeletionTimestamp = nil }),
			want:     effect{Phase: v1alpha1.PhaseRecovered, Fenced: "NodeFenced", Volume: "Held NoDemand"},
		},
		"S1: stops a release when a new pod has come to the node meanwhile": {
			snapshot: incident(releasing, mappedAnew),
			want:     effect{Phase: v1alpha1.PhaseReleasing, Fenced: "FenceUnproven", Volume: "Held Waiting", Steps: []string{fenceAnew}},
		},
		"S1: stops a release when the node has got a new attachment meanwhile, though its pod is gone": {
			snapshot: incident(releasing, mappedAnew, func(s *Snapshot) {
				s.Volumes[0].Attachments[0].UID = "another"
				s.Volumes[0].Record, s.Pods, s.Volumes[0].Users = recordOf(), nil, []*corev1.Pod{podOn("", "db-2")}
			}),
			want: effect{
				Phase: v1alpha1.PhaseReleasing, Fenced: "FenceUnproven", Volume: "Held Waiting",
				Steps: []string{"add 10.0.0.1:0/0 to the blocklist of cluster c1 for 87600h0m0s"},
			},
		},
		"S1: leaves a new pod alone while the node answers": {
			snapshot: incident(releasing, mappedAnew, nodeReady("boot-1"), func(s *Snapshot) {
				s.Pods[0].DeletionTimestamp.Time = s.Now.Add(-s.Settings.StuckAfter - time.Second)
			}),
			want: effect{
				Phase: v1alpha1.PhaseReleasing, Fenced: "NodeFenced", Volume: "Releasing",
				Events: []string{"NodeFence NodeStillFenced", "Node NodeStillFenced"},
			},
		},
		"leaves it alone while the node is back": {
			snapshot: incident(recovered, mappedAnew, nodeReady("boot-1")),
			want: effect{
				Phase: v1alpha1.PhaseRecovered, Fenced: "NodeFenced", Volume: "Recovered",
				Events: []string{"NodeFence NodeStillFenced", "Node NodeStillFenced"},
			},
		},
		"S2: refuses the watcher of the node that has it now, when an old cache shows the old attachment": {
			snapshot: incident(recovered, watcherAt(otherClient), func(s *Snapshot) {
				s.Volumes[0].Attachments = append(s.Volumes[0].Attachments, attachment("pv-1", "node-a"))
				s.Volumes[0].Users = []*corev1.Pod{podOn("", "db-2")}
			}),
			want: effect{
				Phase: v1alpha1.PhaseRecovered, Fenced: "NodeFenced", Volume: "Refused ForeignClient",
				Events: []string{"NodeFence VolumeRefused", "PersistentVolumeClaim VolumeRefused"},
			},
		},
	})
}

// S1: a node that has come back may have had another pod with the volume, by the same attachment, which is gone by now. Its client
// is nobody's that is known.
func TestAReturnThatLeftNoPodIsNotTakenForNone(t *testing.T) {
	t.Parallel()
	const detach = "delete VolumeAttachment csi-pv-1-node-a"
	const fenceHost = "add 10.0.0.1:0/0 to the blocklist of cluster c1 for 87600h0m0s"
	turned := func(s *Snapshot) {
		s.Node.Status.Conditions[0].LastTransitionTime = metav1.NewTime(now.Add(10 * time.Second))
	}
	for name, test := range map[string]struct {
		since option
		want  string
	}{
		"silent all the time":                            {func(*Snapshot) {}, detach},
		"it was Ready meanwhile":                         {turned, fenceHost},
		"its Node object is gone":                        {gone, fenceHost},
		"a person's fence, and it is Ready all the time": {func(s *Snapshot) { s.Fence.Spec.Automatic = false; nodeReady("boot-1")(s) }, fenceHost},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := incident(released, func(s *Snapshot) {
				s.Volumes[0].Attachments = []*storagev1.VolumeAttachment{attachment("pv-1", "node-a")}
				s.Volumes[0].Users = []*corev1.Pod{podOn("", "db-2")}
			}, test.since)
			for _, after := range []time.Duration{time.Second, 2 * time.Minute} {
				s.Now = now.Add(after)
				d := Next(s)
				got := steps(d.Steps)
				if slices.Contains(got, detach) && test.want != detach {
					t.Fatalf("after %s: %v", after, got)
				}
				if after > attachmentPatience && !slices.Contains(got, test.want) {
					t.Errorf("after %s: %v, want %s (%s)", after, got, test.want, d.Status.Message)
				}
				s.Fence.Status = d.Status
			}
		})
	}
}
