package plan

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/rbd-rescue/rbd-rescue/api/v1alpha1"
	"github.com/rbd-rescue/rbd-rescue/volume"
)

// judgement is what may become of one held volume.
type judgement struct {
	// refused says why the volume is not released although it is wanted elsewhere; nil if it may be.
	refused *refusal
	// waiting says what is still missing before the volume counts as wanted; empty if it is wanted.
	waiting string
	// clients through which the failed boot writes to it, and where they are known from.
	clients sources
}

func (j judgement) free() bool { return j.refused == nil && j.waiting == "" }

// judge looks at the volumes that the failed node still holds for namespaces in mode rescue (S6), by name of the
// PersistentVolume. A pod can only be deleted whole: where one of its volumes cannot go, none of them can.
func judge(s Snapshot) map[string]judgement {
	judgements := map[string]judgement{}
	for _, v := range s.Volumes {
		if HeldBy(s, v) && optedIn(s, v) {
			judgements[v.Name] = judgeAlone(s, v)
		}
	}
	for changed := true; changed; {
		changed = refuseSharedClients(s, judgements)
		for _, pod := range s.Pods {
			mates := heldVolumes(s, pod)
			for _, blocker := range mates {
				if judgements[blocker.Name].free() {
					continue
				}
				for _, v := range mates {
					if judgements[v.Name].free() {
						judgements[v.Name] = blockedBy(pod, blocker, judgements[blocker.Name])
						changed = true
					}
				}
			}
		}
	}
	return judgements
}

func blockedBy(pod *corev1.Pod, blocker Volume, why judgement) judgement {
	sentence := fmt.Sprintf("pod %s/%s also uses claim %s", pod.Namespace, pod.Name, blocker.Claim)
	if why.refused != nil {
		return judgement{refused: &refusal{why.refused.reason, sentence + ": " + why.refused.message}}
	}
	return judgement{waiting: sentence + ": " + why.waiting}
}

// judgeAlone judges one volume and the pods that use it; the first reason not to release it counts.
func judgeAlone(s Snapshot, v Volume) judgement {
	if wanted, missing := demand(s, v); !wanted {
		return judgement{waiting: missing}
	}
	if v.FormError != nil {
		return judgement{refused: &refusal{v1alpha1.ReasonUnknownShape, v.FormError.Error()}}
	}
	if !v.Exclusive && !v.Shared {
		return judgement{refused: &refusal{v1alpha1.ReasonSharedVolume, fmt.Sprintf(
			"PersistentVolume %s may be attached to several nodes at once and is not ReadWriteMany, so that no pod was kept from it; only ReadWriteOnce, ReadWriteOncePod and ReadWriteMany volumes are released", v.Name)}}
	}
	if !s.Clusters[v.ClusterID].Known {
		return judgement{refused: &refusal{v1alpha1.ReasonUnknownCluster, fmt.Sprintf(
			"no Ceph cluster with clusterID %q is in rbd-rescue's configuration", v.ClusterID)}}
	}
	for _, pod := range usersOn(s.NodeName, v) {
		if r := podRefusal(s, pod); r != nil {
			return judgement{refused: r}
		}
	}
	clients, r := clientsOf(s, v)
	return judgement{refused: r, clients: clients}
}

// podRefusal says why a stuck pod must not be force-deleted: a fence of RBD clients does not stop its other writes (S6),
// or nobody would make it again.
func podRefusal(s Snapshot, pod *corev1.Pod) *refusal {
	policy := s.Policies[pod.Namespace]
	if storage := unfencedStorage(s, pod); storage != "" && !policy.UnfencedStorage {
		return &refusal{v1alpha1.ReasonUnfencedStorage, fmt.Sprintf(
			"pod %s/%s also writes to %s, which cannot be fenced here; make sure that node %s is off before you delete it by hand, or allow it: kubectl annotate namespace %s %s=%s",
			pod.Namespace, pod.Name, storage, s.NodeName, pod.Namespace, v1alpha1.AnnotationAllow, v1alpha1.AllowUnfencedStorage)}
	}
	if metav1.GetControllerOf(pod) == nil && !policy.BarePods {
		return &refusal{v1alpha1.ReasonBarePod, fmt.Sprintf(
			"pod %s/%s has no controller that would make it again; make sure that node %s is off before you delete it by hand, or allow it: kubectl annotate namespace %s %s=%s",
			pod.Namespace, pod.Name, s.NodeName, pod.Namespace, v1alpha1.AnnotationAllow, v1alpha1.AllowBarePods)}
	}
	return nil
}

// unfencedStorage is the first storage of a pod that a fence of RBD clients does not reach; empty for none.
func unfencedStorage(s Snapshot, pod *corev1.Pod) string {
	if name := volume.UnfencedStorage(pod); name != "" {
		return fmt.Sprintf("volume %q", name)
	}
	for _, claim := range volume.Claims(pod, pod.Namespace) {
		if storage, ok := s.UnfencedClaims[claim]; ok {
			return fmt.Sprintf("claim %s (%s)", claim, storage)
		}
	}
	return ""
}

// heldVolumes are the held volumes that a pod of the node uses.
func heldVolumes(s Snapshot, pod *corev1.Pod) []Volume {
	if volume.Finished(pod) {
		return nil
	}
	var volumes []Volume
	for _, claim := range volume.Claims(pod, pod.Namespace) {
		for _, v := range s.Volumes {
			if v.Claim == claim && HeldBy(s, v) {
				volumes = append(volumes, v)
			}
		}
	}
	return volumes
}
