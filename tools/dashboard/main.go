// Command dashboard draws the chart's Grafana dashboard as an SVG, with what a Prometheus answers to its queries. It is no Grafana,
// and its picture no screenshot: panels are where the dashboard puts them, and drawn simply. A panel without an answer says so; a
// query that fails, or a kind of panel that is not known here, is an error.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"time"

	"github.com/rbd-rescue/rbd-rescue/tools/dashboard/grafana"
	"github.com/rbd-rescue/rbd-rescue/tools/dashboard/picture"
	"github.com/rbd-rescue/rbd-rescue/tools/dashboard/prometheus"
)

// within is how long all of it may take.
const within = 2 * time.Minute

// points is about how many a line has.
const points = 300

func main() {
	from := flag.String("from", "", "first time that is shown (RFC 3339)")
	to := flag.String("to", "", "last time that is shown (RFC 3339)")
	scrape := flag.Duration("scrape", 30*time.Second, "how often Prometheus scrapes, as its data source in Grafana says")
	url := flag.String("prometheus", "http://127.0.0.1:9090", "where Prometheus serves")
	out := flag.String("out", "dashboard.svg", "file to write")
	flag.Parse()
	window, err := windowOf(*from, *to, *scrape)
	if err == nil && flag.NArg() != 1 {
		err = errors.New("name one dashboard, a file of Grafana's JSON")
	}
	if err == nil {
		ctx, cancel := context.WithTimeout(context.Background(), within)
		defer cancel()
		err = run(ctx, flag.Arg(0), prometheus.Client{URL: *url}, window, *out)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "dashboard:", err)
		os.Exit(1)
	}
}

func windowOf(from, to string, scrape time.Duration) (grafana.Window, error) {
	first, err := time.Parse(time.RFC3339, from)
	if err != nil {
		return grafana.Window{}, fmt.Errorf("reading -from: %w", err)
	}
	last, err := time.Parse(time.RFC3339, to)
	if err != nil {
		return grafana.Window{}, fmt.Errorf("reading -to: %w", err)
	}
	if !first.Before(last) || scrape <= 0 {
		return grafana.Window{}, errors.New("-from must be before -to, and -scrape more than nothing")
	}
	step := max(time.Second, last.Sub(first)/points).Truncate(time.Second)
	return grafana.Window{From: first, To: last, Step: step, Scrape: scrape}, nil
}

func run(ctx context.Context, file string, client prometheus.Client, window grafana.Window, out string) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	dashboard, err := grafana.Read(text)
	if err != nil {
		return fmt.Errorf("reading %s: %w", file, err)
	}
	answers, err := ask(ctx, client, dashboard, window)
	if err != nil {
		return err
	}
	return os.WriteFile(out, []byte(picture.Draw(dashboard, window, answers)), 0o644)
}

// ask gets the answers to the queries of each panel.
func ask(ctx context.Context, client prometheus.Client, dashboard grafana.Dashboard, window grafana.Window) (picture.Answers, error) {
	answers := make(picture.Answers, len(dashboard.Panels))
	for i, panel := range dashboard.Panels {
		for _, target := range panel.Targets {
			query, err := window.Fill(target.Query)
			if err != nil {
				return nil, fmt.Errorf("panel %q: %w", panel.Title, err)
			}
			var series []prometheus.Series
			if target.Instant {
				series, err = client.At(ctx, query, window.To)
			} else {
				series, err = client.Over(ctx, query, window.From, window.To, window.Step)
			}
			if err != nil {
				return nil, fmt.Errorf("panel %q: %w", panel.Title, err)
			}
			answers[i] = append(answers[i], series)
		}
	}
	return answers, nil
}
