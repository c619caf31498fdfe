package cephtest

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"syscall"
	"time"

	"github.com/rbd-rescue/rbd-rescue/ceph"
)

const (
	timeFormat = "2006-01-02T15:04:05.000000-0700"
	// defaultExpiry is mon_osd_blocklist_default_expire.
	defaultExpiry = time.Hour
)

// MonCommand implements ceph.Conn.
func (c *Cluster) MonCommand(ctx context.Context, text []byte) ([]byte, error) {
	c.lock.Lock()
	defer c.lock.Unlock()
	command := map[string]any{}
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.UseNumber() // the monitors tell 3600 from 3600.0
	if err := decoder.Decode(&command); err != nil {
		return nil, fmt.Errorf("decoding the command: %w", err)
	}
	prefix, _ := command["prefix"].(string)
	if err := c.begin(ctx, prefix); err != nil {
		return nil, err
	}
	c.expire()
	switch word := c.word(); prefix {
	case "osd dump":
		return c.dump(word)
	case "mon dump":
		return c.monitors()
	case "service dump":
		return c.services()
	case "mgr dump":
		return json.Marshal(map[string]any{"active_addr": c.manager})
	case "log last":
		return json.Marshal([]map[string]string{{"stamp": c.Clock.Now().UTC().Format(timeFormat)}})
	case "mgr metadata", "fs dump":
		return []byte("{}"), nil
	case "osd " + word + " ls":
		return c.list()
	case "osd " + word:
		return nil, c.change(command, word)
	default:
		return nil, &ceph.CommandError{Command: prefix, Errno: syscall.EINVAL, Message: "command not known"}
	}
}

func (c *Cluster) word() string {
	if c.Old {
		return "blacklist"
	}
	return "blocklist"
}

func (c *Cluster) dump(word string) ([]byte, error) {
	entries := map[string]string{}
	for client, until := range c.blocklist {
		entries[client.String()] = until.UTC().Format(timeFormat)
	}
	var pools []map[string]any
	for name, p := range c.pools {
		tier := -1
		if p.tiered {
			tier = 100
		}
		pools = append(pools, map[string]any{
			"pool": p.id, "pool_name": name, "pg_num": p.placementGroups, "object_hash": 2, "read_tier": tier, "write_tier": tier,
		})
	}
	return json.Marshal(map[string]any{
		"epoch": c.epoch, "fsid": c.fsid, word: entries, "pools": pools, "osds": []map[string]any{{"osd": 0, "up": 1, "in": 1}},
	})
}

func (c *Cluster) monitors() ([]byte, error) {
	var monitors []map[string]string
	for _, address := range c.daemons {
		monitors = append(monitors, map[string]string{"addr": address})
	}
	return json.Marshal(map[string]any{"epoch": 1, "fsid": c.fsid, "mons": monitors})
}

func (c *Cluster) services() ([]byte, error) {
	daemons := map[string]any{"summary": ""}
	for i, address := range c.mirrors {
		daemons[fmt.Sprint(4100+i)] = map[string]any{"addr": address}
	}
	return json.Marshal(map[string]any{"epoch": 1, "services": map[string]any{"rbd-mirror": map[string]any{"daemons": daemons}}})
}

// list is two arrays one after the other, as Ceph prints them: entries, and ranges.
func (c *Cluster) list() ([]byte, error) {
	entries := []map[string]string{}
	for client, until := range c.blocklist {
		entries = append(entries, map[string]string{"addr": client.String(), "until": until.UTC().Format(timeFormat)})
	}
	out, err := json.Marshal(entries)
	return append(out, "[]"...), err
}

func (c *Cluster) change(command map[string]any, word string) error {
	refuse := func(message string) error {
		return &ceph.CommandError{Command: "osd " + word, Errno: syscall.EINVAL, Message: message}
	}
	text, _ := command["addr"].(string)
	client, err := ceph.ParseAddress(text)
	if err != nil {
		return refuse("unable to parse address " + text)
	}
	switch command[word+"op"] {
	case "rm":
		if _, listed := c.blocklist[client]; listed {
			delete(c.blocklist, client)
			c.epoch++
		}
		return nil
	case "add":
		expiry := defaultExpiry
		if expire, given := command["expire"]; given {
			number, _ := expire.(json.Number)
			seconds, err := number.Float64()
			if err != nil || !strings.ContainsAny(number.String(), ".eE") {
				return refuse("bad or missing field 'expire'")
			}
			expiry = time.Duration(seconds * float64(time.Second))
		}
		// An entry that is there keeps its end (e2e/lab/ceph, TestReleases: OSDMap::apply_incremental inserts, and does not replace).
		if _, listed := c.blocklist[client]; !listed {
			c.blocklist[client] = c.Clock.Now().Add(expiry)
		}
		c.epoch++
		return nil
	default:
		return refuse("missing required parameter " + word + "op")
	}
}
