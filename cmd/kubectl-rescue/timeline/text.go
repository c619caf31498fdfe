package timeline

import (
	"fmt"
	"io"
	"strings"
	"time"
)

// barWidth is how many characters a bar has in a terminal.
const barWidth = 60

// signs are the characters of a bar.
var signs = map[Kind]byte{
	NotReady: '.', Fencing: 'f', Fenced: '#', Waiting: '.', Releasing: 'r', Attaching: 'a', Starting: 's', Running: '=',
}

const legend = "node: . not ready  f fencing  # fenced    claim: . waiting for the fence  r releasing  a attaching  s starting  = running elsewhere"

// Text writes the timeline for a terminal.
func (t Timeline) Text(to io.Writer) error {
	var w strings.Builder
	fmt.Fprintf(&w, "%s\n", t.title())
	if t.Message != "" {
		fmt.Fprintln(&w, t.Message)
	}
	w.WriteByte('\n')
	for _, m := range t.Moments {
		fmt.Fprintf(&w, "%10s  %s  %s\n", "+"+seconds(m.At.Sub(t.From)), m.At.UTC().Format("15:04:05.000"), m.What)
	}
	width := 0
	for _, b := range t.Bars {
		width = max(width, len(b.Name))
	}
	fmt.Fprintf(&w, "\n%-*s  %-*s%s\n", width, "", barWidth, "0 s", seconds(t.To.Sub(t.From)))
	for _, b := range t.Bars {
		fmt.Fprintln(&w, strings.TrimRight(fmt.Sprintf("%-*s |%s| %s", width, b.Name, t.line(b), b.End), " "))
	}
	fmt.Fprintf(&w, "\n%s\n", legend)
	_, err := io.WriteString(to, w.String())
	return err
}

func (t Timeline) title() string {
	state := t.Phase
	if t.UnderWay {
		state += ", still under way"
	}
	return fmt.Sprintf("NodeFence %s of node %s, from %s: %s", t.NodeFence, t.Node, t.From.UTC().Format(time.RFC3339), state)
}

// line draws a bar; a span that is too short to be seen gets one character.
func (t Timeline) line(b Bar) string {
	cells := []byte(strings.Repeat(" ", barWidth))
	for _, s := range b.Spans {
		from := min(int(t.share(s.From)*barWidth), barWidth-1)
		to := max(int(t.share(s.To)*barWidth), from+1)
		for i := from; i < min(to, barWidth); i++ {
			cells[i] = signs[s.Kind]
		}
	}
	return string(cells)
}

// share is where a time lies between the ends of the bars, 0 to 1.
func (t Timeline) share(at time.Time) float64 {
	whole := t.To.Sub(t.From)
	if whole <= 0 {
		return 0
	}
	return min(max(float64(at.Sub(t.From))/float64(whole), 0), 1)
}
