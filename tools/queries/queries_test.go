// Package queries tests that every query of the chart, in alerts and dashboards, can be parsed, and asks for metrics and labels that
// are there.
package queries

import (
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/prometheus/promql/parser"
	"sigs.k8s.io/controller-runtime/pkg/metrics"
	_ "sigs.k8s.io/controller-runtime/pkg/webhook/admission" // registers its metrics
	"sigs.k8s.io/yaml"

	"github.com/rbd-rescue/rbd-rescue/certs"
	_ "github.com/rbd-rescue/rbd-rescue/remediator"
	"github.com/rbd-rescue/rbd-rescue/webhook"
)

const files = "../../charts/rbd-rescue/files/"

// foreign are the metrics that others expose, with the labels that are used of them.
var foreign = map[string][]string{
	"ALERTS": {"alertname", "alertstate", "severity"}, // Prometheus itself
	"apiserver_admission_webhook_fail_open_count": {"name"},
}

func init() {
	certs.RegisterMetrics(metrics.Registry)
	webhook.RegisterMetrics(metrics.Registry)
}

// exposed are the metrics that either command serves, with their labels.
func exposed(t *testing.T) map[string][]string {
	t.Helper()
	collector, ok := metrics.Registry.(prometheus.Collector)
	if !ok {
		t.Fatal("the registry does not describe itself")
	}
	descriptions := make(chan *prometheus.Desc)
	go func() {
		defer close(descriptions)
		collector.Describe(descriptions)
	}()
	all := map[string][]string{}
	text := regexp.MustCompile(`^Desc{fqName: "(\w+)", .*variableLabels: {(.*)}}$`)
	for description := range descriptions {
		match := text.FindStringSubmatch(description.String())
		if match == nil {
			t.Fatalf("cannot read %s", description)
		}
		name, names := match[1], strings.Split(match[2], ",")
		all[name] = names
		for _, suffix := range []string{"_bucket", "_sum", "_count"} { // if it is a histogram; only these are asked for by such a name
			all[name+suffix] = append([]string{"le"}, names...)
		}
	}
	if len(all["rbd_rescue_nodefence_phase"]) != 3 {
		t.Fatalf("the registry has %v", all)
	}
	return all
}

// queries of all files, with where they are from.
func queries(t *testing.T) map[string]string {
	t.Helper()
	dashboards, err := filepath.Glob(files + "dashboards/*.json")
	if err != nil || len(dashboards) == 0 {
		t.Fatalf("dashboards: %v, %v", dashboards, err)
	}
	all := map[string]string{}
	for _, file := range append(dashboards, files+"alerts.yaml") {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if text, err = yaml.YAMLToJSON(text); err != nil { // JSON is YAML
			t.Fatal(err)
		}
		var document any
		if err := json.Unmarshal(text, &document); err != nil {
			t.Fatal(err)
		}
		collect(document, file, all)
	}
	return all
}

// collect finds each "expr", wherever it is.
func collect(value any, where string, all map[string]string) {
	switch value := value.(type) {
	case map[string]any:
		if name, named := value["title"].(string); named {
			where += ": " + name
		}
		if name, named := value["alert"].(string); named {
			where += ": " + name
		}
		for key, inner := range value {
			if expression, is := inner.(string); is && key == "expr" {
				all[expression] = where
			}
			collect(inner, where, all)
		}
	case []any:
		for _, inner := range value {
			collect(inner, where, all)
		}
	}
}

// variables are what Grafana puts in.
var variables = strings.NewReplacer("$__rate_interval", "5m", "$__range", "1d")

func TestEveryQueryAsksForWhatIsThere(t *testing.T) {
	t.Parallel()
	known := exposed(t)
	maps.Copy(known, foreign)
	all := queries(t)
	if len(all) < 40 {
		t.Fatalf("found only %d queries", len(all))
	}
	for query, where := range all {
		expression, err := parser.NewParser(parser.Options{}).ParseExpr(variables.Replace(query))
		if err != nil {
			t.Errorf("%s: %v\n%s", where, err, query)
			continue
		}
		parser.Inspect(expression, func(node parser.Node, _ []parser.Node) error {
			selector, is := node.(*parser.VectorSelector)
			if !is {
				return nil
			}
			names, exists := known[selector.Name]
			if !exists {
				t.Errorf("%s: nobody exposes %q\n%s", where, selector.Name, query)
			}
			for _, matcher := range selector.LabelMatchers {
				if matcher.Name != "__name__" && exists && !slices.Contains(names, matcher.Name) {
					t.Errorf("%s: %s has no label %s, but %v\n%s", where, selector.Name, matcher.Name, names, query)
				}
			}
			return nil
		})
	}
}

// What is told of the metrics is so, and whole.
func TestEveryMetricIsDocumentedAndEveryDocumentedMetricIsThere(t *testing.T) {
	t.Parallel()
	known := exposed(t)
	mentioned := func(file string) []string {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		return regexp.MustCompile(`\brbd_rescue_\w+`).FindAllString(string(text), -1)
	}
	documents, err := filepath.Glob("../../docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	runbooks, err := filepath.Glob("../../docs/runbooks/*.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range append(append(documents, runbooks...), files+"alerts_test.yaml") {
		for _, name := range mentioned(file) {
			if _, exists := known[name]; !exists {
				t.Errorf("%s: nobody exposes %s", file, name)
			}
		}
	}
	documented := mentioned("../../docs/architecture.md")
	for name := range known {
		of := regexp.MustCompile(`_(bucket|sum|count)$`).ReplaceAllString(name, "")
		if strings.HasPrefix(name, "rbd_rescue_") && !slices.Contains(documented, of) && !slices.Contains(documented, name) {
			t.Errorf("docs/architecture.md does not tell of %s", name)
		}
	}
}
