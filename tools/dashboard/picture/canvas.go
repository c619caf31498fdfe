package picture

import (
	"bytes"
	"cmp"
	"encoding/xml"
	"fmt"
	"strings"
	"unicode/utf8"
)

// canvas is SVG that is being written.
type canvas struct{ strings.Builder }

func (c *canvas) printf(format string, args ...any) { fmt.Fprintf(c, format, args...) }

type text struct {
	x, y   float64
	size   int // 12 if not given
	bold   bool
	anchor string // start if not given
	fill   string // ink if not given
	what   string
	width  float64 // what is longer is cut; not if not given
}

func (c *canvas) text(t text) {
	size := cmp.Or(t.size, 12)
	weight := ""
	if t.bold {
		weight = ` font-weight="bold"`
	}
	c.printf(`<text x="%.1f" y="%.1f" font-size="%d" text-anchor="%s" fill="%s"%s>`, t.x, t.y, size, cmp.Or(t.anchor, "start"), cmp.Or(t.fill, ink), weight)
	shown := t.what
	if t.width > 0 {
		if shown = fit(t.what, t.width, size); shown != t.what {
			c.printf("<title>%s</title>", escape(t.what))
		}
	}
	c.printf("%s</text>\n", escape(shown))
}

type rect struct {
	x, y, width, height float64
	fill                string
	hint                string // shown to who points at it
}

func (c *canvas) rect(r rect) {
	c.printf(`<rect x="%.1f" y="%.1f" width="%.1f" height="%.1f" fill="%s">`, r.x, r.y, max(r.width, 0), max(r.height, 0), r.fill)
	if r.hint != "" {
		c.printf("<title>%s</title>", escape(r.hint))
	}
	c.printf("</rect>\n")
}

func (c *canvas) line(x1, y1, x2, y2 float64) {
	c.printf(`<path d="M%.1f %.1fL%.1f %.1f" stroke="#e4e5e6"/>`+"\n", x1, y1, x2, y2)
}

// widthOf is about what a text takes: which font there is, nobody knows.
func widthOf(what string, size int) float64 {
	return 0.56 * float64(size) * float64(utf8.RuneCountInString(what))
}

// fit cuts a text that is too long.
func fit(what string, width float64, size int) string {
	if widthOf(what, size) <= width {
		return what
	}
	runes := []rune(what)
	room := max(0, int(width/widthOf("x", size))-1)
	return string(runes[:min(room, len(runes))]) + "…"
}

// escape makes text of what may hold anything.
func escape(what string) string {
	var b bytes.Buffer
	_ = xml.EscapeText(&b, []byte(what)) // a bytes.Buffer takes everything
	return b.String()
}
