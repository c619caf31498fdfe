package lab

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rbd-rescue/rbd-rescue/e2e/lab/prometheus"
)

// prometheusPort is where Prometheus serves.
const prometheusPort = 9087

// StartPrometheus watches rbd-rescue as a user does who has the chart's ServiceMonitor and PrometheusRule.
func (l *Lab) StartPrometheus(ctx context.Context) (*prometheus.Server, error) {
	rules, err := os.ReadFile(filepath.Join(l.Chart(), "files", "alerts.yaml"))
	if err != nil {
		return nil, fmt.Errorf("reading the chart's alerts: %w", err)
	}
	targets, err := l.monitored(ctx)
	if err != nil {
		return nil, err
	}
	return prometheus.Start(ctx, l.Supervisor, prometheus.Options{
		Program: filepath.Join(l.binaries.Dir, "prometheus", "usr", "bin", "prometheus"), Dir: filepath.Join(Dir, "prometheus"),
		Listen: localPort(prometheusPort), Rules: rules, Targets: targets,
	})
}

// monitored are the Services that the ServiceMonitor selects and that have its port, with the labels that the Prometheus operator
// gives to what is behind them. Behind a Service is the component's process.
func (l *Lab) monitored(ctx context.Context) ([]prometheus.Target, error) {
	const port = "metrics"
	var services corev1.ServiceList
	if err := l.Client.List(ctx, &services, client.InNamespace(Namespace), client.MatchingLabels{
		"app.kubernetes.io/name": "rbd-rescue", "app.kubernetes.io/instance": Release,
	}); err != nil {
		return nil, fmt.Errorf("listing rbd-rescue's Services: %w", err)
	}
	ports := map[string]uint16{"webhook": webhookMetrics, "remediator": remediatorMetrics}
	var targets []prometheus.Target
	for i := range services.Items {
		service := &services.Items[i]
		if !slices.ContainsFunc(service.Spec.Ports, func(p corev1.ServicePort) bool { return p.Name == port }) {
			continue
		}
		component := service.Labels["app.kubernetes.io/component"]
		targets = append(targets, prometheus.Target{Address: localPort(ports[component]), Labels: map[string]string{
			"job": service.Name, "service": service.Name, "namespace": service.Namespace, "endpoint": port,
			"pod": service.Name + "-0", "container": component,
		}})
	}
	return targets, nil
}

func localPort(port uint16) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), port)
}
