package lab

import (
	"encoding/json"
	"fmt"

	corev1 "k8s.io/api/core/v1"

	"github.com/rbd-rescue/rbd-rescue/api/v1alpha1"
)

func recordedClients(pv *corev1.PersistentVolume, node string) ([]string, error) {
	text := pv.Annotations[v1alpha1.AnnotationClients]
	if text == "" {
		return nil, nil
	}
	var record v1alpha1.ClientRecord
	if err := json.Unmarshal([]byte(text), &record); err != nil {
		return nil, fmt.Errorf("decoding the record of PersistentVolume %s: %w", pv.Name, err)
	}
	return record[node].Clients, nil
}
