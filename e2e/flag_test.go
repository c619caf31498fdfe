package e2e

import (
	"encoding/json"
	"slices"
	"sync"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rbd-rescue/rbd-rescue/api/v1alpha1"
)

// versionsOfPods watches the pods of the scenario, and gives each version that there was of them since: a flag does not stay long.
func (s *scenario) versionsOfPods() func() []corev1.Pod {
	s.Helper()
	watch, err := s.lab.Client.Watch(s.ctx, &corev1.PodList{}, client.InNamespace(s.namespace))
	s.must(err)
	s.Cleanup(watch.Stop)
	var lock sync.Mutex
	var versions []corev1.Pod
	go func() {
		for event := range watch.ResultChan() {
			if pod, is := event.Object.(*corev1.Pod); is {
				lock.Lock()
				versions = append(versions, *pod)
				lock.Unlock()
			}
		}
	}()
	return func() []corev1.Pod {
		lock.Lock()
		defer lock.Unlock()
		return slices.Clone(versions)
	}
}

// flaggedLater waits until a pod that was created without a flag has had the label and the annotation of one.
func (s *scenario) flaggedLater(versions func() []corev1.Pod, held v1alpha1.HeldVolume) {
	s.Helper()
	s.eventually(soon, "a pod that was created without a flag is flagged", func() (bool, error) {
		all := versions()
		for i := range all {
			if flagged, err := flaggedFor(&all[i], held); err != nil || flagged {
				first := slices.IndexFunc(all, func(p corev1.Pod) bool { return p.UID == all[i].UID })
				return flagged && !hasFlag(&all[first]), err
			}
		}
		return false, nil
	})
}

func hasFlag(pod *corev1.Pod) bool {
	return pod.Labels[v1alpha1.LabelHeld] != "" || pod.Annotations[v1alpha1.AnnotationHeldVolumes] != ""
}

// flaggedFor tells whether a pod has the label, and the annotation names this volume alone.
func flaggedFor(pod *corev1.Pod, held v1alpha1.HeldVolume) (bool, error) {
	text := pod.Annotations[v1alpha1.AnnotationHeldVolumes]
	if pod.Labels[v1alpha1.LabelHeld] != "true" || text == "" {
		return false, nil
	}
	var volumes []v1alpha1.HeldVolume
	if err := json.Unmarshal([]byte(text), &volumes); err != nil {
		return false, err
	}
	return slices.Equal(volumes, []v1alpha1.HeldVolume{held}), nil
}
