package lab

import (
	"encoding/json"
	"fmt"

	corev1 "k8s.io/api/core/v1"

	"github.com/rbd-rescue/rbd-rescue/api/v1alpha1"
)

// recordedClients are those of a node, if they were looked at since these pods run there.
func recordedClients(pv *corev1.PersistentVolume, node string, pods []corev1.Pod) ([]string, error) {
	text := pv.Annotations[v1alpha1.AnnotationClients]
	if text == "" {
		return nil, nil
	}
	var record v1alpha1.ClientRecord
	if err := json.Unmarshal([]byte(text), &record); err != nil {
		return nil, fmt.Errorf("decoding the record of PersistentVolume %s: %w", pv.Name, err)
	}
	for _, pod := range pods {
		if pod.Spec.NodeName == node && !record[node].Covers(pod.UID) {
			return nil, nil
		}
	}
	return record[node].Clients, nil
}
