package archivist

import (
	"sync"

	"github.com/prometheus/client_golang/prometheus"
	"sigs.k8s.io/controller-runtime/pkg/metrics"

	"github.com/rbd-rescue/rbd-rescue/api/v1alpha1"
)

var (
	unkept = names{is: map[string]bool{}, gauge: prometheus.NewGauge(prometheus.GaugeOpts{
		Name: v1alpha1.MetricPrefix + "_unkept_manifests",
		Help: "RBD volumes of namespaces that opted in whose manifests are not kept with their image as they are now.",
	})}
	written = prometheus.NewCounter(prometheus.CounterOpts{
		Name: v1alpha1.MetricPrefix + "_manifests_written_total",
		Help: "Manifests that were written to an image: those of a new volume, or changed ones.",
	})
)

func init() { metrics.Registry.MustRegister(unkept.gauge, written) }

// names are counted, not named, in the metric.
type names struct {
	lock  sync.Mutex
	is    map[string]bool
	gauge prometheus.Gauge
}

func (n *names) set(name string, is bool) {
	n.lock.Lock()
	defer n.lock.Unlock()
	if is {
		n.is[name] = true
	} else {
		delete(n.is, name)
	}
	n.gauge.Set(float64(len(n.is)))
}
