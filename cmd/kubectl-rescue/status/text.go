package status

import (
	"cmp"
	"fmt"
	"io"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/util/duration"
	"k8s.io/cli-runtime/pkg/printers"
)

// Text writes it for people; wide has more columns, and lists what is not protected.
func (s Status) Text(to io.Writer, wide bool) error {
	var w strings.Builder
	fmt.Fprintln(&w, s.headline())
	for _, note := range s.Notes {
		fmt.Fprintln(&w, "Note:", note)
	}
	s.nodesText(&w, wide)
	if len(s.Waiting) > 0 {
		rows := [][]string{{"WAITING POD", "GATED", "FOR"}}
		for _, p := range s.Waiting {
			rows = append(rows, []string{p.Namespace + "/" + p.Name, yesNo(p.Gated), cmp.Or(strings.Join(p.WaitsFor, "; "), "-")})
		}
		table(&w, rows)
	}
	s.Protection.text(&w, wide)
	_, err := io.WriteString(to, w.String())
	return err
}

func (s Status) headline() string {
	b := s.Breaker
	breaker := fmt.Sprintf("Breaker: closed (%d of %d nodes failed, %d not Ready, %d just back; limit %s)", b.Failed, b.Nodes, b.NotReady, b.Returned, b.MaxFailedNodes)
	if b.Open {
		breaker = strings.Replace(breaker, "closed", "OPEN, nothing new is fenced", 1)
	}
	return breaker + "\n" + "Paused:  " + pauseText(s.Paused)
}

func pauseText(p *Pause) string {
	if p == nil {
		return "no"
	}
	text := "yes"
	if p.By != "" {
		text += ", by " + p.By
	}
	if p.Reason != "" {
		text += ": " + p.Reason
	}
	return text
}

func (s Status) nodesText(w *strings.Builder, wide bool) {
	if len(s.Nodes) == 0 {
		fmt.Fprintln(w, "\nNo node has failed, is fenced or is paused.")
		return
	}
	rows := [][]string{{"NODE", "STATE", "SINCE", "NODEFENCE", "PHASE", "RECOVERED", "PAUSED"}}
	if wide {
		rows[0] = append(rows[0], "CLIENTS")
	}
	for _, n := range s.Nodes {
		since := "-"
		if n.Since != nil {
			since = age(s.At, n.Since.Time)
		}
		fence := Fence{Name: "-", Phase: "-", Progress: "-"}
		if n.Fence != nil {
			fence = *n.Fence
		}
		row := []string{n.Name, n.State, since, fence.Name, cmp.Or(fence.Phase, "-"), cmp.Or(fence.Progress, "-"), pauseText(n.Paused)}
		if wide {
			row = append(row, cmp.Or(strings.Join(fence.Clients, ","), "-"))
		}
		rows = append(rows, row)
	}
	table(w, rows)
	for _, n := range s.Nodes {
		if n.Next != "" {
			fmt.Fprintf(w, "\n%s: %s\n", n.Name, n.Next)
		}
		volumesText(w, n, wide)
	}
}

func volumesText(w *strings.Builder, n Node, wide bool) {
	if len(n.Volumes) == 0 {
		return
	}
	rows := [][]string{{"CLAIM", "PHASE", "RUNS ON", "WAITS FOR"}}
	if wide {
		rows[0] = []string{"CLAIM", "PERSISTENTVOLUME", "IMAGE", "PHASE", "REASON", "RUNS ON", "WAITS FOR"}
	}
	for _, v := range n.Volumes {
		row := []string{cmp.Or(v.Claim, "-"), v.Phase, cmp.Or(v.RecoveredOn, "-"), cmp.Or(v.WaitsFor, "-")}
		if wide {
			row = []string{cmp.Or(v.Claim, "-"), v.PersistentVolume, cmp.Or(v.Image, "-"), v.Phase, cmp.Or(v.Reason, "-"), cmp.Or(v.RecoveredOn, "-"), cmp.Or(v.WaitsFor, "-")}
		}
		rows = append(rows, row)
	}
	table(w, rows)
}

func (p Protection) text(w *strings.Builder, wide bool) {
	fmt.Fprintf(w, "\nAttached RBD volumes: %d; %d with a fresh record in mode rescue, %d in mode observe, %d without a fresh record, %d in namespaces that did not opt in\n",
		p.Attached, p.Recorded, p.Observed, len(p.Unrecorded), len(p.NotOptedIn))
	list := p.Unrecorded
	if wide {
		list = append(append([]Unprotected{}, list...), p.NotOptedIn...)
	}
	if len(list) == 0 {
		return
	}
	rows := [][]string{{"NOT PROTECTED", "NODE", "WHY"}}
	for _, u := range list {
		rows = append(rows, []string{u.Claim, u.Node, u.Why})
	}
	table(w, rows)
}

// table writes rows in columns, after a blank line.
func table(w *strings.Builder, rows [][]string) {
	w.WriteByte('\n')
	columns := printers.GetNewTabWriter(w)
	for _, row := range rows {
		fmt.Fprintln(columns, strings.Join(row, "\t"))
	}
	_ = columns.Flush() // a strings.Builder takes everything
}

func age(now, then time.Time) string { return duration.HumanDuration(now.Sub(then)) }

func yesNo(is bool) string {
	if is {
		return "yes"
	}
	return "no"
}
