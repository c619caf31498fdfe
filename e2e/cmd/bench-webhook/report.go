package main

import (
	"fmt"
	"time"
)

// report collects the rows of the tables.
type report struct {
	memory             []usage
	handlers, creation []string
}

func (r *report) addHandler(failed, pod string, handler, server timing) {
	for _, part := range []struct {
		name   string
		timing timing
	}{{"handler", handler}, {"with the request's and the answer's JSON", server}} {
		t := part.timing
		row := fmt.Sprintf("| %s | %s | %s | %s | %s | %s | %s | %s |", failed, pod, part.name, micros(quantile(t.processor, 0.5)), micros(quantile(t.processor, 0.99)),
			micros(quantile(t.clock, 0.5)), micros(quantile(t.clock, 0.99)), micros(quantile(t.clock, 1)))
		r.handlers = append(r.handlers, row)
		progress("%s", row)
	}
}

func (r *report) addCreations(failed string, ways []way, took map[string][]time.Duration) {
	base, empty := took[ways[0].name], took[ways[1].name]
	for _, way := range ways {
		all := took[way.name]
		row := fmt.Sprintf("| %s | %s | %d | %s | %s | %.2f × | %.2f × |", failed, way.name, len(all), millis(quantile(all, 0.5)), millis(quantile(all, 0.99)),
			ratio(quantile(all, 0.5), quantile(base, 0.5)), ratio(quantile(all, 0.5), quantile(empty, 0.5)))
		r.creation = append(r.creation, row)
		progress("%s", row)
	}
}

func ratio(a, b time.Duration) float64 { return a.Seconds() / max(b.Seconds(), 1e-9) }

func micros(d time.Duration) string { return fmt.Sprintf("%.1f", float64(d)/float64(time.Microsecond)) }
func millis(d time.Duration) string { return fmt.Sprintf("%.2f", float64(d)/float64(time.Millisecond)) }

func (r *report) print() {
	fmt.Println("\n### The handler")
	fmt.Println("\n| failed nodes | pod | what | p50 µs of processor time | p99 µs | p50 µs on the clock | p99 µs | max µs |")
	fmt.Println("|---|---|---|---|---|---|---|---|")
	for _, row := range r.handlers {
		fmt.Println(row)
	}
	fmt.Println("\n### Memory in MiB")
	fmt.Println("\n| command | limit | when | working set | its own | the program's files | heap in use | peak of all | s until ready |")
	fmt.Println("|---|---|---|---|---|---|---|---|---|")
	for _, u := range r.memory {
		fmt.Printf("| %s | %d | %s | %.0f | %.0f | %.0f | %.0f | %.0f | %.0f |\n",
			u.command, limits[u.command], u.when, u.workingSet, u.own, u.file, u.heap, u.peak, u.took.Seconds())
	}
	fmt.Println("\n### Creation of a pod through the API server")
	fmt.Println("\n| failed nodes | admission by | pods | median ms | p99 ms | median against no webhook | against an empty one |")
	fmt.Println("|---|---|---|---|---|---|---|")
	for _, row := range r.creation {
		fmt.Println(row)
	}
}
