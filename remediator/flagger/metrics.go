package flagger

import (
	"github.com/prometheus/client_golang/prometheus"
	"sigs.k8s.io/controller-runtime/pkg/metrics"

	"github.com/rbd-rescue/rbd-rescue/api/v1alpha1"
)

var (
	waitingPods = prometheus.NewGauge(prometheus.GaugeOpts{
		Name: v1alpha1.MetricPrefix + "_waiting_pods",
		Help: "Pods of namespaces that opted in which wait for a volume that a failed node holds.",
	})
	gatedPods = prometheus.NewGauge(prometheus.GaugeOpts{
		Name: v1alpha1.MetricPrefix + "_gated_pods",
		Help: "Pods whose scheduling gate stays closed.",
	})
)

func init() { metrics.Registry.MustRegister(waitingPods, gatedPods) }
