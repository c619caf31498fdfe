package prometheus

import (
	"context"
	"fmt"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"k8s.io/apimachinery/pkg/util/wait"
	"sigs.k8s.io/yaml"

	"github.com/rbd-rescue/rbd-rescue/e2e/lab/process"
)

// readyWithin is how long it may take until it answers.
const readyWithin = 2 * time.Minute

// ScrapeEvery is how often it looks.
const ScrapeEvery = 2 * time.Second

// Options of a server.
type Options struct {
	// Program is Prometheus itself: e2e/fetch-prometheus gets it.
	Program string
	// Dir holds its files. What is there of one before is removed.
	Dir string
	// Listen is where it serves.
	Listen netip.AddrPort
	// Rules are alerting rules, as they are in the chart.
	Rules []byte
	// Targets are what it scrapes.
	Targets []Target
}

// Target is one set of metrics.
type Target struct {
	Address netip.AddrPort
	// Labels are given to all that is scraped there.
	Labels map[string]string
}

// Server is a running Prometheus.
type Server struct {
	process *process.Process
	url     string
}

// Start starts a Prometheus that knows of nothing before, and waits until it answers.
func Start(ctx context.Context, supervisor *process.Supervisor, options Options) (*Server, error) {
	if _, err := os.Stat(options.Program); err != nil {
		return nil, fmt.Errorf("there is no Prometheus, run e2e/fetch-prometheus: %w", err)
	}
	if err := options.writeFiles(); err != nil {
		return nil, fmt.Errorf("writing Prometheus' files: %w", err)
	}
	p, err := supervisor.Start(process.Spec{
		Name: "prometheus", Path: options.Program,
		Args: []string{
			"--config.file=" + options.configFile(), "--storage.tsdb.path=" + filepath.Join(options.Dir, "data"),
			"--web.listen-address=" + options.Listen.String(), "--log.level=warn",
		},
	})
	if err != nil {
		return nil, err
	}
	s := &Server{process: p, url: "http://" + options.Listen.String()}
	if err := wait.PollUntilContextTimeout(ctx, 50*time.Millisecond, readyWithin, true, s.ready); err != nil {
		return nil, fmt.Errorf("waiting for Prometheus: %w (its log is %s)", err, p.Log())
	}
	return s, nil
}

func (s *Server) ready(ctx context.Context) (bool, error) {
	if s.process.Ended() {
		return false, fmt.Errorf("it ended: %w", s.process.Err())
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, s.url+"/-/ready", nil)
	if err != nil {
		return false, err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return false, nil //nolint:nilerr // not up yet
	}
	_ = response.Body.Close()
	return response.StatusCode == http.StatusOK, nil
}

// URL is where it serves.
func (s *Server) URL() string { return s.url }

// Stop ends it.
func (s *Server) Stop(ctx context.Context) error { return s.process.Stop(ctx) }

func (o Options) configFile() string { return filepath.Join(o.Dir, "prometheus.yml") }

func (o Options) writeFiles() error {
	if err := os.RemoveAll(o.Dir); err != nil {
		return err
	}
	if err := os.MkdirAll(o.Dir, 0o755); err != nil {
		return err
	}
	rules := filepath.Join(o.Dir, "alerts.yml")
	if err := os.WriteFile(rules, hasten(o.Rules), 0o600); err != nil {
		return err
	}
	var targets []any
	for _, target := range o.Targets {
		targets = append(targets, map[string]any{"targets": []string{target.Address.String()}, "labels": target.Labels})
	}
	config, err := yaml.Marshal(map[string]any{
		"global":         map[string]any{"scrape_interval": ScrapeEvery.String(), "scrape_timeout": ScrapeEvery.String(), "evaluation_interval": "1s"},
		"rule_files":     []string{rules},
		"scrape_configs": []any{map[string]any{"job_name": "rbd-rescue", "static_configs": targets}},
	})
	if err != nil {
		return err
	}
	return os.WriteFile(o.configFile(), config, 0o600)
}
