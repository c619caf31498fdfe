// Package picture draws a dashboard and what Prometheus answered as an SVG. It is pure: the same answers make the same picture.
package picture

import (
	"fmt"
	"time"

	"github.com/rbd-rescue/rbd-rescue/tools/dashboard/grafana"
	"github.com/rbd-rescue/rbd-rescue/tools/dashboard/prometheus"
)

// Answers are, for each panel of a dashboard, those to each of its targets.
type Answers [][][]prometheus.Series

// Sizes: the page is 24 cells wide.
const (
	cellWidth, cellHeight = 50, 32
	gap, header           = 4, 62
	pageWidth             = 24 * cellWidth
	// titled is what a panel's title takes.
	titled = 28
)

// Draw makes the picture.
func Draw(dashboard grafana.Dashboard, window grafana.Window, answers Answers) string {
	height := header
	for _, panel := range dashboard.Panels {
		height = max(height, header+cellHeight*(panel.Grid.Y+panel.Grid.H)+gap)
	}
	var c canvas
	c.printf(`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" width="%d" height="%d" font-family="sans-serif" font-size="12" role="img">`+"\n",
		pageWidth, height, pageWidth, height)
	about := fmt.Sprintf("%s, %s to %s UTC", dashboard.Title, window.From.UTC().Format(time.DateTime), window.To.UTC().Format(time.DateTime))
	c.printf("<title>%s</title>\n", escape(about))
	c.printf(`<rect width="100%%" height="100%%" fill="#f4f5f5"/>` + "\n")
	c.text(text{x: 10, y: 26, size: 18, bold: true, what: about})
	c.text(text{x: 10, y: 48, fill: grey, what: dashboard.Description + " Drawn from a Prometheus' answers to the dashboard's queries; not a screenshot of Grafana."})
	for i, panel := range dashboard.Panels {
		g := panel.Grid
		c.printf(`<svg x="%d" y="%d" width="%d" height="%d">`+"\n",
			g.X*cellWidth+gap, header+g.Y*cellHeight+gap, g.W*cellWidth-2*gap, g.H*cellHeight-2*gap)
		drawing{
			canvas: &c, panel: panel, window: window, answers: answers[i],
			width: float64(g.W*cellWidth - 2*gap), height: float64(g.H*cellHeight - 2*gap),
		}.draw()
		c.printf("</svg>\n")
	}
	c.printf("</svg>\n")
	return c.String()
}

// drawing is a panel with its place on the page, which cuts off what is larger.
type drawing struct {
	*canvas
	panel         grafana.Panel
	window        grafana.Window
	answers       [][]prometheus.Series // by target
	width, height float64
}

func (d drawing) draw() {
	if d.panel.Type == grafana.Row {
		d.text(text{x: 2, y: 17, size: 14, bold: true, what: d.panel.Title})
		return
	}
	d.printf(`<rect x="0.5" y="0.5" width="%.0f" height="%.0f" rx="2" fill="#ffffff" stroke="#d8d9da"/>`+"\n", d.width-1, d.height-1)
	if d.empty() {
		d.title(ink)
		d.text(text{x: d.width / 2, y: (d.height+titled)/2 + 2, anchor: "middle", fill: grey, what: "no data"})
		return
	}
	switch d.panel.Type {
	case grafana.Stat:
		d.stat()
		return
	case grafana.BarGauge:
		d.bars()
	case grafana.TimeSeries:
		d.lines()
	case grafana.StateTimeline:
		d.states()
	case grafana.Table:
		d.table()
	}
	d.title(ink)
}

func (d drawing) title(fill string) {
	d.text(text{x: 8, y: 18, bold: true, fill: fill, what: d.panel.Title, width: d.width - 16})
}

func (d drawing) empty() bool {
	for _, series := range d.answers {
		if len(series) > 0 {
			return false
		}
	}
	return true
}

// named is a series with the name that it is shown with.
type named struct {
	prometheus.Series
	name string
}

func (d drawing) series() []named {
	var all []named
	for i, answer := range d.answers {
		for _, series := range answer {
			all = append(all, named{series, d.panel.Targets[i].Name(series.Labels)})
		}
	}
	return all
}

// across is where a time is between two places.
func (d drawing) across(at time.Time, left, right float64) float64 {
	share := at.Sub(d.window.From).Seconds() / d.window.To.Sub(d.window.From).Seconds()
	return left + min(1, max(0, share))*(right-left)
}

// times writes the hours below what goes from left to right.
func (d drawing) times(left, right, y float64) {
	const parts = 4
	for i := range parts + 1 {
		share := float64(i) / parts
		anchor := "middle"
		switch i {
		case 0:
			anchor = "start"
		case parts:
			anchor = "end"
		}
		at := d.window.From.Add(time.Duration(share * float64(d.window.To.Sub(d.window.From))))
		d.text(text{x: left + share*(right-left), y: y, size: 10, anchor: anchor, fill: grey, what: at.UTC().Format(time.TimeOnly)})
	}
}

// key is one entry of a legend.
type key struct{ name, colour string }

const keyHeight = 16

// legend writes what the colours mean at the bottom, in as many lines as it takes, and returns how much that takes.
func (d drawing) legend(keys []key) float64 {
	var lines [][]key
	x := d.width
	for _, k := range keys {
		if x += keyWidth(k); x > d.width-8 {
			lines = append(lines, nil)
			x = 8 + keyWidth(k)
		}
		lines[len(lines)-1] = append(lines[len(lines)-1], k)
	}
	taken := keyHeight * float64(len(lines))
	for i, line := range lines {
		x, y := 8.0, d.height-taken+keyHeight*float64(i)
		for _, k := range line {
			d.rect(rect{x: x, y: y + 1, width: 10, height: 4, fill: k.colour})
			d.text(text{x: x + 14, y: y + 8, size: 11, what: k.name, width: d.width - 30})
			x += keyWidth(k)
		}
	}
	return taken
}

func keyWidth(k key) float64 { return widthOf(k.name, 11) + 28 }
