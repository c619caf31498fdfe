package picture

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/rbd-rescue/rbd-rescue/tools/dashboard/prometheus"
)

// span is a time with one value.
type span struct {
	from, to time.Time
	value    float64
}

// states are what each series was, and since when: a row each.
func (d drawing) states() {
	const names, row = 230, 34
	field := d.panel.FieldConfig.Defaults
	left, right := 8.0+names, d.width-12
	seen := map[float64]bool{}
	all := d.series()
	for i, series := range all {
		y := titled + 8 + row*float64(i)
		d.text(text{x: left - 8, y: y + 17, anchor: "end", what: series.name, width: names - 8})
		for _, s := range d.spans(series.Points) {
			seen[s.value] = true
			word, on := shown(s.value, field)
			from, to := d.across(s.from, left, right), d.across(s.to, left, right)
			d.rect(rect{x: from, y: y, width: max(to-from, 1), height: 26, fill: on.fill, hint: fmt.Sprintf("%s, %s", word, seconds(s.to.Sub(s.from).Seconds(), nil))})
			if widthOf(word, 11)+8 <= to-from {
				d.text(text{x: from + 4, y: y + 17, size: 11, fill: on.ink, what: word})
			}
		}
	}
	d.times(left, right, titled+8+row*float64(len(all))+8)
	var keys []key
	for _, value := range slices.Sorted(maps.Keys(seen)) {
		word, on := shown(value, field)
		keys = append(keys, key{word, on.fill})
	}
	d.legend(keys)
}

// spans puts together what follows each other and is the same. A value is so until the next one, or for a step.
func (d drawing) spans(points []prometheus.Point) []span {
	var all []span
	for i, point := range points {
		until := point.At.Add(d.window.Step)
		if i+1 < len(points) && !d.broken(point.At, points[i+1].At) {
			until = points[i+1].At
		}
		if last := len(all) - 1; last >= 0 && all[last].value == point.Value && all[last].to.Equal(point.At) {
			all[last].to = until
			continue
		}
		all = append(all, span{point.At, until, point.Value})
	}
	return all
}
