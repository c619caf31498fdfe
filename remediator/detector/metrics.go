package detector

import (
	"context"
	"slices"

	"github.com/prometheus/client_golang/prometheus"
	"sigs.k8s.io/controller-runtime/pkg/metrics"

	"github.com/rbd-rescue/rbd-rescue/api/v1alpha1"
	"github.com/rbd-rescue/rbd-rescue/remediator/plan"
)

var (
	failedNodesGauge = prometheus.NewGauge(prometheus.GaugeOpts{
		Name: v1alpha1.MetricPrefix + "_failed_nodes",
		Help: "Nodes that count as failed now.",
	})
	notReadyNodes = prometheus.NewGauge(prometheus.GaugeOpts{
		Name: v1alpha1.MetricPrefix + "_not_ready_nodes",
		Help: "Nodes whose kubelet answers and says that they are not Ready.",
	})
	breakerOpen = prometheus.NewGauge(prometheus.GaugeOpts{
		Name: v1alpha1.MetricPrefix + "_breaker_open",
		Help: "1 while so many nodes are failed at once that nothing new is fenced.",
	})
	paused = prometheus.NewGauge(prometheus.GaugeOpts{
		Name: v1alpha1.MetricPrefix + "_paused",
		Help: "1 while an annotation on rbd-rescue's namespace asks that nothing new is fenced.",
	})
	pausedNodes = prometheus.NewGauge(prometheus.GaugeOpts{
		Name: v1alpha1.MetricPrefix + "_paused_nodes",
		Help: "Nodes with an annotation that asks not to fence them.",
	})
	unfencedNodes = prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: v1alpha1.MetricPrefix + "_unfenced_nodes",
		Help: "Failed nodes that hold wanted volumes and for which no NodeFence is made, by reason: BreakerOpen, FenceOverridden, FenceRefused, Paused.",
	}, []string{"reason"})
)

func init() {
	metrics.Registry.MustRegister(failedNodesGauge, notReadyNodes, breakerOpen, paused, pausedNodes, unfencedNodes)
}

// measure counts what is so of all nodes, whichever is looked at: the look at a node that came back is the last for a while.
func (c *Controller) measure(ctx context.Context, troubled []string) error {
	c.unfenced.keep(troubled)
	whole, err := c.Observer.PausedWhole(ctx)
	if err != nil {
		return err
	}
	nodes, err := c.Observer.PausedNodes(ctx)
	if err != nil {
		return err
	}
	set(paused, whole)
	pausedNodes.Set(float64(nodes))
	var health plan.Health // all is well
	if len(troubled) > 0 {
		if health, err = c.Observer.Health(ctx); err != nil {
			return err
		}
	}
	failedNodesGauge.Set(float64(health.Failed))
	notReadyNodes.Set(float64(health.NotReady))
	set(breakerOpen, plan.BreakerOpen(health, nil, c.Observer.Settings))
	return nil
}

func set(gauge prometheus.Gauge, is bool) {
	value := 0.0
	if is {
		value = 1
	}
	gauge.Set(value)
}

// unfenced are the nodes for which a NodeFence was not made though their volumes are wanted, with the reason that was told. The
// controller looks at one node at a time.
type unfenced map[string]string

func (u *unfenced) note(node string, verdict plan.Verdict) {
	if *u == nil {
		*u = unfenced{}
	}
	delete(*u, node)
	if verdict.Create == nil && len(verdict.Events) > 0 {
		(*u)[node] = verdict.Events[0].Reason
	}
	u.count()
}

// keep forgets the nodes that are not in trouble any more.
func (u *unfenced) keep(troubled []string) {
	for node := range *u {
		if !slices.Contains(troubled, node) {
			delete(*u, node)
		}
	}
	u.count()
}

func (u *unfenced) count() {
	unfencedNodes.Reset()
	for _, reason := range *u {
		unfencedNodes.WithLabelValues(reason).Inc()
	}
}
