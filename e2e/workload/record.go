// Package workload is what the lab's applications do with their volumes, made to prove a take-over: a writer appends
// numbered, checksummed records to the image and logs, outside of it, which of them were acknowledged; Check reads the
// image back and tells whether every acknowledged record is there and no record of an old writer lies after a new one's.
package workload

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"time"
)

// RecordSize is the bytes that one record takes; record n lies at n*RecordSize.
const RecordSize = 512

const headerSize = 16

var (
	magic      = []byte("RBDRESC1")
	castagnoli = crc32.MakeTable(crc32.Castagnoli)
)

// Record is one thing that an application wrote.
type Record struct {
	// Seq counts from 0 and is the record's slot as well.
	Seq uint64 `json:"seq"`
	// Node and Incarnation say which writer wrote it; an incarnation is one start of one writer.
	Node        string    `json:"node"`
	Incarnation string    `json:"incarnation"`
	Time        time.Time `json:"time"`
}

// Encode gives the record's block.
func (r Record) Encode() ([]byte, error) {
	text, err := json.Marshal(r)
	if err != nil {
		return nil, fmt.Errorf("encoding record %d: %w", r.Seq, err)
	}
	if len(text) > RecordSize-headerSize {
		return nil, fmt.Errorf("record %d takes %d bytes, more than fit", r.Seq, len(text))
	}
	block := make([]byte, RecordSize)
	copy(block, magic)
	binary.LittleEndian.PutUint32(block[8:], crc32.Checksum(text, castagnoli))
	binary.LittleEndian.PutUint32(block[12:], uint32(len(text)))
	copy(block[headerSize:], text)
	return block, nil
}

// Decode reads a block; false if it holds no whole record.
func Decode(block []byte) (Record, bool) {
	if len(block) < RecordSize || !bytes.Equal(block[:8], magic) {
		return Record{}, false
	}
	length := binary.LittleEndian.Uint32(block[12:])
	if length > RecordSize-headerSize {
		return Record{}, false
	}
	text := block[headerSize : headerSize+length]
	var r Record
	if crc32.Checksum(text, castagnoli) != binary.LittleEndian.Uint32(block[8:]) || json.Unmarshal(text, &r) != nil {
		return Record{}, false
	}
	return r, true
}
