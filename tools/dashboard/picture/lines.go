package picture

import (
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/rbd-rescue/rbd-rescue/tools/dashboard/prometheus"
)

// lines are values over time.
func (d drawing) lines() {
	all := d.series()
	var keys []key
	for i, series := range all {
		keys = append(keys, key{series.name, colours[i%len(colours)]})
	}
	under := d.legend(keys)
	left, right, top, bottom := 70.0, d.width-12, titled+10.0, d.height-under-24
	low, high, tick := d.scale(all)
	up := func(value float64) float64 { return bottom - (value-low)/(high-low)*(bottom-top) }
	for i := 0; low+float64(i)*tick <= high+tick/2; i++ {
		value := low + float64(i)*tick
		d.line(left, up(value), right, up(value))
		d.text(text{x: left - 6, y: up(value) + 4, size: 10, anchor: "end", fill: grey, what: format(value, d.panel.FieldConfig.Defaults.Unit, nil)})
	}
	d.times(left, right, bottom+16)
	for i, series := range all {
		d.printf(`<path d="%s" fill="none" stroke="%s" stroke-width="2" stroke-linecap="round" stroke-linejoin="round"><title>%s</title></path>`+"\n",
			d.path(series.Points, left, right, up), colours[i%len(colours)], escape(series.name))
	}
}

// path goes through the points. Where some are missing it is broken: nobody knows what was there.
func (d drawing) path(points []prometheus.Point, left, right float64, up func(float64) float64) string {
	stepped := d.panel.FieldConfig.Defaults.Custom.LineInterpolation == "stepAfter"
	var w strings.Builder
	for i, point := range points {
		x, y := d.across(point.At, left, right), up(point.Value)
		switch {
		case i == 0 || d.broken(points[i-1].At, point.At):
			fmt.Fprintf(&w, "M%.1f %.1fh0", x, y) // a point alone is a dot
		case stepped:
			fmt.Fprintf(&w, "H%.1fV%.1f", x, y)
		default:
			fmt.Fprintf(&w, "L%.1f %.1f", x, y)
		}
	}
	return w.String()
}

// broken tells whether points are missing between two.
func (d drawing) broken(one, next time.Time) bool { return next.Sub(one) > d.window.Step*3/2 }

// scale is the lowest and the highest value that is shown, and what is between two lines: round numbers.
func (d drawing) scale(all []named) (low, high, tick float64) {
	low, high = math.Inf(1), math.Inf(-1)
	for _, series := range all {
		for _, point := range series.Points {
			low, high = min(low, point.Value), max(high, point.Value)
		}
	}
	if least := d.panel.FieldConfig.Defaults.Min; least != nil {
		low = *least
	}
	if high <= low {
		high = low + 1
	}
	tick = roundUp((high - low) / 4)
	return math.Floor(low/tick) * tick, math.Ceil(high/tick) * tick, tick
}

// roundUp is 1, 2 or 5 with zeros.
func roundUp(value float64) float64 {
	power := math.Pow(10, math.Floor(math.Log10(value)))
	for _, round := range []float64{1, 2, 5} {
		if value <= round*power {
			return round * power
		}
	}
	return 10 * power
}
