package ceph

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// OSDMap is what rbd-rescue reads of the cluster's map: the fence and the epoch that holds it come from one answer.
type OSDMap struct {
	Epoch uint32
	FSID  string
	// Blocklist says until when each client, or each whole host (nonce 0), is cut off.
	Blocklist map[Address]time.Time
	// Ranges says until when each range of hosts is cut off; the key is in Ceph's words, as "cidr:10.9.0.0:0/16".
	Ranges map[string]time.Time
	Pools  map[string]Pool
	OSDs   []OSD
}

// Pool is one pool of the map.
type Pool struct {
	Name string
	ID   int64
	// PlacementGroups is pg_num.
	PlacementGroups uint32
	// Hash is how object names become placement groups; rjenkins for every pool that `ceph osd pool create` makes.
	Hash int
	// Tiered is set while clients' operations go through a cache tier, which is another pool.
	Tiered bool
}

// OSD is one OSD as the monitors see it.
type OSD struct {
	ID     int
	Up, In bool
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

// dump is what is read of `osd dump -f json`.
type dump struct {
	Epoch uint32 `json:"epoch"`
	FSID  string `json:"fsid"`
	Pools []struct {
		Name      string `json:"pool_name"`
		ID        int64  `json:"pool"`
		PGNum     uint32 `json:"pg_num"`
		Hash      int    `json:"object_hash"`
		ReadTier  *int64 `json:"read_tier"`
		WriteTier *int64 `json:"write_tier"`
	} `json:"pools"`
	OSDs []struct {
		ID int `json:"osd"`
		Up int `json:"up"`
		In int `json:"in"`
	} `json:"osds"`
	Blocklist      map[string]string `json:"blocklist"`
	Blacklist      map[string]string `json:"blacklist"` // Ceph before 16
	RangeBlocklist map[string]string `json:"range_blocklist"`
}

func parseOSDMap(text []byte) (OSDMap, error) {
	var d dump
	if err := json.Unmarshal(text, &d); err != nil {
		return OSDMap{}, fmt.Errorf("decoding the answer of osd dump: %w", err)
	}
	if d.Epoch == 0 {
		return OSDMap{}, errors.New("the answer of osd dump has no epoch")
	}
	m := OSDMap{Epoch: d.Epoch, FSID: d.FSID, Blocklist: map[Address]time.Time{}, Ranges: map[string]time.Time{}, Pools: map[string]Pool{}}
	for _, p := range d.Pools {
		m.Pools[p.Name] = Pool{Name: p.Name, ID: p.ID, PlacementGroups: p.PGNum, Hash: p.Hash, Tiered: isTier(p.ReadTier) || isTier(p.WriteTier)}
	}
	for _, o := range d.OSDs {
		m.OSDs = append(m.OSDs, OSD{ID: o.ID, Up: o.Up == 1, In: o.In == 1})
	}
	for _, entries := range []map[string]string{d.Blocklist, d.Blacklist} {
		if err := m.addEntries(entries); err != nil {
			return OSDMap{}, err
		}
	}
	for text, untilText := range d.RangeBlocklist {
		until, err := parseTime(untilText)
		if err != nil {
			return OSDMap{}, fmt.Errorf("blocklist entry %s: %w", text, err)
		}
		m.Ranges[text] = until
	}
	return m, nil
}

// RangesWith are the ranges that cut an IP off, in order.
func (m OSDMap) RangesWith(ip netip.Addr) []netip.Prefix {
	var with []netip.Prefix
	for text := range m.Ranges {
		if prefix, err := parseRange(text); err == nil && prefix.Contains(ip) {
			with = append(with, prefix)
		}
	}
	slices.SortFunc(with, netip.Prefix.Compare)
	return with
}

// parseRange reads a range in Ceph's words: an address of a network, with port 0, and its bits for a nonce.
func parseRange(text string) (netip.Prefix, error) {
	address, err := ParseAddress(strings.TrimPrefix(text, "cidr:"))
	if err != nil {
		return netip.Prefix{}, err
	}
	return address.IP.Prefix(int(min(address.Nonce, 1<<16)))
}

func isTier(pool *int64) bool { return pool != nil && *pool >= 0 }

// addEntries takes the entries that the OSDs find by an address. An entry in another form is left out, so that it can't
// pass for a fence: OSDs look for an address without a protocol (OSDMap::is_blocklisted), and an IPv4-mapped one is another
// address to them than the IPv4 address that it means.
func (m OSDMap) addEntries(entries map[string]string) error {
	for text, untilText := range entries {
		address, err := ParseAddress(text)
		if err != nil || strings.HasPrefix(text, "v") || address.IP.Is4() == strings.HasPrefix(text, "[") {
			continue
		}
		until, err := parseTime(untilText)
		if err != nil {
			return fmt.Errorf("blocklist entry %s: %w", text, err)
		}
		if known, twice := m.Blocklist[address]; !twice || until.Before(known) {
			m.Blocklist[address] = until
		}
	}
	return nil
}

// furthestEast is the zone whose clocks are ahead of all others.
const furthestEast = 14 * time.Hour

// parseTime reads Ceph's form of a time, which has a zone since 15. Before, it is in the zone of the monitor that answers,
// which nothing tells: the earliest time that can be meant is given, so that an entry does not seem to last longer than it does.
func parseTime(text string) (time.Time, error) {
	if t, err := time.Parse("2006-01-02T15:04:05.999999999-0700", text); err == nil {
		return t, nil
	}
	if t, err := time.Parse("2006-01-02 15:04:05.999999999", text); err == nil {
		return t.Add(-furthestEast), nil
	}
	return time.Time{}, fmt.Errorf("%q is not a time", text)
}
