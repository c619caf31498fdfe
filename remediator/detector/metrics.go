package detector

import (
	"github.com/prometheus/client_golang/prometheus"
	"sigs.k8s.io/controller-runtime/pkg/metrics"

	"github.com/rbd-rescue/rbd-rescue/api/v1alpha1"
)

var (
	failedNodesGauge = prometheus.NewGauge(prometheus.GaugeOpts{
		Name: v1alpha1.MetricPrefix + "_failed_nodes",
		Help: "Nodes that count as failed now.",
	})
	breakerOpen = prometheus.NewGauge(prometheus.GaugeOpts{
		Name: v1alpha1.MetricPrefix + "_breaker_open",
		Help: "1 while so many nodes are failed at once that nothing new is fenced.",
	})
)

func init() { metrics.Registry.MustRegister(failedNodesGauge, breakerOpen) }

func setBreaker(open bool) {
	breakerOpen.Set(0)
	if open {
		breakerOpen.Set(1)
	}
}
