package retention

import (
	"github.com/prometheus/client_golang/prometheus"
	"sigs.k8s.io/controller-runtime/pkg/metrics"

	"github.com/rbd-rescue/rbd-rescue/api/v1alpha1"
)

var safetySnapshots = prometheus.NewGauge(prometheus.GaugeOpts{
	Name: v1alpha1.MetricPrefix + "_safety_snapshots",
	Help: "Safety snapshots that are there, of all images.",
})

func init() { metrics.Registry.MustRegister(safetySnapshots) }

func count(fences []*v1alpha1.NodeFence) { safetySnapshots.Set(float64(len(taken(fences)))) }
