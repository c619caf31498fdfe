// Package cephtest is the port ceph.Conn in memory, for tests: a cluster with a clock, a blocklist that expires, watchers
// that vanish when they are cut off, placement groups that lag behind, and any error on any call.
package cephtest

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"sync"
	"syscall"
	"time"

	"k8s.io/utils/clock"

	"github.com/rbd-rescue/rbd-rescue/ceph"
)

// Cluster is one Ceph cluster in memory.
type Cluster struct {
	// Clock says when entries expire.
	Clock clock.PassiveClock
	// Old makes the cluster know only the word "blacklist", as Ceph before 16.
	Old bool

	lock      sync.Mutex
	epoch     uint32
	blocklist map[ceph.Address]time.Time
	watchers  map[ceph.Image][]ceph.Address
	calls     []string
	fail      func(call string) error
	lagging   bool
}

var _ ceph.Conn = (*Cluster)(nil)

// New makes a cluster with one pool, "rbd", of 8 placement groups.
func New(clock clock.PassiveClock) *Cluster {
	return &Cluster{Clock: clock, epoch: 10, blocklist: map[ceph.Address]time.Time{}, watchers: map[ceph.Image][]ceph.Address{}}
}

// Watch makes clients watch an image.
func (c *Cluster) Watch(image ceph.Image, clients ...string) {
	c.lock.Lock()
	defer c.lock.Unlock()
	c.watchers[image] = nil
	for _, text := range clients {
		c.watchers[image] = append(c.watchers[image], ceph.MustParseAddress(text))
	}
}

// FailWith is asked before each call; its error is the call's. nil for none. The call is named by its command's prefix,
// or "watchers", "probe", "own addresses".
func (c *Cluster) FailWith(fail func(call string) error) {
	c.lock.Lock()
	defer c.lock.Unlock()
	c.fail = fail
}

// Lag makes a placement group stay behind the latest map: probes are not answered.
func (c *Cluster) Lag(is bool) {
	c.lock.Lock()
	defer c.lock.Unlock()
	c.lagging = is
}

// Blocklist are the clients that are cut off now, sorted.
func (c *Cluster) Blocklist() []string {
	c.lock.Lock()
	defer c.lock.Unlock()
	var clients []string
	for client := range c.blocklist {
		if c.cutOff(client) {
			clients = append(clients, client.String())
		}
	}
	slices.Sort(clients)
	return clients
}

// Calls are the names of all calls so far.
func (c *Cluster) Calls() []string {
	c.lock.Lock()
	defer c.lock.Unlock()
	return slices.Clone(c.calls)
}

func (c *Cluster) cutOff(client ceph.Address) bool {
	until, listed := c.blocklist[client]
	return listed && until.After(c.Clock.Now())
}

func (c *Cluster) begin(call string) error {
	c.calls = append(c.calls, call)
	if c.fail != nil {
		return c.fail(call)
	}
	return nil
}

// MonCommand implements ceph.Conn.
func (c *Cluster) MonCommand(_ context.Context, text []byte) ([]byte, error) {
	c.lock.Lock()
	defer c.lock.Unlock()
	var command map[string]any
	if err := json.Unmarshal(text, &command); err != nil {
		return nil, fmt.Errorf("decoding the command: %w", err)
	}
	prefix, _ := command["prefix"].(string)
	if err := c.begin(prefix); err != nil {
		return nil, err
	}
	word := "blocklist"
	if c.Old {
		word = "blacklist"
	}
	switch prefix {
	case "osd dump":
		return c.dump(word)
	case "osd " + word:
		return nil, c.change(command, word)
	default:
		return nil, &ceph.CommandError{Command: prefix, Errno: syscall.EINVAL, Message: "command not known"}
	}
}

func (c *Cluster) dump(word string) ([]byte, error) {
	entries := map[string]string{}
	for client, until := range c.blocklist {
		if c.cutOff(client) {
			entries[client.String()] = until.UTC().Format("2006-01-02T15:04:05.000000-0700")
		}
	}
	return json.Marshal(map[string]any{
		"epoch": c.epoch, "fsid": "f51d", word: entries,
		"pools": []map[string]any{{"pool": 1, "pool_name": "rbd", "pg_num": 8, "object_hash": 2}},
	})
}

func (c *Cluster) change(command map[string]any, word string) error {
	text, _ := command["addr"].(string)
	client, err := ceph.ParseAddress(text)
	if err != nil {
		return &ceph.CommandError{Command: "osd " + word, Errno: syscall.EINVAL, Message: err.Error()}
	}
	c.epoch++
	if command[word+"op"] == "rm" {
		delete(c.blocklist, client)
		return nil
	}
	seconds := 3600.0
	if expire, ok := command["expire"].(float64); ok {
		seconds = expire
	}
	c.blocklist[client] = c.Clock.Now().Add(time.Duration(seconds * float64(time.Second)))
	return nil
}

// Watchers implements ceph.Conn.
func (c *Cluster) Watchers(_ context.Context, image ceph.Image) ([]ceph.Watcher, error) {
	c.lock.Lock()
	defer c.lock.Unlock()
	if err := c.begin("watchers"); err != nil {
		return nil, err
	}
	var watchers []ceph.Watcher
	for _, client := range c.watchers[image] {
		if !c.cutOff(client) {
			watchers = append(watchers, ceph.Watcher{Address: client})
		}
	}
	return watchers, nil
}

// Probe implements ceph.Conn.
func (c *Cluster) Probe(_ context.Context, _, _ string, _ []string) error {
	c.lock.Lock()
	defer c.lock.Unlock()
	if err := c.begin("probe"); err != nil {
		return err
	}
	if c.lagging {
		return fmt.Errorf("asking for an object: %w", ceph.ErrInDoubt)
	}
	return nil
}

// OwnAddresses implements ceph.Conn.
func (c *Cluster) OwnAddresses(context.Context) ([]ceph.Address, error) {
	c.lock.Lock()
	defer c.lock.Unlock()
	if err := c.begin("own addresses"); err != nil {
		return nil, err
	}
	return []ceph.Address{ceph.MustParseAddress("10.0.0.100:0/1")}, nil
}

// Close implements ceph.Conn.
func (c *Cluster) Close() {}
