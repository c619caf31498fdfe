package recorder

import (
	"sync"

	"github.com/prometheus/client_golang/prometheus"
	"sigs.k8s.io/controller-runtime/pkg/metrics"

	"github.com/rbd-rescue/rbd-rescue/api/v1alpha1"
)

// missing are the attached volumes whose clients are not on record: their node could not be fenced by its record.
var missing = unrecorded{names: map[string]bool{}, gauge: prometheus.NewGauge(prometheus.GaugeOpts{
	Name: v1alpha1.MetricPrefix + "_unrecorded_volumes",
	Help: "Attached RBD volumes for which no Ceph client of the node's current boot is on record.",
})}

func init() { metrics.Registry.MustRegister(missing.gauge) }

type unrecorded struct {
	lock  sync.Mutex
	names map[string]bool
	gauge prometheus.Gauge
}

func (u *unrecorded) set(name string, is bool) {
	u.lock.Lock()
	defer u.lock.Unlock()
	if is {
		u.names[name] = true
	} else {
		delete(u.names, name)
	}
	u.gauge.Set(float64(len(u.names)))
}

func (u *unrecorded) forget(name string) { u.set(name, false) }
