package picture

import (
	"encoding/xml"
	"errors"
	"flag"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rbd-rescue/rbd-rescue/tools/dashboard/grafana"
	"github.com/rbd-rescue/rbd-rescue/tools/dashboard/prometheus"
)

var update = flag.Bool("update", false, "write the pictures anew")

var start = time.Date(2026, 1, 2, 3, 4, 0, 0, time.UTC)

// window has a point every 10 seconds.
func window() grafana.Window {
	return grafana.Window{From: start, To: start.Add(time.Minute), Step: 10 * time.Second, Scrape: 2 * time.Second}
}

func series(labels map[string]string, points ...prometheus.Point) prometheus.Series {
	return prometheus.Series{Labels: labels, Points: points}
}

// from is values from a time on, every 10 seconds.
func from(after time.Duration, values ...float64) []prometheus.Point {
	var points []prometheus.Point
	for i, value := range values {
		points = append(points, prometheus.Point{At: start.Add(after + time.Duration(i)*10*time.Second), Value: value})
	}
	return points
}

func read(t *testing.T, panel string) grafana.Dashboard {
	t.Helper()
	dashboard, err := grafana.Read([]byte(`{"title": "A <b> & more", "description": "All well?", "panels": [` + panel + `]}`))
	if err != nil {
		t.Fatal(err)
	}
	return dashboard
}

const (
	stat = `{"type": "stat", "title": "Ceph <b>answers</b>", "gridPos": {"x": 0, "y": 0, "w": 3, "h": 4}, "targets": [{"refId": "A"}],
		"fieldConfig": {"defaults": {"thresholds": {"steps": [{"color": "red", "value": null}, {"color": "green", "value": 1}]},
		"mappings": [{"type": "value", "options": {"0": {"text": "no", "color": "red"}, "1": {"text": "yes", "color": "green"}}}]}}}`
	lines = `{"type": "timeseries", "title": "Pods", "gridPos": {"x": 0, "y": 0, "w": 8, "h": 8},
		"targets": [{"refId": "A", "legendFormat": "{{result}}"}, {"refId": "B", "legendFormat": "never"}],
		"fieldConfig": {"defaults": {"unit": "reqps", "min": 0, "custom": {"lineInterpolation": "stepAfter"}}}}`
	states = `{"type": "state-timeline", "title": "NodeFences", "gridPos": {"x": 0, "y": 0, "w": 24, "h": 5},
		"targets": [{"refId": "A", "legendFormat": "{{node}}"}],
		"fieldConfig": {"defaults": {"mappings": [{"type": "value", "options": {"3": {"text": "Fencing", "color": "orange"}, "6": {"text": "Recovered", "color": "blue"}}}]}}}`
	bars = `{"type": "bargauge", "title": "How long", "gridPos": {"x": 0, "y": 0, "w": 6, "h": 5}, "targets": [{"refId": "A", "legendFormat": "{{step}}"}],
		"fieldConfig": {"defaults": {"unit": "s", "thresholds": {"steps": [{"color": "blue", "value": null}]}}}}`
	table = `{"type": "table", "title": "NodeFences", "gridPos": {"x": 0, "y": 0, "w": 24, "h": 4}, "targets": [{"refId": "A"}, {"refId": "B"}],
		"transformations": [{"id": "merge"}, {"id": "organize", "options": {"excludeByName": {"Value #A": true}, "renameByName": {"node": "Node", "Value #B": "Ends"}}}],
		"fieldConfig": {"overrides": [{"matcher": {"id": "byName", "options": "Ends"}, "properties": [{"id": "unit", "value": "dateTimeAsIso"}]}]}}`
	folder = `{"type": "row", "title": "Am I protected now?", "gridPos": {"x": 0, "y": 0, "w": 24, "h": 1}}`
)

func TestThePicturesAreAsTheyWere(t *testing.T) {
	t.Parallel()
	node := func(name string) map[string]string { return map[string]string{"nodefence": name + "-1", "node": name} }
	for name, of := range map[string]struct {
		panel   string
		answers [][]prometheus.Series
	}{
		"row":     {folder, nil},
		"stat":    {stat, [][]prometheus.Series{{series(nil, from(time.Minute, 1)...)}}},
		"no-data": {stat, [][]prometheus.Series{nil}},
		"lines-broken-where-nothing-was-seen": {lines, [][]prometheus.Series{{
			series(map[string]string{"result": "idle"}, append(from(0, 0, 1, 2), from(50*time.Second, 2, 0)...)...),
			series(map[string]string{"result": "<flagged>"}, from(20*time.Second, 7)...),
		}, nil}},
		"states": {states, [][]prometheus.Series{{
			series(node("node-a"), from(10*time.Second, 3, 6, 6, 6, 6)...),
			series(node("<node-b>"), append(from(0, 3), from(30*time.Second, 4)...)...),
		}}},
		"bars": {bars, [][]prometheus.Series{{
			series(map[string]string{"step": "fence"}, from(time.Minute, 0.25)...),
			series(map[string]string{"step": "detect"}, from(time.Minute, 90)...),
		}}},
		"table-of-two-queries-merged": {table, [][]prometheus.Series{
			{series(node("node-a"), from(time.Minute, 1)...), series(node("<node-b>"), from(time.Minute, 1)...)},
			{series(map[string]string{"nodefence": "node-a-1"}, from(time.Minute, 2e12)...)},
		}},
		"table-that-is-too-long": {table, [][]prometheus.Series{{
			series(node("a"), from(0, 1)...), series(node("b"), from(0, 1)...), series(node("c"), from(0, 1)...),
			series(node("d"), from(0, 1)...), series(node("e"), from(0, 1)...), series(node("f"), from(0, 1)...),
		}, nil}},
	} {
		got := Draw(read(t, of.panel), window(), Answers{of.answers})
		wellFormed(t, name, got)
		path := filepath.Join("testdata", name+".svg")
		if *update {
			if err := os.WriteFile(path, []byte(got), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if got != string(want) {
			t.Errorf("%s is not as it was (see the difference after go test ./picture -update):\n%s", path, got)
		}
	}
}

// wellFormed reads a picture as XML, in which no text has become an element.
func wellFormed(t *testing.T, name, picture string) {
	t.Helper()
	decoder := xml.NewDecoder(strings.NewReader(picture))
	for {
		token, err := decoder.Token()
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if element, is := token.(xml.StartElement); is && (element.Name.Local == "b" || element.Name.Local == "flagged" || element.Name.Local == "node-b") {
			t.Errorf("%s: the text <%s> has become an element", name, element.Name.Local)
		}
	}
}

func TestEveryPanelWithoutAnAnswerSaysSo(t *testing.T) {
	t.Parallel()
	for _, panel := range []string{stat, lines, states, bars, table} {
		if got := Draw(read(t, panel), window(), Answers{{nil, nil}}); !strings.Contains(got, ">no data<") {
			t.Errorf("got %s", got)
		}
	}
	if got := Draw(read(t, stat), window(), Answers{{{series(nil, from(0, 0)...)}}}); strings.Contains(got, "no data") || !strings.Contains(got, ">no<") {
		t.Errorf("nothing and 0 are not the same, got %s", got)
	}
}

func TestValuesAreShownWithTheirUnit(t *testing.T) {
	t.Parallel()
	none := 0
	for _, of := range []struct {
		value    float64
		unit     string
		decimals *int
		want     string
	}{
		{0, "none", nil, "0"},
		{2.4, "none", &none, "2"},
		{1234.5, "", nil, "1234"},
		{0.25, "s", nil, "250 ms"},
		{0, "s", nil, "0 s"},
		{90, "s", nil, "1.5 min"},
		{89.9 * 24 * 3600, "s", nil, "89.9 days"},
		{-5, "s", nil, "-5 s"},
		{0.012, "reqps", nil, "0.012 req/s"},
		{3, "ops", nil, "3 ops/s"},
		{2e12, "dateTimeAsIso", nil, "2033-05-18 03:33:20"},
		{1, "bytes", nil, "1 bytes"},
	} {
		if got := format(of.value, of.unit, of.decimals); got != of.want {
			t.Errorf("%v %s: got %s, want %s", of.value, of.unit, got, of.want)
		}
	}
}

func TestAxesHaveRoundNumbers(t *testing.T) {
	t.Parallel()
	for value, want := range map[float64]float64{0.25: 0.5, 1: 1, 1.2: 2, 30: 50, 70: 100} {
		if got := roundUp(value); got != want {
			t.Errorf("%v: got %v, want %v", value, got, want)
		}
	}
}

func TestATextThatIsTooLongIsCut(t *testing.T) {
	t.Parallel()
	if got := fit("Größe der Karte", 50, 12); got != "Größe …" {
		t.Errorf("got %q", got)
	}
	if got := fit("short", 50, 12); got != "short" {
		t.Errorf("got %q", got)
	}
}
