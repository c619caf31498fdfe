package observe

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/rbd-rescue/rbd-rescue/api/v1alpha1"
)

func withRecord(text string) *corev1.PersistentVolume {
	return &corev1.PersistentVolume{ObjectMeta: metav1.ObjectMeta{Name: "pv", Annotations: map[string]string{v1alpha1.AnnotationClients: text}}}
}

func TestReadRecord(t *testing.T) {
	t.Parallel()
	if record, err := ReadRecord(&corev1.PersistentVolume{}); record != nil || err != nil {
		t.Errorf("no record is %v, %v", record, err)
	}
	if _, err := ReadRecord(withRecord("{")); err == nil {
		t.Error("half a record can be read")
	}
	record, err := ReadRecord(withRecord(`{"node-a":{"bootID":"b","clients":["10.0.0.1:0/42"],"pods":["p"]}}`))
	if err != nil || record["node-a"].BootID != "b" || !record["node-a"].Covers("p") || record["node-a"].Covers("q") {
		t.Errorf("got %+v, %v", record, err)
	}
}

// Whatever a record says, its addresses can be looked up, and none is made up.
func FuzzReadRecord(f *testing.F) {
	f.Add(`{"node-a":{"nodeUID":"u","bootID":"b","machineID":"m","clients":["10.0.0.1:0/42","[fd00::7]:0/9"],"pods":["p"]}}`)
	f.Add(`{"node-a":{"bootID":1}}`)
	f.Add(`{"node-a":null}`)
	f.Add(`[]`)
	f.Fuzz(func(t *testing.T, text string) {
		record, err := ReadRecord(withRecord(text))
		if err != nil && record != nil {
			t.Errorf("%v comes with %+v", err, record)
		}
		for _, clients := range record {
			if got := addressesOf(clients); len(got) > len(clients.Clients) {
				t.Errorf("%v are %v", clients.Clients, got)
			}
		}
		for _, ip := range volumeClientIPs(withRecord(text)) {
			if ip == "" || ip == "invalid IP" {
				t.Errorf("%q has the IP %q", text, ip)
			}
		}
	})
}
