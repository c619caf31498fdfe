package grafana

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// Window is the time that is shown.
type Window struct {
	From, To time.Time
	// Step is the time between two points of a line.
	Step time.Duration
	// Scrape is how often Prometheus looks.
	Scrape time.Duration
}

var variable = regexp.MustCompile(`\$(\w+|{[^}]*})`)

// Fill puts Grafana's own variables into a query. The rate's interval is what Grafana makes of it: at least four scrapes, so that a
// rate always has two points.
func (w Window) Fill(query string) (string, error) {
	span := w.To.Sub(w.From)
	known := map[string]string{
		"__interval":      duration(w.Step),
		"__interval_ms":   strconv.FormatInt(w.Step.Milliseconds(), 10),
		"__rate_interval": duration(max(w.Step+w.Scrape, 4*w.Scrape)),
		"__range":         duration(span.Round(time.Second)),
		"__range_s":       strconv.FormatInt(int64(span.Round(time.Second)/time.Second), 10),
		"__range_ms":      strconv.FormatInt(span.Milliseconds(), 10),
	}
	var unknown error
	filled := variable.ReplaceAllStringFunc(query, func(found string) string {
		value, is := known[strings.Trim(found, "${}")]
		if !is {
			unknown = fmt.Errorf("variable %s is not known here: %s", found, query)
		}
		return value
	})
	return filled, unknown
}

// duration as PromQL has it.
func duration(d time.Duration) string {
	if d%time.Second == 0 {
		return fmt.Sprintf("%ds", d/time.Second)
	}
	return fmt.Sprintf("%dms", d.Milliseconds())
}
