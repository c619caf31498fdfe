package look

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"time"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"github.com/rbd-rescue/rbd-rescue/api/v1alpha1"
	"github.com/rbd-rescue/rbd-rescue/doctor"
)

const (
	// askAgain is how often it is asked meanwhile.
	askAgain = 500 * time.Millisecond
	// metricsTimeout bounds one answer.
	metricsTimeout = 5 * time.Second
)

// CacheMetric tells, by kind, up to which resourceVersion the remediator has heard.
const CacheMetric = v1alpha1.MetricPrefix + "_cache_resource_version"

// caches asks the remediator of this pod, by its metrics, whether it has heard of the newest that the API has shown.
func (p Pod) caches(ctx context.Context, newest map[string]uint64) ([]doctor.Cache, error) {
	if p.Metrics == "" {
		return nil, errors.New("the remediator serves no metrics (metrics.enabled=false)")
	}
	began := time.Now()
	for {
		heard, err := p.heard(ctx)
		if err != nil {
			return nil, err
		}
		var caches []doctor.Cache
		behind := false
		for _, kind := range slices.Sorted(maps.Keys(newest)) {
			c := doctor.Cache{Kind: kind, Live: newest[kind], Cached: heard[kind], Waited: time.Since(began).Round(time.Second)}
			caches, behind = append(caches, c), behind || c.Cached < c.Live
		}
		if !behind || time.Since(began) > p.Patience {
			return caches, nil
		}
		select {
		case <-time.After(askAgain):
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

func (p Pod) heard(ctx context.Context) (map[string]uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, metricsTimeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, p.Metrics, nil)
	if err != nil {
		return nil, fmt.Errorf("asking the remediator: %w", err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, fmt.Errorf("asking the remediator, which may hang, or serve no metrics (metrics.enabled=false): %w", err)
	}
	defer func() { _ = response.Body.Close() }()
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(response.Body)
	if err != nil {
		return nil, fmt.Errorf("reading the remediator's metrics: %w", err)
	}
	family := families[CacheMetric]
	if family == nil {
		return nil, fmt.Errorf("the remediator does not tell %s: it is of an older version", CacheMetric)
	}
	heard := map[string]uint64{}
	for _, metric := range family.GetMetric() {
		for _, label := range metric.GetLabel() {
			if label.GetName() == "kind" {
				heard[label.GetValue()] = uint64(metric.GetGauge().GetValue())
			}
		}
	}
	return heard, nil
}
