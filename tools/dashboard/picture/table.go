package picture

import (
	"fmt"
	"maps"
	"slices"
)

// row of a table, by column: labels as they are, values as they are shown.
type row map[string]string

// table has a row for each series, and its labels as columns; those of several targets are merged.
func (d drawing) table() {
	columns, rows := d.merged()
	const line = 22
	width := (d.width - 16) / float64(max(1, len(columns)))
	room := int((d.height-titled)/line) - 1
	for i, column := range columns {
		x := 8 + width*float64(i)
		d.text(text{x: x, y: titled + 14, bold: true, fill: grey, what: column, width: width - 8})
		for j, r := range rows[:min(room, len(rows))] {
			d.text(text{x: x, y: titled + 14 + line*float64(j+1), what: r[column], width: width - 8})
		}
	}
	for j := range min(room, len(rows)) {
		d.line(8, titled+20+line*float64(j), d.width-8, titled+20+line*float64(j))
	}
	if more := len(rows) - room; more > 0 {
		d.text(text{x: d.width - 8, y: 18, anchor: "end", fill: grey, what: fmt.Sprintf("and %d more", more)})
	}
}

// merged are the columns that are shown and the rows: series of two targets with the same values in all columns that both have
// are one row.
func (d drawing) merged() (columns []string, rows []row) {
	var values []string
	for i, answer := range d.answers {
		target := d.panel.Targets[i]
		value, valued := d.panel.Column("Value #" + target.RefID)
		var added []row
		for _, series := range answer {
			r := row{}
			for _, name := range slices.Sorted(maps.Keys(series.Labels)) {
				if column, is := d.panel.Column(name); is {
					r[column] = series.Labels[name]
					columns = with(columns, column)
				}
			}
			if valued {
				r[value] = format(series.Last(), d.panel.UnitOf(value), nil)
				values = with(values, value)
			}
			if !join(rows, r) {
				added = append(added, r)
			}
		}
		rows = append(rows, added...)
	}
	return append(columns, values...), rows
}

// join adds a row to those that it belongs to.
func join(rows []row, r row) bool {
	joined := false
	for _, other := range rows {
		if belongs(other, r) {
			maps.Copy(other, r)
			joined = true
		}
	}
	return joined
}

func belongs(one, other row) bool {
	common := false
	for column, value := range one {
		if theirs, both := other[column]; both {
			if theirs != value {
				return false
			}
			common = true
		}
	}
	return common
}

func with(columns []string, column string) []string {
	if slices.Contains(columns, column) {
		return columns
	}
	return append(columns, column)
}
