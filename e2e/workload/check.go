package workload

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
)

// Report is what Check found.
type Report struct {
	// OK says that the data holds.
	OK bool
	// Problems, each in a sentence.
	Problems []string
	// Writers in the order in which they wrote.
	Writers []WriterReport
}

// WriterReport is one incarnation of a writer.
type WriterReport struct {
	Node, Incarnation string
	// Records of it in the image, and how many of its writes were acknowledged.
	Records, Acknowledged int
	// Refused is why Ceph refused a write of it, and when first; empty if it never did.
	Refused   string
	RefusedAt time.Time
	// First and Last acknowledgement, and when the last acknowledged write was sent.
	First, Last, LastSent time.Time
}

// String is the report for people.
func (r Report) String() string {
	var text strings.Builder
	for _, w := range r.Writers {
		fmt.Fprintf(&text, "  writer on %s (%.8s): %d records, %d acknowledged", w.Node, w.Incarnation, w.Records, w.Acknowledged)
		if !w.First.IsZero() {
			fmt.Fprintf(&text, ", from %s to %s", w.First.Format("15:04:05.000"), w.Last.Format("15:04:05.000"))
		}
		if w.Refused != "" {
			fmt.Fprintf(&text, "; refused from %s on: %s", w.RefusedAt.Format("15:04:05.000"), w.Refused)
		}
		text.WriteString("\n")
	}
	for _, problem := range r.Problems {
		fmt.Fprintf(&text, "  PROBLEM: %s\n", problem)
	}
	if r.OK {
		text.WriteString("  every acknowledged record is there, and none of an old writer lies after a new one's first\n")
	}
	return text.String()
}

// Check proves, from the image and from what its writers were told:
//   - no acknowledged record is missing or altered;
//   - the records have no gap;
//   - once a writer has written, no earlier writer's record lies behind its first one;
//   - no earlier writer's write was sent after its first acknowledgement, and acknowledged all the same.
//
// Writers may be at work meanwhile, if the logs were read before: the image is read from its end to its start, so that a
// record that is seen has all those before it.
func Check(image io.ReaderAt, size int64, logs []AckLog) (Report, error) {
	records, err := readAll(image, size)
	if err != nil {
		return Report{}, err
	}
	c := checker{records: records, writers: map[string]*WriterReport{}}
	c.checkOrder()
	for _, log := range logs {
		c.checkAcks(log)
	}
	c.checkTimes()
	report := Report{OK: len(c.problems) == 0, Problems: c.problems}
	for _, incarnation := range c.order {
		report.Writers = append(report.Writers, *c.writers[incarnation])
	}
	return report, nil
}

// slot is one place for a record.
type slot struct {
	Record
	valid bool
}

// readAll gives the slots up to the last record.
func readAll(image io.ReaderAt, size int64) ([]slot, error) {
	var slots []slot // nil until a record is found
	chunk := make([]byte, scanRecords*RecordSize)
	for start := (size - 1) / int64(len(chunk)) * int64(len(chunk)); start >= 0; start -= int64(len(chunk)) {
		n, err := image.ReadAt(chunk[:min(int64(len(chunk)), size-start)], start)
		if err != nil && !errors.Is(err, io.EOF) {
			return nil, fmt.Errorf("reading the image at %d: %w", start, err)
		}
		for at := n/RecordSize*RecordSize - RecordSize; at >= 0; at -= RecordSize {
			record, valid := Decode(chunk[at : at+RecordSize])
			if slots == nil && valid {
				slots = make([]slot, (start+int64(at))/RecordSize+1)
			}
			if slots != nil {
				slots[(start+int64(at))/RecordSize] = slot{record, valid}
			}
		}
	}
	return slots, nil
}

type checker struct {
	records  []slot
	writers  map[string]*WriterReport
	order    []string // incarnations by their first record
	problems []string
}

// maxProblems keeps a report readable: one fault tends to show in every record after it.
const maxProblems = 10

func (c *checker) problem(format string, args ...any) {
	if len(c.problems) < maxProblems {
		c.problems = append(c.problems, fmt.Sprintf(format, args...))
	}
}

func (c *checker) writer(node, incarnation string) *WriterReport {
	if c.writers[incarnation] == nil {
		c.writers[incarnation] = &WriterReport{Node: node, Incarnation: incarnation}
		c.order = append(c.order, incarnation)
	}
	return c.writers[incarnation]
}

func (c *checker) checkOrder() {
	for i, s := range c.records {
		switch {
		case !s.valid:
			c.problem("slot %d holds no whole record, but a later one does", i)
			continue
		case s.Seq != uint64(i):
			c.problem("slot %d holds record %d", i, s.Seq)
		}
		c.writer(s.Node, s.Incarnation).Records++
		if newest := c.order[len(c.order)-1]; newest != s.Incarnation {
			c.problem("record %d is of the old writer on %s (%.8s), behind the first record of the writer on %s (%.8s)",
				i, s.Node, s.Incarnation, c.writers[newest].Node, newest)
		}
	}
}

func (c *checker) checkAcks(log AckLog) {
	w := c.writer(log.Node, log.Incarnation)
	for _, ack := range log.Acks {
		if ack.Refused != "" {
			if w.Refused == "" {
				w.Refused, w.RefusedAt = ack.Refused, ack.Time
			}
			continue
		}
		w.Acknowledged++
		if w.First.IsZero() {
			w.First = ack.Time
		}
		w.Last, w.LastSent = ack.Time, ack.Sent
		switch {
		case ack.Seq >= uint64(len(c.records)) || !c.records[ack.Seq].valid:
			c.problem("record %d of the writer on %s (%.8s) was acknowledged and is missing", ack.Seq, log.Node, log.Incarnation)
		case c.records[ack.Seq].Incarnation != log.Incarnation:
			c.problem("record %d of the writer on %s (%.8s) was acknowledged and is overwritten by the writer on %s",
				ack.Seq, log.Node, log.Incarnation, c.records[ack.Seq].Node)
		}
	}
}

// checkTimes goes by the time of sending: a client that froze with a write under way logs the answer when it thaws, though
// the write was done before. One that was sent before and done after shows in the records. All writers of the lab have one
// clock.
func (c *checker) checkTimes() {
	slices.SortStableFunc(c.order, func(a, b string) int { return c.writers[a].First.Compare(c.writers[b].First) })
	for i, incarnation := range c.order {
		for _, later := range c.order[i+1:] {
			w, next := c.writers[incarnation], c.writers[later]
			if w.Acknowledged > 0 && next.Acknowledged > 0 && w.LastSent.After(next.First) {
				c.problem("a write of the writer on %s (%.8s) was sent at %s and acknowledged, after the first acknowledgement of the writer on %s (%.8s) at %s",
					w.Node, incarnation, w.LastSent.Format("15:04:05.000"), next.Node, later, next.First.Format("15:04:05.000"))
			}
		}
	}
}
