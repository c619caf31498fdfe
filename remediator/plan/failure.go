package plan

import (
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/rbd-rescue/rbd-rescue/volume"
)

// failureOf tells whether the node has failed, and why:
//   - its Node object is gone while volumes are attached to it;
//   - nothing is heard of it, or somebody tainted it as out of service: volume.Failed;
//   - its kubelet answers that it is not Ready, and a pod that uses a held volume is stuck: it is Terminating since longer
//     than its grace period and StuckAfter.
func failureOf(s Snapshot) (volume.Failure, bool) {
	if s.Node == nil {
		for _, v := range s.Volumes {
			if attachmentTo(s.NodeName, v) != nil {
				return volume.Failure{Reason: "its Node object is gone while volumes are attached to it"}, true
			}
		}
		return volume.Failure{}, false
	}
	if failure, failed := volume.Failed(s.Node); failed {
		return failure, true
	}
	since, notReady := volume.NotReady(s.Node)
	if !notReady {
		return volume.Failure{}, false
	}
	for _, pod := range s.Pods {
		if stuck(s, pod) && len(heldVolumes(s, pod)) > 0 {
			return volume.Failure{Reason: fmt.Sprintf("it is not Ready, and pod %s/%s is stuck Terminating", pod.Namespace, pod.Name), Since: since}, true
		}
	}
	return volume.Failure{}, false
}

// stuck tells whether a kubelet that answers had its time to end a pod and did not.
func stuck(s Snapshot, pod *corev1.Pod) bool {
	return volume.Terminating(pod) && s.Now.Sub(pod.DeletionTimestamp.Time) > s.Settings.StuckAfter
}

// overdue tells whether nobody else can be expected to end a Terminating pod: its node is silent, or it is stuck.
func overdue(s Snapshot, pod *corev1.Pod) bool {
	return volume.Terminating(pod) && (silent(s) || stuck(s, pod))
}

// silent tells whether no kubelet answers for the node.
func silent(s Snapshot) bool {
	if s.Node == nil {
		return true
	}
	_, failed := volume.Failed(s.Node)
	return failed
}

// untilStuck is when a node that is not Ready is looked at again, since a pod on it may be stuck then; 0 for not at all.
func untilStuck(s Snapshot) time.Duration {
	if s.Node == nil {
		return 0
	}
	if _, notReady := volume.NotReady(s.Node); !notReady {
		return 0
	}
	var first time.Duration
	for _, pod := range s.Pods {
		if !volume.Terminating(pod) {
			continue
		}
		if wait := max(pod.DeletionTimestamp.Add(s.Settings.StuckAfter).Sub(s.Now), time.Second); first == 0 || wait < first {
			first = wait
		}
	}
	return first
}
