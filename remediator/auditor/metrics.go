package auditor

import (
	"github.com/prometheus/client_golang/prometheus"
	"sigs.k8s.io/controller-runtime/pkg/metrics"

	"github.com/rbd-rescue/rbd-rescue/api/v1alpha1"
)

var (
	unknownEntries = prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: v1alpha1.MetricPrefix + "_unknown_blocklist_entries",
		Help: "Long-lived blocklist entries of a Ceph cluster that no active NodeFence lists.",
	}, []string{"cluster"})
	reachable = prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: v1alpha1.MetricPrefix + "_ceph_reachable",
		Help: "1 if the Ceph cluster answered when it was last looked at: every 10 minutes, every minute while it does not.",
	}, []string{"cluster"})
)

func init() { metrics.Registry.MustRegister(unknownEntries, reachable) }

func setReachable(clusterID string, is bool) {
	value := 0.0
	if is {
		value = 1
	}
	reachable.WithLabelValues(clusterID).Set(value)
}
