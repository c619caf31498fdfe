// Package prometheus asks a Prometheus over its HTTP API.
package prometheus

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// answerWithin is how long one answer may take.
const answerWithin = 20 * time.Second

// Series is what one set of labels had, over time.
type Series struct {
	Labels map[string]string
	Points []Point
}

// Point is a value at a time.
type Point struct {
	At    time.Time
	Value float64
}

// Last is the newest value. A series has one at least.
func (s Series) Last() float64 { return s.Points[len(s.Points)-1].Value }

// Client asks one Prometheus.
type Client struct {
	// URL is where it serves, without a path.
	URL string
}

// At asks for what a query gives at one time.
func (c Client) At(ctx context.Context, query string, at time.Time) ([]Series, error) {
	return c.ask(ctx, "/api/v1/query", url.Values{"query": {query}, "time": {timestamp(at)}})
}

// Over asks for what a query gives over a time.
func (c Client) Over(ctx context.Context, query string, from, to time.Time, step time.Duration) ([]Series, error) {
	return c.ask(ctx, "/api/v1/query_range", url.Values{
		"query": {query}, "start": {timestamp(from)}, "end": {timestamp(to)}, "step": {strconv.FormatFloat(step.Seconds(), 'f', -1, 64)},
	})
}

func timestamp(t time.Time) string {
	return strconv.FormatFloat(float64(t.UnixMilli())/1000, 'f', 3, 64)
}

func (c Client) ask(ctx context.Context, path string, values url.Values) ([]Series, error) {
	ctx, cancel := context.WithTimeout(ctx, answerWithin)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, c.URL+path+"?"+values.Encode(), nil)
	if err != nil {
		return nil, err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, fmt.Errorf("asking Prometheus: %w", err)
	}
	defer func() { _ = response.Body.Close() }()
	var answer struct {
		Status, Error string
		Data          struct {
			Result []struct {
				Metric map[string]string
				Value  *sample
				Values []sample
			}
		}
	}
	if err := json.NewDecoder(response.Body).Decode(&answer); err != nil {
		return nil, fmt.Errorf("reading Prometheus' answer (%s) to %s: %w", response.Status, values.Get("query"), err)
	}
	if answer.Status != "success" {
		return nil, fmt.Errorf("asking Prometheus for %s: %s", values.Get("query"), answer.Error)
	}
	var all []Series
	for _, result := range answer.Data.Result {
		if result.Value != nil {
			result.Values = []sample{*result.Value}
		}
		if points := numbers(result.Values); len(points) > 0 {
			all = append(all, Series{Labels: result.Metric, Points: points})
		}
	}
	// Prometheus gives them in no order.
	slices.SortFunc(all, func(a, b Series) int { return strings.Compare(key(a.Labels), key(b.Labels)) })
	return all, nil
}

// numbers leaves out what is none: a quantile or a quotient of nothing.
func numbers(samples []sample) []Point {
	var points []Point
	for _, s := range samples {
		if !math.IsNaN(s.Value) && !math.IsInf(s.Value, 0) {
			points = append(points, Point(s))
		}
	}
	return points
}

func key(labels map[string]string) string {
	var w strings.Builder
	for _, name := range slices.Sorted(maps.Keys(labels)) {
		fmt.Fprintf(&w, "%s=%q,", name, labels[name])
	}
	return w.String()
}

// sample is a point as the API writes it: [seconds, "value"].
type sample Point

func (s *sample) UnmarshalJSON(text []byte) error {
	var seconds float64
	var value string
	if err := json.Unmarshal(text, &[]any{&seconds, &value}); err != nil {
		return err
	}
	number, err := strconv.ParseFloat(value, 64)
	if err != nil {
		return fmt.Errorf("reading a value: %w", err)
	}
	s.At, s.Value = time.UnixMilli(int64(math.Round(seconds*1000))).UTC(), number
	return nil
}
