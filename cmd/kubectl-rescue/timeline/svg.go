package timeline

import (
	"bytes"
	"encoding/xml"
	"fmt"
	"io"
	"strings"
)

// Sizes in the picture.
const (
	nameWidth, drawn, endWidth = 260, 600, 260
	rowHeight, top             = 24, 64
)

// colours of the spans, told apart by lightness, too.
var colours = map[Kind]string{
	NotReady: "#c9c9c9", Fencing: "#e8a33d", Fenced: "#8c2d19", Waiting: "#c9c9c9", Releasing: "#e8a33d", Attaching: "#7db7d8",
	Starting: "#3c78a8", Running: "#3f8f4f",
}

// order of the legend.
var order = []Kind{NotReady, Fencing, Fenced, Waiting, Releasing, Attaching, Starting, Running}

// SVG writes the timeline as a picture.
func (t Timeline) SVG(to io.Writer) error {
	var w strings.Builder
	width, bottom := nameWidth+drawn+endWidth, top+rowHeight*len(t.Bars)
	fmt.Fprintf(&w, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" width="%d" height="%d" font-family="sans-serif" font-size="12" role="img">`+"\n",
		width, bottom+56, width, bottom+56)
	fmt.Fprintf(&w, "<title>%s</title>\n<rect width=\"100%%\" height=\"100%%\" fill=\"#ffffff\"/>\n", escape(t.title()))
	text(&w, 8, 20, "start", t.title())
	text(&w, nameWidth, top-14, "start", "0 s")
	text(&w, nameWidth+drawn, top-14, "end", seconds(t.To.Sub(t.From)))
	for i, b := range t.Bars {
		y := top + rowHeight*i
		text(&w, nameWidth-8, y+14, "end", b.Name)
		for _, s := range b.Spans {
			from, until := t.share(s.From)*drawn, t.share(s.To)*drawn
			fmt.Fprintf(&w, `<rect x="%.1f" y="%d" width="%.1f" height="16" fill="%s"><title>%s, %s</title></rect>`+"\n",
				nameWidth+from, y+2, max(until-from, 1), colours[s.Kind], escape(string(s.Kind)), seconds(s.To.Sub(s.From)))
		}
		text(&w, nameWidth+drawn+8, y+14, "start", b.End)
	}
	for i, kind := range order {
		x, y := nameWidth+150*(i%4), bottom+14+18*(i/4)
		fmt.Fprintf(&w, `<rect x="%d" y="%d" width="10" height="10" fill="%s"/>`+"\n", x, y, colours[kind])
		text(&w, x+15, y+9, "start", string(kind))
	}
	w.WriteString("</svg>\n")
	_, err := io.WriteString(to, w.String())
	return err
}

func text(w *strings.Builder, x, y int, anchor, what string) {
	fmt.Fprintf(w, `<text x="%d" y="%d" text-anchor="%s">%s</text>`+"\n", x, y, anchor, escape(what))
}

// escape makes text of what may hold anything: names of claims come from users.
func escape(what string) string {
	var b bytes.Buffer
	_ = xml.EscapeText(&b, []byte(what)) // a bytes.Buffer takes everything
	return b.String()
}

// HTML writes the picture and its moments as a page of its own, for a post-mortem.
func (t Timeline) HTML(to io.Writer) error {
	var w strings.Builder
	fmt.Fprintf(&w, "<!DOCTYPE html>\n<html lang=\"en\">\n<head><meta charset=\"utf-8\"><title>%s</title>\n"+
		"<style>body{font-family:sans-serif;margin:2em}td{padding:.1em 1em .1em 0}svg{max-width:100%%}</style></head>\n<body>\n<h1>%s</h1>\n<p>%s</p>\n",
		escape(t.title()), escape(t.title()), escape(t.Message))
	if err := t.SVG(&w); err != nil {
		return err
	}
	w.WriteString("<table>\n")
	for _, m := range t.Moments {
		fmt.Fprintf(&w, "<tr><td>+%s</td><td>%s</td><td>%s</td></tr>\n", seconds(m.At.Sub(t.From)), m.At.UTC().Format("2006-01-02 15:04:05.000"), escape(m.What))
	}
	w.WriteString("</table>\n</body>\n</html>\n")
	_, err := io.WriteString(to, w.String())
	return err
}
