package webhook

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/rbd-rescue/rbd-rescue/api/v1alpha1"
)

// result is how the admission of one pod ended; the pod was allowed in every case.
type result string

const (
	// resultIdle: no failed node holds a volume.
	resultIdle result = "idle"
	// resultNotOptedIn: the pod's namespace did not ask for rbd-rescue.
	resultNotOptedIn result = "not-opted-in"
	// resultNotHeld: no failed node holds a volume of the pod.
	resultNotHeld result = "not-held"
	// resultFlagged: the pod got the label and the annotation.
	resultFlagged result = "flagged"
	// resultFailedOpen: it could not be told what the pod is to get.
	resultFailedOpen result = "failed-open"
)

var (
	podsTotal = prometheus.NewCounterVec(prometheus.CounterOpts{
		Namespace: v1alpha1.MetricPrefix, Subsystem: "webhook", Name: "pods_total",
		Help: "Grows by one for each pod that was admitted, by result: idle, not-opted-in, not-held, flagged, failed-open.",
	}, []string{"result"})

	failoverSet = prometheus.NewCounter(prometheus.CounterOpts{
		Namespace: v1alpha1.MetricPrefix, Subsystem: "webhook", Name: "failover_after_pods_total",
		Help: "Grows by one for each pod whose tolerations were set to the failover-after of its namespace.",
	})

	heldClaims = prometheus.NewGauge(prometheus.GaugeOpts{
		Namespace: v1alpha1.MetricPrefix, Subsystem: "webhook", Name: "held_claims",
		Help: "Claims whose RBD volume a failed node holds, in all namespaces, as this replica sees it.",
	})

	// admitted has every result from the start, so that a rate over it is right from the first pod on.
	admitted = map[result]prometheus.Counter{}
)

func init() {
	for _, r := range []result{resultIdle, resultNotOptedIn, resultNotHeld, resultFlagged, resultFailedOpen} {
		admitted[r] = podsTotal.WithLabelValues(string(r))
	}
}

// RegisterMetrics has the process serve the webhook's metrics. No other command does: that they are there tells that a webhook is.
func RegisterMetrics(registry prometheus.Registerer) {
	registry.MustRegister(podsTotal, failoverSet, heldClaims)
}
