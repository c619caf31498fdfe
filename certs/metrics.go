package certs

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/rbd-rescue/rbd-rescue/api/v1alpha1"
)

var (
	expiry = prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Namespace: v1alpha1.MetricPrefix, Subsystem: "webhook", Name: "certificate_expiry_timestamp_seconds",
		Help: "When the certificate expires, as Unix time; grows with each renewal. certificate is serving (this replica's) or ca. 0 while there is none.",
	}, []string{"certificate"})

	servingExpiry = expiry.WithLabelValues("serving")
	caExpiry      = expiry.WithLabelValues("ca")
)

// RegisterMetrics has the process serve the certificates' metrics. One that has no certificate would say that it has expired.
func RegisterMetrics(registry prometheus.Registerer) { registry.MustRegister(expiry) }

func setExpiry(gauge prometheus.Gauge, at time.Time) { gauge.Set(float64(at.Unix())) }
