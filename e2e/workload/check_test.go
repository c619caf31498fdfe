package workload

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

var start = time.Date(2026, 11, 23, 3, 0, 0, 0, time.UTC)

// history is an image and its logs, made record by record.
type history struct {
	image []byte
	logs  map[string]*AckLog
	clock time.Time
}

func newHistory() *history {
	return &history{image: make([]byte, 64*RecordSize), logs: map[string]*AckLog{}, clock: start}
}

func (h *history) log(node string) *AckLog {
	if h.logs[node] == nil {
		h.logs[node] = &AckLog{Node: node, Incarnation: "incarnation-" + node}
	}
	return h.logs[node]
}

// writes puts records of a node's writer into the image, acknowledged.
func (h *history) writes(node string, from, to uint64) *history {
	for seq := from; seq < to; seq++ {
		h.lands(node, seq)
		h.log(node).Acks = append(h.log(node).Acks, Ack{Seq: seq, Sent: h.clock, Time: h.clock})
	}
	return h
}

// lands puts a record into the image that was never acknowledged.
func (h *history) lands(node string, seq uint64) *history {
	h.clock = h.clock.Add(time.Millisecond)
	block, err := Record{Seq: seq, Node: node, Incarnation: "incarnation-" + node, Time: h.clock}.Encode()
	if err != nil {
		panic(err)
	}
	copy(h.image[seq*RecordSize:], block)
	return h
}

func (h *history) refused(node string, seq uint64) *history {
	h.log(node).Acks = append(h.log(node).Acks, Ack{Seq: seq, Sent: h.clock, Time: h.clock, Refused: "shutdown"})
	return h
}

func (h *history) spoil(seq uint64) *history {
	h.image[seq*RecordSize+headerSize+3] ^= 1
	return h
}

func (h *history) erase(seq uint64) *history {
	clear(h.image[seq*RecordSize : (seq+1)*RecordSize])
	return h
}

// sendsLate is a write that begins and is acknowledged a second from now, whatever becomes of it.
func (h *history) sendsLate(node string, seq uint64) *history {
	late := h.clock.Add(time.Second)
	h.log(node).Acks = append(h.log(node).Acks, Ack{Seq: seq, Sent: late, Time: late})
	return h
}

// seesAnswerLate is the acknowledgement of a write that was done before anything else, seen a second from now.
func (h *history) seesAnswerLate(node string, seq uint64) *history {
	h.log(node).Acks = append(h.log(node).Acks, Ack{Seq: seq, Sent: start, Time: h.clock.Add(time.Second)})
	return h
}

func TestCheck(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		history *history
		want    string // the problem; empty for none
	}{
		"holds for nothing written":                          {newHistory(), ""},
		"holds for one writer":                               {newHistory().writes("a", 0, 10), ""},
		"holds for a take-over":                              {newHistory().writes("a", 0, 10).refused("a", 10).writes("b", 10, 20), ""},
		"holds for a last write that was not acknowledged":   {newHistory().writes("a", 0, 10).lands("a", 10).writes("b", 11, 20), ""},
		"holds for an answer that a frozen writer sees late": {newHistory().writes("a", 0, 9).lands("a", 9).writes("b", 10, 15).seesAnswerLate("a", 9), ""},
		"fails for an acknowledged record that is missing":   {newHistory().writes("a", 0, 10).erase(9), "record 9 of the writer on a (incarnat) was acknowledged and is missing"},
		"fails for an acknowledged record that is altered":   {newHistory().writes("a", 0, 10).spoil(9), "acknowledged and is missing"},
		"fails for a gap":                                    {newHistory().writes("a", 0, 10).erase(4), "slot 4 holds no whole record"},
		"fails for a record in a wrong place":                {newHistory().writes("a", 0, 10).swap(3, 4), "slot 3 holds record 4"},
		"fails for an old writer's record behind a new one":  {newHistory().writes("a", 0, 10).writes("b", 10, 15).lands("a", 15), "behind the first record of the writer on b"},
		"fails for a new writer's record that is lost to the old one": {
			newHistory().writes("a", 0, 10).writes("b", 10, 15).lands("a", 12), "acknowledged and is overwritten by the writer on a",
		},
		"fails for an old writer that is acknowledged after the new one's first": {
			newHistory().writes("a", 0, 10).writes("b", 10, 15).sendsLate("a", 9), "after the first acknowledgement of the writer on b",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var logs []AckLog
			for _, log := range test.history.logs {
				logs = append(logs, *log)
			}
			report, err := Check(bytes.NewReader(test.history.image), int64(len(test.history.image)), logs)
			if err != nil {
				t.Fatal(err)
			}
			if report.OK != (test.want == "") || !strings.Contains(strings.Join(report.Problems, "\n"), test.want) {
				t.Errorf("want %q, got\n%s", test.want, report)
			}
		})
	}
}

func (h *history) swap(a, b uint64) *history {
	x, y := h.image[a*RecordSize:(a+1)*RecordSize], h.image[b*RecordSize:(b+1)*RecordSize]
	for i := range x {
		x[i], y[i] = y[i], x[i]
	}
	return h
}

// growing is an image to which a writer appends records meanwhile.
type growing struct {
	disk
	next uint64
}

func (g *growing) ReadAt(p []byte, off int64) (int, error) {
	for range 1500 {
		block, err := Record{Seq: g.next, Node: "a", Incarnation: "incarnation-a"}.Encode()
		if err != nil {
			return 0, err
		}
		copy(g.data[g.next*RecordSize:], block)
		g.next++
	}
	return g.disk.ReadAt(p, off)
}

func TestCheckHoldsWhileAWriterIsAtWork(t *testing.T) {
	t.Parallel()
	g := &growing{disk: disk{data: make([]byte, 10*scanRecords*RecordSize+3*RecordSize)}}
	report, err := Check(g, int64(len(g.data)), nil)
	if err != nil || !report.OK {
		t.Fatalf("%v\n%s", err, report)
	}
}

func TestReadAckLogs(t *testing.T) {
	t.Parallel()
	whole := `{"seq":1,"sent":"2026-11-23T03:00:00Z","time":"2026-11-23T03:00:00Z"}` + "\n"
	for name, test := range map[string]struct {
		log   string
		acks  int
		fails bool
	}{
		"leaves out the line that a killed writer did not finish": {whole + whole + `{"seq":2,"sent"`, 2, false},
		"is empty for a writer that was told nothing":             {"", 0, false},
		"fails for a line that is not whole in the middle":        {whole + `{"seq":2,"sent"` + "\n" + whole, 0, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			if err := os.WriteFile(filepath.Join(dir, logName("img", "a", "b")), []byte(test.log), 0o644); err != nil {
				t.Fatal(err)
			}
			logs, err := ReadAckLogs(dir, "img")
			if (err != nil) != test.fails {
				t.Fatalf("error %v", err)
			}
			if err == nil && len(logs[0].Acks) != test.acks {
				t.Errorf("%d acknowledgements, want %d", len(logs[0].Acks), test.acks)
			}
		})
	}
}

func TestWriterLeavesAGapForCheckToFind(t *testing.T) {
	t.Parallel()
	h := newHistory().writes("a", 0, 10).erase(5)
	end, err := (&Writer{Image: &disk{data: h.image}, Size: int64(len(h.image))}).end(context.Background())
	if err != nil || end != 10 {
		t.Errorf("goes on at %d, want 10; %v", end, err)
	}
}

// disk is an image in memory that can be made to refuse writes.
type disk struct {
	lock    sync.Mutex
	data    []byte
	refuses bool
	wrote   chan struct{}
}

func (d *disk) ReadAt(p []byte, off int64) (int, error) {
	d.lock.Lock()
	defer d.lock.Unlock()
	return copy(p, d.data[off:]), nil
}

func (d *disk) WriteAt(p []byte, off int64) (int, error) {
	d.lock.Lock()
	defer d.lock.Unlock()
	select {
	case d.wrote <- struct{}{}:
	default:
	}
	if d.refuses {
		return 0, errors.New("shutdown")
	}
	return copy(d.data[off:], p), nil
}

func TestWriterGoesOnAfterTheLastRecordAndShowsRefusals(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	d := &disk{data: make([]byte, 64*RecordSize), wrote: make(chan struct{})}
	for _, w := range []struct {
		node    string
		refuses bool
	}{{"a", false}, {"b", false}, {"c", true}} {
		d.lock.Lock()
		d.refuses = w.refuses
		d.lock.Unlock()
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error, 1)
		go func() {
			done <- (&Writer{Image: d, Name: "img", Size: int64(len(d.data)), Node: w.node, AckDir: dir}).Run(ctx)
		}()
		for range 3 {
			<-d.wrote
		}
		cancel()
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	}
	logs, err := ReadAckLogs(dir, "img")
	if err != nil || len(logs) != 3 {
		t.Fatalf("%d logs, %v", len(logs), err)
	}
	report, err := Check(d, int64(len(d.data)), logs)
	if err != nil || !report.OK {
		t.Fatalf("%v\n%s", err, report)
	}
	for _, w := range report.Writers {
		if (w.Refused != "") != (w.Node == "c") || (w.Acknowledged > 0) == (w.Node == "c") {
			t.Errorf("writer %+v", w)
		}
	}
}

// slow is a disk whose first write is answered only once it is let go.
type slow struct {
	*disk
	begun, answer chan struct{}
	once          sync.Once
}

func (d *slow) WriteAt(p []byte, off int64) (int, error) {
	n, err := d.disk.WriteAt(p, off)
	d.once.Do(func() {
		close(d.begun)
		<-d.answer
	})
	return n, err
}

// The acknowledgement of a cut-off writer's last write may still be on its way when it is told to end.
func TestWriterThatIsToldToEndDuringAWriteTriesOnceMore(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	d := &slow{disk: &disk{data: make([]byte, 64*RecordSize)}, begun: make(chan struct{}), answer: make(chan struct{})}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		done <- (&Writer{Image: d, Name: "img", Size: int64(len(d.data)), Node: "a", AckDir: dir}).Run(ctx)
	}()
	<-d.begun
	cancel()
	d.lock.Lock()
	d.refuses = true
	d.lock.Unlock()
	close(d.answer)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	logs, err := ReadAckLogs(dir, "img")
	if err != nil {
		t.Fatal(err)
	}
	if acks := logs[0].Acks; len(acks) != 2 || acks[0].Refused != "" || acks[1].Refused == "" {
		t.Errorf("acknowledgements %+v, want one, and a refusal", acks)
	}
}
