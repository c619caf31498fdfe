package observe

import (
	"encoding/json"
	"fmt"

	corev1 "k8s.io/api/core/v1"

	"github.com/rbd-rescue/rbd-rescue/api/v1alpha1"
)

// ReadRecord reads the record on a PersistentVolume; it is nil if there is none.
func ReadRecord(pv *corev1.PersistentVolume) (v1alpha1.ClientRecord, error) {
	text := pv.Annotations[v1alpha1.AnnotationClients]
	if text == "" {
		return nil, nil
	}
	var record v1alpha1.ClientRecord
	if err := json.Unmarshal([]byte(text), &record); err != nil {
		return nil, fmt.Errorf("annotation %s of PersistentVolume %s: %w", v1alpha1.AnnotationClients, pv.Name, err)
	}
	return record, nil
}

// Record is what can be read of the record on a PersistentVolume.
func Record(pv *corev1.PersistentVolume) v1alpha1.ClientRecord {
	record, _ := ReadRecord(pv)
	return record
}
