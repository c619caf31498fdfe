package grafana

import (
	"os"
	"strings"
	"testing"
	"time"
)

func TestTheChartsDashboardCanBeReadWholeAndItsQueriesFilled(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../../charts/rbd-rescue/files/dashboards/rbd-rescue.json")
	if err != nil {
		t.Fatal(err)
	}
	dashboard, err := Read(text)
	if err != nil {
		t.Fatal(err)
	}
	queries := 0
	for _, panel := range dashboard.Panels {
		if panel.Grid.W == 0 || panel.Grid.H == 0 || panel.Title == "" {
			t.Errorf("panel %q has no place or no title: %+v", panel.Title, panel.Grid)
		}
		for _, target := range panel.Targets {
			queries++
			if filled, err := window().Fill(target.Query); err != nil || filled == "" || strings.Contains(filled, "$__") {
				t.Errorf("panel %q: got %q, %v", panel.Title, filled, err)
			}
		}
	}
	if queries < 30 {
		t.Errorf("found only %d queries", queries)
	}
}

func window() Window {
	from := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	return Window{From: from, To: from.Add(90 * time.Second), Step: time.Second, Scrape: 2 * time.Second}
}

func TestVariablesAreFilledAsGrafanaDoes(t *testing.T) {
	t.Parallel()
	rare := window()
	rare.Step = time.Hour
	for name, of := range map[string]struct {
		window      Window
		query, want string
	}{
		"the whole range":                      {window(), "increase(a[$__range]) / $__range_s", "increase(a[90s]) / 90"},
		"four scrapes":                         {window(), "rate(a[$__rate_interval])", "rate(a[8s])"},
		"a step and a scrape, if that is more": {rare, "rate(a[$__rate_interval])", "rate(a[3602s])"},
		"in braces":                            {window(), "rate(a[${__interval}])", "rate(a[1s])"},
		"the end of a regular expression":      {window(), `a{b=~"c$"}`, `a{b=~"c$"}`},
	} {
		if got, err := of.window.Fill(of.query); err != nil || got != of.want {
			t.Errorf("%s: got %q, %v, want %q", name, got, err, of.want)
		}
	}
}

func TestAVariableThatIsNotKnownIsAnError(t *testing.T) {
	t.Parallel()
	if filled, err := window().Fill(`a{cluster="$cluster"}`); err == nil {
		t.Errorf("got %s", filled)
	}
}

func TestWhatWouldBeDrawnWronglyIsRefused(t *testing.T) {
	t.Parallel()
	for name, text := range map[string]string{
		"a kind of panel":  `{"panels": [{"type": "heatmap", "title": "x"}]}`,
		"a row folded up":  `{"panels": [{"type": "row", "title": "x", "panels": [{"type": "stat"}]}]}`,
		"a transformation": `{"panels": [{"type": "table", "title": "x", "transformations": [{"id": "reduce"}]}]}`,
		"a mapping":        `{"panels": [{"type": "stat", "title": "x", "fieldConfig": {"defaults": {"mappings": [{"type": "special"}]}}}]}`,
		"no JSON":          `{`,
	} {
		if _, err := Read([]byte(text)); err == nil {
			t.Errorf("%s that is not known here was taken", name)
		}
	}
}

func TestASeriesIsNamedByItsLegendOrItsLabels(t *testing.T) {
	t.Parallel()
	labels := map[string]string{"node": "node-a", "phase": "Fencing"}
	for legend, want := range map[string]string{
		"{{node}} ({{ phase }})": "node-a (Fencing)",
		"{{missing}}.":           ".",
		"":                       `{node="node-a", phase="Fencing"}`,
	} {
		if got := (Target{Legend: legend}).Name(labels); got != want {
			t.Errorf("%q: got %q, want %q", legend, got, want)
		}
	}
	if got := (Target{Query: "up"}).Name(nil); got != "up" {
		t.Errorf("got %q", got)
	}
}
