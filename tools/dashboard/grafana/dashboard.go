// Package grafana reads what is drawn here of a dashboard in Grafana's JSON. It asks nobody anything.
package grafana

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
)

// Kinds of panels.
const (
	Row           = "row"
	Stat          = "stat"
	BarGauge      = "bargauge"
	TimeSeries    = "timeseries"
	StateTimeline = "state-timeline"
	Table         = "table"
)

// Dashboard is what is shown on one page.
type Dashboard struct {
	Title       string
	Description string
	Panels      []Panel
}

// Panel shows the answers to its targets.
type Panel struct {
	Type            string
	Title           string
	Grid            Grid `json:"gridPos"`
	Targets         []Target
	Transformations []Transformation
	FieldConfig     struct {
		Defaults  Field
		Overrides []Override
	}
	// Panels are those of a row that is folded up.
	Panels []Panel
}

// Grid is where a panel is; the page is 24 wide.
type Grid struct{ X, Y, W, H int }

// Target is a query.
type Target struct {
	RefID   string `json:"refId"`
	Query   string `json:"expr"`
	Legend  string `json:"legendFormat"`
	Instant bool
}

// Field is how values are shown.
type Field struct {
	Unit       string
	Min        *float64
	Decimals   *int
	Thresholds struct{ Steps []Threshold }
	Mappings   []Mapping
	Custom     struct {
		LineInterpolation string
	}
}

// Threshold gives a colour to values from Value on; the first one has none, and is for all.
type Threshold struct {
	Color string
	Value *float64
}

// Mapping gives words and colours to values.
type Mapping struct {
	Type    string
	Options map[string]Word
}

// Word stands for a value.
type Word struct{ Text, Color string }

// Override says how the values of one column are shown.
type Override struct {
	Matcher struct {
		ID      string
		Options string
	}
	Properties []struct {
		ID    string
		Value any
	}
}

// Transformation changes a table before it is shown.
type Transformation struct {
	ID      string
	Options struct {
		ExcludeByName map[string]bool
		RenameByName  map[string]string
	}
}

// Read reads a dashboard, and refuses what would be drawn wrongly.
func Read(text []byte) (Dashboard, error) {
	var d Dashboard
	if err := json.Unmarshal(text, &d); err != nil {
		return Dashboard{}, err
	}
	for _, panel := range d.Panels {
		if err := panel.known(); err != nil {
			return Dashboard{}, fmt.Errorf("panel %q: %w", panel.Title, err)
		}
	}
	return d, nil
}

func (p Panel) known() error {
	if !slices.Contains([]string{Row, Stat, BarGauge, TimeSeries, StateTimeline, Table}, p.Type) {
		return fmt.Errorf("its type %s is not known here", p.Type)
	}
	if len(p.Panels) > 0 {
		return errors.New("it is folded up")
	}
	for _, transformation := range p.Transformations {
		if transformation.ID != "merge" && transformation.ID != "organize" {
			return fmt.Errorf("its transformation %s is not known here", transformation.ID)
		}
	}
	for _, mapping := range p.FieldConfig.Defaults.Mappings {
		if mapping.Type != "value" {
			return fmt.Errorf("its mapping by %s is not known here", mapping.Type)
		}
	}
	return nil
}

// UnitOf is the unit of a table's column.
func (p Panel) UnitOf(column string) string {
	unit := p.FieldConfig.Defaults.Unit
	for _, override := range p.FieldConfig.Overrides {
		if override.Matcher.ID != "byName" || override.Matcher.Options != column {
			continue
		}
		for _, property := range override.Properties {
			if value, is := property.Value.(string); is && property.ID == "unit" {
				unit = value
			}
		}
	}
	return unit
}

// Column is the name that a table's column is shown with; false if it is not shown.
func (p Panel) Column(name string) (string, bool) {
	for _, transformation := range p.Transformations {
		if transformation.Options.ExcludeByName[name] {
			return "", false
		}
		if renamed := transformation.Options.RenameByName[name]; renamed != "" {
			name = renamed
		}
	}
	return name, true
}

var label = regexp.MustCompile(`{{\s*(\w+)\s*}}`)

// Name of a series that a target got.
func (t Target) Name(labels map[string]string) string {
	if t.Legend != "" {
		return label.ReplaceAllStringFunc(t.Legend, func(found string) string { return labels[label.FindStringSubmatch(found)[1]] })
	}
	if len(labels) == 0 {
		return t.Query
	}
	var all []string
	for _, name := range slices.Sorted(maps.Keys(labels)) {
		all = append(all, fmt.Sprintf("%s=%q", name, labels[name]))
	}
	return "{" + strings.Join(all, ", ") + "}"
}
