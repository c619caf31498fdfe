package remediator

import (
	"fmt"
	"strconv"
	"strings"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/metrics"

	"github.com/rbd-rescue/rbd-rescue/api/v1alpha1"
)

// heard tells up to where the caches have been told of changes: `doctor` compares it with what the API shows (doctor/look).
var heard = newHearing()

func newHearing() *hearing {
	return &hearing{
		desc: prometheus.NewDesc(v1alpha1.MetricPrefix+"_cache_resource_version",
			"resourceVersion up to which the remediator has heard of changes of a kind; it grows with these.", []string{"kind"}, nil),
		informers: map[string]versioned{},
	}
}

func init() { metrics.Registry.MustRegister(heard) }

// versioned is an informer that tells how far it has come.
type versioned interface{ LastSyncResourceVersion() string }

type hearing struct {
	desc      *prometheus.Desc
	lock      sync.Mutex
	informers map[string]versioned // by kind
}

// of has the informer of a kind asked; one that was there before is of a manager that has ended.
func (h *hearing) of(object client.Object, informer cache.Informer) error {
	tells, is := informer.(versioned)
	if !is {
		return fmt.Errorf("the cache of %T is a %T, which does not tell its resourceVersion", object, informer)
	}
	kind := fmt.Sprintf("%T", object)
	h.lock.Lock()
	defer h.lock.Unlock()
	h.informers[kind[strings.LastIndexByte(kind, '.')+1:]] = tells
	return nil
}

// Describe implements prometheus.Collector.
func (h *hearing) Describe(to chan<- *prometheus.Desc) { to <- h.desc }

// Collect implements prometheus.Collector.
func (h *hearing) Collect(to chan<- prometheus.Metric) {
	h.lock.Lock()
	defer h.lock.Unlock()
	for kind, informer := range h.informers {
		if version, err := strconv.ParseFloat(informer.LastSyncResourceVersion(), 64); err == nil { // empty before the first list
			to <- prometheus.MustNewConstMetric(h.desc, prometheus.GaugeValue, version, kind)
		}
	}
}
