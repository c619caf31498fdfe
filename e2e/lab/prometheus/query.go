package prometheus

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"time"
)

// answerWithin is how long an answer may take.
const answerWithin = 20 * time.Second

// Alert is one that is pending, or fires.
type Alert struct {
	Labels      map[string]string `json:"labels"`
	Annotations map[string]string `json:"annotations"`
	State       string            `json:"state"`
}

// Name of the alert's rule.
func (a Alert) Name() string { return a.Labels["alertname"] }

// Health of a target is why it is not up; empty if it is. The key is its label job.
func (s *Server) Health(ctx context.Context) (map[string]string, error) {
	var answer struct {
		Targets []struct {
			Labels    map[string]string `json:"labels"`
			Health    string            `json:"health"`
			LastError string            `json:"lastError"`
		} `json:"activeTargets"`
	}
	if err := s.get(ctx, "/api/v1/targets", url.Values{"state": {"active"}}, &answer); err != nil {
		return nil, err
	}
	health := map[string]string{}
	for _, target := range answer.Targets {
		health[target.Labels["job"]] = ""
		if target.Health != "up" {
			health[target.Labels["job"]] = target.Health + ": " + target.LastError
		}
	}
	return health, nil
}

// Firing are the alerts that fire now, not those that are pending.
func (s *Server) Firing(ctx context.Context) ([]Alert, error) {
	alerts, err := s.alerts(ctx)
	return slices.DeleteFunc(alerts, func(a Alert) bool { return a.State != "firing" }), err
}

func (s *Server) alerts(ctx context.Context) ([]Alert, error) {
	var answer struct {
		Alerts []Alert `json:"alerts"`
	}
	err := s.get(ctx, "/api/v1/alerts", nil, &answer)
	return answer.Alerts, err
}

// Settled tells whether every target is up, and no alert fires or is about to. What has not been scraped yet is told as missing, and
// rules may lag behind what is scraped.
func (s *Server) Settled(ctx context.Context) (bool, error) {
	health, err := s.Health(ctx)
	if err != nil || len(health) == 0 {
		return false, err
	}
	for _, problem := range health {
		if problem != "" {
			return false, nil
		}
	}
	alerts, err := s.alerts(ctx)
	return len(alerts) == 0, err
}

// Fired are the names of all alerts that have fired within a time, whether they still do or not.
func (s *Server) Fired(ctx context.Context, within time.Duration) ([]string, error) {
	var answer struct {
		Result []struct {
			Metric map[string]string `json:"metric"`
		} `json:"result"`
	}
	query := fmt.Sprintf(`count by (alertname) (last_over_time(ALERTS{alertstate="firing"}[%ds]))`, max(1, int(within/time.Second)))
	if err := s.get(ctx, "/api/v1/query", url.Values{"query": {query}}, &answer); err != nil {
		return nil, err
	}
	var names []string
	for _, series := range answer.Result {
		names = append(names, series.Metric["alertname"])
	}
	slices.Sort(names)
	return names, nil
}

// get reads the data of an answer.
func (s *Server) get(ctx context.Context, path string, query url.Values, data any) error {
	ctx, cancel := context.WithTimeout(ctx, answerWithin)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, s.url+path+"?"+query.Encode(), nil)
	if err != nil {
		return fmt.Errorf("asking Prometheus for %s: %w", path, err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return fmt.Errorf("asking Prometheus: %w", err)
	}
	defer func() { _ = response.Body.Close() }()
	answer := struct {
		Status, Error string
		Data          any
	}{Data: data}
	if err := json.NewDecoder(response.Body).Decode(&answer); err != nil {
		return fmt.Errorf("reading Prometheus' answer to %s: %w", path, err)
	}
	if answer.Status != "success" {
		return fmt.Errorf("asking Prometheus for %s: %s", path, answer.Error)
	}
	return nil
}
