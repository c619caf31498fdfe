package main

import (
	"strings"
	"testing"

	"sigs.k8s.io/controller-runtime/pkg/metrics"
)

// A series that the remediator has as well says nothing of the webhook: while a remediator runs, an alert on its absence would
// never fire, and one on a certificate that there is none of always would.
func TestOnlyTheWebhookServesTheWebhooksMetrics(t *testing.T) {
	t.Parallel()
	families, err := metrics.Registry.Gather() // of a process that has started no command
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range families {
		if strings.HasPrefix(family.GetName(), "rbd_rescue_webhook_") {
			t.Errorf("the remediator would serve %s", family.GetName())
		}
	}
}
