package workload

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/google/uuid"
)

const (
	writeEvery  = 20 * time.Millisecond
	retryEvery  = 100 * time.Millisecond
	scanRecords = 2048
)

// Image is what a writer needs of a volume.
type Image interface {
	io.ReaderAt
	io.WriterAt
}

// Writer appends records to one image until its context ends, and then one more, as an application flushes when it is told to
// end: the last answer before may be of a write from before a cut, and only a write after it shows what Ceph says now. A write
// error does not end it: like an application that does not look, it tries on and on, so that what Ceph refuses can be seen.
type Writer struct {
	// Image to write to, called Name in the log.
	Image Image
	Name  string
	// Size of the image in bytes.
	Size int64
	// Node that it runs on.
	Node string
	// AckDir is where the log of acknowledgements goes.
	AckDir string
}

// Run goes on after the last record that it finds, as a journal does.
func (w *Writer) Run(ctx context.Context) error {
	incarnation := uuid.NewString()
	log, err := openAckLog(w.AckDir, w.Name, w.Node, incarnation)
	if err != nil {
		return err
	}
	defer log.file.Close() //nolint:errcheck // every line is written at once
	seq, err := w.end(ctx)
	if err != nil || ctx.Err() != nil {
		return err
	}
	refused := ""
	for int64(seq+1)*RecordSize <= w.Size {
		last := ctx.Err() != nil
		sent := time.Now()
		block, err := Record{Seq: seq, Node: w.Node, Incarnation: incarnation, Time: sent}.Encode()
		if err != nil {
			return err
		}
		pause := writeEvery
		if _, err := w.Image.WriteAt(block, int64(seq)*RecordSize); err != nil {
			if err.Error() != refused {
				refused = err.Error()
				if err := log.write(Ack{Seq: seq, Sent: sent, Time: time.Now(), Refused: refused}); err != nil {
					return err
				}
			}
			pause = retryEvery
		} else {
			refused = ""
			if err := log.write(Ack{Seq: seq, Sent: sent, Time: time.Now()}); err != nil {
				return err
			}
			seq++
		}
		if last {
			return nil
		}
		select {
		case <-ctx.Done():
		case <-time.After(pause):
		}
	}
	return errors.New("the image is full")
}

// end is the slot behind the last record; a gap before it stays, for Check to find.
func (w *Writer) end(ctx context.Context) (uint64, error) {
	end := uint64(0)
	buffer := make([]byte, scanRecords*RecordSize)
	for at := int64(0); at < w.Size && ctx.Err() == nil; at += int64(len(buffer)) {
		n, err := w.Image.ReadAt(buffer[:min(int64(len(buffer)), w.Size-at)], at)
		if err != nil && !errors.Is(err, io.EOF) {
			return 0, fmt.Errorf("looking for the last record: %w", err)
		}
		for i := 0; i+RecordSize <= n; i += RecordSize {
			if _, ok := Decode(buffer[i : i+RecordSize]); ok {
				end = uint64(at+int64(i))/RecordSize + 1
			}
		}
	}
	return end, nil
}
