package workload

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// AckLog is what one incarnation was told by Ceph.
type AckLog struct {
	Node        string
	Incarnation string
	Acks        []Ack
}

// Ack is one line of the log: a record that was acknowledged, or the first refusal after one.
type Ack struct {
	Seq uint64 `json:"seq"`
	// Sent is when the write began, Time when the answer was seen. A client that froze in between sees it when it thaws.
	Sent time.Time `json:"sent"`
	Time time.Time `json:"time"`
	// Refused is why the write failed; empty if it was acknowledged.
	Refused string `json:"refused,omitempty"`
}

// logName is image.node.incarnation.jsonl; none of the parts has a dot.
func logName(image, node, incarnation string) string {
	return strings.Join([]string{image, node, incarnation, "jsonl"}, ".")
}

// ackWriter appends to a log. Each line is written at once: the writer may be killed at any time.
type ackWriter struct{ file *os.File }

func openAckLog(dir, image, node, incarnation string) (*ackWriter, error) {
	if strings.Contains(image+node, ".") {
		return nil, fmt.Errorf("no log can be named for image %q and node %q: leave out the dots", image, node)
	}
	file, err := os.OpenFile(filepath.Join(dir, logName(image, node, incarnation)), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return nil, fmt.Errorf("opening the log of acknowledgements: %w", err)
	}
	return &ackWriter{file}, nil
}

func (w *ackWriter) write(a Ack) error {
	line, err := json.Marshal(a)
	if err != nil {
		return fmt.Errorf("encoding an acknowledgement: %w", err)
	}
	if _, err := w.file.Write(append(line, '\n')); err != nil {
		return fmt.Errorf("logging an acknowledgement: %w", err)
	}
	return nil
}

// ReadAckLogs reads all logs of an image.
func ReadAckLogs(dir, image string) ([]AckLog, error) {
	paths, err := filepath.Glob(filepath.Join(dir, image+".*.*.jsonl"))
	if err != nil {
		return nil, fmt.Errorf("finding the logs of image %s: %w", image, err)
	}
	var logs []AckLog
	for _, path := range paths {
		parts := strings.Split(filepath.Base(path), ".")
		log := AckLog{Node: parts[1], Incarnation: parts[2]}
		if log.Acks, err = readAcks(path); err != nil {
			return nil, err
		}
		logs = append(logs, log)
	}
	return logs, nil
}

func readAcks(path string) ([]Ack, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("reading a log of acknowledgements: %w", err)
	}
	lines := bytes.Split(data, []byte("\n"))
	var acks []Ack
	for i, line := range lines[:len(lines)-1] { // behind the last newline is what a killed writer did not finish
		var a Ack
		if err := json.Unmarshal(line, &a); err != nil {
			return nil, fmt.Errorf("decoding line %d of %s: %w", i+1, path, err)
		}
		acks = append(acks, a)
	}
	return acks, nil
}
