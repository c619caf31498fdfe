package ceph

import (
	"context"
	"encoding/json"
	"fmt"
	"time"
)

// OSDMap is what rbd-rescue reads of the cluster's map: the fence and the epoch that holds it come from one answer.
type OSDMap struct {
	Epoch uint32
	FSID  string
	// Blocklist says until when each client is cut off.
	Blocklist map[Address]time.Time
	Pools     map[string]Pool
}

// Pool is one pool of the map.
type Pool struct {
	Name string
	// PlacementGroups is pg_num.
	PlacementGroups uint32
	// Hash is how object names become placement groups; rjenkins for every pool that `ceph osd pool create` makes.
	Hash int
}

// hashRJenkins is CEPH_STR_HASH_RJENKINS.
const hashRJenkins = 2

// ReadOSDMap asks the monitors for the map. It needs mon 'allow r'.
func (c *Cluster) ReadOSDMap(ctx context.Context) (OSDMap, error) {
	out, err := c.conn.MonCommand(ctx, []byte(`{"prefix":"osd dump","format":"json"}`))
	if err != nil {
		return OSDMap{}, fmt.Errorf("reading the OSD map: %w", err)
	}
	m, err := parseOSDMap(out)
	if err != nil {
		return OSDMap{}, fmt.Errorf("reading the OSD map: %w", err)
	}
	return m, nil
}

func parseOSDMap(text []byte) (OSDMap, error) {
	var dump struct {
		Epoch uint32 `json:"epoch"`
		FSID  string `json:"fsid"`
		Pools []struct {
			Name  string `json:"pool_name"`
			PGNum uint32 `json:"pg_num"`
			Hash  int    `json:"object_hash"`
		} `json:"pools"`
		Blocklist map[string]string `json:"blocklist"`
		Blacklist map[string]string `json:"blacklist"` // Ceph before 16
	}
	if err := json.Unmarshal(text, &dump); err != nil {
		return OSDMap{}, fmt.Errorf("decoding the answer of osd dump: %w", err)
	}
	if dump.Epoch == 0 {
		return OSDMap{}, fmt.Errorf("the answer of osd dump has no epoch")
	}
	m := OSDMap{Epoch: dump.Epoch, FSID: dump.FSID, Blocklist: map[Address]time.Time{}, Pools: map[string]Pool{}}
	for _, pool := range dump.Pools {
		m.Pools[pool.Name] = Pool{Name: pool.Name, PlacementGroups: pool.PGNum, Hash: pool.Hash}
	}
	for _, entries := range []map[string]string{dump.Blocklist, dump.Blacklist} {
		for text, untilText := range entries {
			address, err := ParseAddress(text)
			if err != nil {
				continue // somebody else's entry in a form that is none of ours, as a range
			}
			until, err := parseTime(untilText)
			if err != nil {
				return OSDMap{}, fmt.Errorf("blocklist entry %s: %w", text, err)
			}
			m.Blocklist[address] = until
		}
	}
	return m, nil
}

// parseTime reads Ceph's form of a time: with a zone since 15, in UTC and without one before.
func parseTime(text string) (time.Time, error) {
	for _, layout := range []string{"2006-01-02T15:04:05.999999999-0700", "2006-01-02 15:04:05.999999999"} {
		if t, err := time.Parse(layout, text); err == nil {
			return t, nil
		}
	}
	return time.Time{}, fmt.Errorf("%q is not a time", text)
}
