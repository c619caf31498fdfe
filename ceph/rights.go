package ceph

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"syscall"
	"time"
)

// BlocklistRights are what the user may do to the blocklist.
type BlocklistRights struct {
	// Word is what the cluster calls it: "blocklist", or "blacklist" before Ceph 16; empty if it did not answer.
	Word string
	// Add and Remove are nil if the user may; EACCES if it may not.
	Add, Remove error
}

const (
	// nobodys is an address that no host can have (RFC 5737): its entry is none, and to remove it changes nothing.
	nobodys = "192.0.2.1:0/1"
	// noAddress passes for an address in a cap's pattern, and can't be read as one: after the caps, the monitors refuse it.
	noAddress = "nobody:0/1"
)

// TryBlocklist finds out what the user may do to the blocklist, and changes nothing: the monitors look at the caps before they look
// at what is asked for.
func (c *Cluster) TryBlocklist(ctx context.Context) BlocklistRights {
	var rights BlocklistRights
	for _, word := range []string{"blocklist", "blacklist"} {
		rights.Word = word
		rights.Remove = c.try(ctx, word, "rm", nobodys)
		if !errors.Is(rights.Remove, syscall.EINVAL) { // a command that the cluster does not have
			break
		}
	}
	if rights.Add = c.try(ctx, rights.Word, "add", noAddress); errors.Is(rights.Add, syscall.EINVAL) {
		rights.Add = nil
	}
	return rights
}

func (c *Cluster) try(ctx context.Context, word, operation, address string) error {
	text, err := json.Marshal(map[string]string{"prefix": "osd " + word, word + "op": operation, "addr": address})
	if err != nil {
		return fmt.Errorf("encoding the command: %w", err)
	}
	_, err = c.conn.MonCommand(ctx, text)
	return err
}

// TrySnapshots finds out whether the user may take snapshots of the pool's images, and changes nothing: it asks to write to an
// image's header that is not there.
func (c *Cluster) TrySnapshots(ctx context.Context, pool PoolRef) error {
	if err := c.conn.TryWrite(ctx, pool.Pool, pool.Namespace, "rbd_header.tried-by-rbd-rescue-doctor"); err != nil {
		return fmt.Errorf("trying to write to the header of an image in pool %s: %w", pool.Pool, err)
	}
	return nil
}

// Time is the cluster's clock: when the newest entry of its log was written. Managers write one every two seconds, so that it is
// a few seconds old at most; zero if the log is empty, or of a Ceph before 15, which does not tell the zone. It needs mon 'allow r'.
func (c *Cluster) Time(ctx context.Context) (time.Time, error) {
	out, err := c.conn.MonCommand(ctx, []byte(`{"prefix":"log last","num":1,"level":"debug","channel":"cluster","format":"json"}`))
	if err != nil {
		return time.Time{}, fmt.Errorf("reading the cluster's time: %w", err)
	}
	var entries []struct {
		Stamp string `json:"stamp"`
	}
	if err := json.Unmarshal(out, &entries); err != nil {
		return time.Time{}, fmt.Errorf("reading the cluster's time: decoding the answer of log last: %w", err)
	}
	if len(entries) == 0 {
		return time.Time{}, nil
	}
	stamp := entries[len(entries)-1].Stamp
	newest, err := time.Parse("2006-01-02T15:04:05.999999999-0700", stamp)
	if _, zoneless := time.Parse("2006-01-02 15:04:05.999999999", stamp); err != nil && zoneless != nil {
		return time.Time{}, fmt.Errorf("reading the cluster's time: %w", err)
	}
	return newest, nil
}
