package ceph

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"syscall"
	"time"
)

// commandsAtOnce bounds the commands under way; the monitors commit those that come together in one proposal.
const commandsAtOnce = 64

// AddToBlocklist forbids clients to write to this cluster for the given time from now on. An entry that is there already
// keeps its end, be it sooner or later: Ceph answers that it is done, and changes nothing (e2e/lab/ceph, TestReleases). An entry
// binds an OSD only once that OSD has the map that holds it (docs.ceph.com, "OSD map barrier"): read the map and call Barrier
// before anything is released.
//
// Nothing is sent if one of the clients can't be meant: rbd-rescue's own address or host (S2), a daemon's, or no address at
// all. An error that Is ErrInDoubt means that an entry may exist; with any error, some of the clients may be cut off.
func (c *Cluster) AddToBlocklist(ctx context.Context, clients []Address, ttl time.Duration) error {
	if len(clients) == 0 {
		return nil
	}
	if ttl < time.Second {
		return fmt.Errorf("refusing to add to the blocklist for %s: the entry would never hold", ttl)
	}
	own, err := c.OwnAddresses(ctx)
	if err != nil {
		return fmt.Errorf("adding to the blocklist: %w", err)
	}
	for _, client := range clients {
		if err := mayBeCutOff(client, own); err != nil {
			return fmt.Errorf("refusing to add %s to the blocklist: %w", client, err)
		}
	}
	return c.forEach(clients, func(client Address) error {
		if err := c.blocklist(ctx, "add", client, ttl); err != nil {
			return fmt.Errorf("adding %s to the blocklist: %w", client, err)
		}
		return nil
	})
}

// mayBeCutOff refuses what is never a failed node's client, whoever asks for it.
func mayBeCutOff(client Address, own []Address) error {
	switch {
	case !client.IP.IsValid() || client.IP.IsUnspecified() || client.IP.IsMulticast():
		return errors.New("it has no IP address of a host")
	case client.Port != 0:
		return errors.New("it has a port, so it is a daemon's")
	case slices.Contains(own, client) || slices.ContainsFunc(own, func(a Address) bool { return a.Host() == client }):
		return errors.New("it is rbd-rescue's own") // S2
	}
	return nil
}

// RemoveFromBlocklist lets clients write again. One that is not on the blocklist is none to remove. An error that Is
// ErrInDoubt means that a client may be able to write again.
func (c *Cluster) RemoveFromBlocklist(ctx context.Context, clients []Address) error {
	return c.forEach(clients, func(client Address) error {
		if err := c.blocklist(ctx, "rm", client, 0); err != nil {
			return fmt.Errorf("removing %s from the blocklist: %w", client, err)
		}
		return nil
	})
}

func (c *Cluster) forEach(clients []Address, do func(Address) error) error {
	slots := make(chan struct{}, commandsAtOnce)
	failed := make([]error, len(clients))
	var group sync.WaitGroup
	for i, client := range clients {
		slots <- struct{}{}
		group.Go(func() {
			defer func() { <-slots }()
			failed[i] = do(client)
		})
	}
	group.Wait()
	return errors.Join(failed...)
}

// blocklist sends the command in today's word, and in the old one where the cluster does not know it: Ceph before 16
// answers EINVAL to a command that it does not have.
func (c *Cluster) blocklist(ctx context.Context, operation string, client Address, ttl time.Duration) error {
	today := c.blocklistAs(ctx, "blocklist", operation, client, ttl)
	if !errors.Is(today, syscall.EINVAL) {
		return today
	}
	if old := c.blocklistAs(ctx, "blacklist", operation, client, ttl); old != nil {
		return errors.Join(today, old)
	}
	return nil
}

func (c *Cluster) blocklistAs(ctx context.Context, word, operation string, client Address, ttl time.Duration) error {
	command := map[string]any{"prefix": "osd " + word, word + "op": operation, "addr": client.String()}
	if ttl > 0 {
		// A CephFloat: the monitors refuse a number without a point (EINVAL, "bad or missing field 'expire'"), which is
		// how encoding/json writes a whole float64.
		command["expire"] = json.RawMessage(fmt.Sprintf("%.3f", ttl.Seconds()))
	}
	text, err := json.Marshal(command)
	if err != nil {
		return fmt.Errorf("encoding the command: %w", err)
	}
	_, err = c.conn.MonCommand(ctx, text)
	return err
}
