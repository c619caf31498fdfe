package ceph

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"syscall"
	"time"
)

// commandsAtOnce bounds the commands under way; the monitors commit those that come together in one proposal.
const commandsAtOnce = 64

// AddToBlocklist forbids clients to write to this cluster for the given time from now on. It binds an OSD only once that
// OSD has the map that holds it (docs.ceph.com, "OSD map barrier"): read the map and call Barrier before anything is
// released. An error that Is ErrInDoubt means that an entry may exist.
func (c *Cluster) AddToBlocklist(ctx context.Context, clients []Address, ttl time.Duration) error {
	return c.forEach(clients, func(client Address) error {
		if err := c.blocklist(ctx, "add", client, ttl); err != nil {
			return fmt.Errorf("adding %s to the blocklist: %w", client, err)
		}
		return nil
	})
}

// RemoveFromBlocklist lets clients write again. One that is not on the blocklist is none to remove.
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
		group.Go(func() {
			slots <- struct{}{}
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
	err := c.blocklistAs(ctx, "blocklist", operation, client, ttl)
	if errors.Is(err, syscall.EINVAL) {
		if old := c.blocklistAs(ctx, "blacklist", operation, client, ttl); !errors.Is(old, syscall.EINVAL) {
			return old
		}
	}
	return err
}

func (c *Cluster) blocklistAs(ctx context.Context, word, operation string, client Address, ttl time.Duration) error {
	command := map[string]any{"prefix": "osd " + word, word + "op": operation, "addr": client.String()}
	if ttl > 0 {
		command["expire"] = ttl.Seconds()
	}
	text, err := json.Marshal(command)
	if err != nil {
		return fmt.Errorf("encoding the command: %w", err)
	}
	_, err = c.conn.MonCommand(ctx, text)
	return err
}
