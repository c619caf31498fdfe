//go:build librados

package librados

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"syscall"

	"github.com/ceph/go-ceph/rados"

	"github.com/rbd-rescue/rbd-rescue/ceph"
)

// Conn is a connection to one cluster. It reconnects by itself.
type Conn struct {
	rados *rados.Conn
	calls *calls
	// snapshots are the images of which one is being taken.
	snapshots sync.Map
}

var _ ceph.Conn = (*Conn)(nil)

// Dial connects. It returns by the context's deadline, and by ConnectTimeout. No error of it is in doubt: connecting
// changes nothing in the cluster.
func Dial(ctx context.Context, options Options) (*Conn, error) {
	if err := options.Validate(); err != nil {
		return nil, err
	}
	target := fmt.Sprintf("monitors %s as client.%s", strings.Join(options.Monitors, ","), options.User)
	conn, err := rados.NewConnWithUser(options.User)
	if err != nil {
		return nil, fmt.Errorf("making a Ceph client for %s: %w", target, err)
	}
	// Only once a file was read do the options about logging hold while it connects; before, it prints a key that it can't
	// read to standard error (seen with 16.2.15).
	if err := conn.ReadConfigFile("/dev/null"); err != nil {
		return nil, fmt.Errorf("reading an empty Ceph configuration: %w", err)
	}
	for _, o := range options.config() {
		err := conn.SetConfigOption(o.name, o.value)
		if errno, _ := errnoOf(err); errno == syscall.ENOENT && o.mayBeUnknown {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("setting Ceph option %s: %w", o.name, err)
		}
	}
	connected := make(chan error)
	go func() {
		err := conn.Connect()
		select {
		case connected <- err:
		case <-ctx.Done():
			conn.Shutdown() // nobody waits for it any more
		}
	}()
	select {
	case err = <-connected:
	case <-ctx.Done():
		err = context.Cause(ctx)
	}
	if errno, ok := errnoOf(err); ok {
		refused := &ceph.CommandError{Command: "connect", Errno: errno}
		switch errno {
		case syscall.ETIMEDOUT:
			refused.Message = "no monitor answered, or each refused the user or its key"
		case syscall.EINVAL:
			refused.Message = "the key can't be read, or an address of a monitor: keys of Ceph 19.2.6, 20.2.4 and later need a librados as new"
		default: // its number and what was asked say it
		}
		err = refused
	}
	if err != nil {
		return nil, fmt.Errorf("connecting to %s: %w", target, err)
	}
	return &Conn{rados: conn, calls: newCalls()}, nil
}

// Close implements ceph.Conn.
func (c *Conn) Close() { c.calls.close(c.rados.Shutdown) }

// MonCommand implements ceph.Conn.
func (c *Conn) MonCommand(ctx context.Context, command []byte) ([]byte, error) {
	type answer struct {
		out     []byte
		message string
	}
	a, err := bounded(ctx, c.calls, prefixOf(command), func() (answer, error) {
		out, message, err := c.rados.MonCommand(command)
		return answer{out, message}, err
	})
	if refused, ok := errors.AsType[*ceph.CommandError](err); ok {
		refused.Message = a.message
	}
	if err != nil {
		return nil, err
	}
	return a.out, nil
}

func prefixOf(command []byte) string {
	var c struct {
		Prefix string `json:"prefix"`
	}
	if err := json.Unmarshal(command, &c); err != nil {
		return "command"
	}
	return c.Prefix
}

// OwnAddresses implements ceph.Conn.
func (c *Conn) OwnAddresses(ctx context.Context) ([]ceph.Address, error) {
	addresses, err := bounded(ctx, c.calls, "get own addresses", func() ([]ceph.Address, error) {
		text, err := c.rados.GetAddrs()
		if err != nil {
			return nil, err
		}
		return ceph.ParseAddresses(text)
	})
	if err != nil {
		return nil, fmt.Errorf("reading rbd-rescue's own addresses: %w", err)
	}
	return addresses, nil
}

func (c *Conn) open(pool, namespace string) (*rados.IOContext, error) {
	ioctx, err := c.rados.OpenIOContext(pool)
	if err != nil {
		return nil, fmt.Errorf("opening pool %s: %w", pool, err)
	}
	ioctx.SetNamespace(namespace)
	return ioctx, nil
}
