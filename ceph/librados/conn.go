//go:build librados

// Package librados is the port ceph.Conn by go-ceph: the only package of the product with cgo.
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
	"github.com/ceph/go-ceph/rbd"

	"github.com/rbd-rescue/rbd-rescue/ceph"
)

const (
	// Ceph's own limits, in seconds: a call that the caller has given up ends by itself, and its thread with it.
	mountTimeout     = "10"
	operationTimeout = "15"
	// probesAtOnce bounds the threads of one Probe.
	probesAtOnce = 32
)

// Options say which cluster to connect to, and as whom.
type Options struct {
	// Monitors, as in ceph-csi's configuration.
	Monitors []string
	// User without "client.".
	User string
	// Key of the user. It appears in no error and no log.
	Key string
}

// Conn is a connection to one cluster.
type Conn struct {
	rados *rados.Conn
}

var _ ceph.Conn = (*Conn)(nil)

// Dial connects. It returns by the context's deadline.
func Dial(ctx context.Context, options Options) (*Conn, error) {
	conn, err := rados.NewConnWithUser(options.User)
	if err != nil {
		return nil, fmt.Errorf("making a Ceph client for user %s: %w", options.User, err)
	}
	for _, option := range [][2]string{
		{"mon_host", strings.Join(options.Monitors, ",")},
		{"key", options.Key},
		{"client_mount_timeout", mountTimeout},
		{"rados_mon_op_timeout", operationTimeout},
		{"rados_osd_op_timeout", operationTimeout},
		{"log_to_stderr", "false"},
		{"err_to_stderr", "false"},
		{"log_file", ""},
		{"admin_socket", ""},
	} {
		if err := conn.SetConfigOption(option[0], option[1]); err != nil {
			return nil, fmt.Errorf("setting Ceph option %s: %w", option[0], err)
		}
	}
	err = bounded(ctx, "connect", func() error { return conn.Connect() })
	if err != nil {
		return nil, fmt.Errorf("connecting to monitors %s as client.%s: %w", strings.Join(options.Monitors, ","), options.User, err)
	}
	return &Conn{rados: conn}, nil
}

// Close ends the connection.
func (c *Conn) Close() { c.rados.Shutdown() }

// MonCommand implements ceph.Conn.
func (c *Conn) MonCommand(ctx context.Context, command []byte) ([]byte, error) {
	var out []byte
	var message string
	prefix := prefixOf(command)
	err := bounded(ctx, prefix, func() (err error) {
		out, message, err = c.rados.MonCommand(command)
		return err
	})
	var refused *ceph.CommandError
	if errors.As(err, &refused) {
		refused.Message = message
	}
	if err != nil {
		return nil, err
	}
	return out, nil
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

// Watchers implements ceph.Conn.
func (c *Conn) Watchers(ctx context.Context, image ceph.Image) ([]ceph.Watcher, error) {
	var watchers []ceph.Watcher
	err := bounded(ctx, "list watchers", func() error {
		ioctx, err := c.open(image.Pool, image.Namespace)
		if err != nil {
			return err
		}
		defer ioctx.Destroy()
		opened, err := rbd.OpenImageReadOnly(ioctx, image.Name, rbd.NoSnapshot)
		if err != nil {
			return err
		}
		defer opened.Close() //nolint:errcheck // read-only: nothing can be lost
		list, err := opened.ListWatchers()
		if err != nil {
			return err
		}
		for _, w := range list {
			address, err := ceph.ParseAddress(w.Addr)
			if err != nil {
				return fmt.Errorf("reading a watcher: %w", err)
			}
			watchers = append(watchers, ceph.Watcher{Address: address})
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("reading the watchers of image %s: %w", image, err)
	}
	return watchers, nil
}

// Probe implements ceph.Conn.
func (c *Conn) Probe(ctx context.Context, pool, namespace string, objects []string) error {
	return bounded(ctx, "probe", func() error {
		if err := c.rados.WaitForLatestOSDMap(); err != nil {
			return fmt.Errorf("waiting for the latest OSD map: %w", err)
		}
		ioctx, err := c.open(pool, namespace)
		if err != nil {
			return err
		}
		defer ioctx.Destroy()
		next := make(chan string, len(objects))
		for _, object := range objects {
			next <- object
		}
		close(next)
		var group sync.WaitGroup
		failed := make([]error, min(probesAtOnce, len(objects)))
		for i := range failed {
			group.Go(func() {
				for object := range next {
					if _, err := ioctx.Stat(object); err != nil && !errors.Is(err, rados.ErrNotFound) {
						failed[i] = fmt.Errorf("asking for object %s: %w", object, err)
						return
					}
				}
			})
		}
		group.Wait()
		return errors.Join(failed...)
	})
}

// OwnAddresses implements ceph.Conn.
func (c *Conn) OwnAddresses(ctx context.Context) ([]ceph.Address, error) {
	var text string
	err := bounded(ctx, "get own addresses", func() (err error) {
		text, err = c.rados.GetAddrs()
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("reading rbd-rescue's own addresses: %w", err)
	}
	return ceph.ParseAddresses(text)
}

func (c *Conn) open(pool, namespace string) (*rados.IOContext, error) {
	ioctx, err := c.rados.OpenIOContext(pool)
	if err != nil {
		return nil, fmt.Errorf("opening pool %s: %w", pool, err)
	}
	ioctx.SetNamespace(namespace)
	return ioctx, nil
}

// bounded runs a call of a library that takes no context, and gives up waiting at the deadline; the call then ends by
// Ceph's own limits. A missed deadline, Ceph's or ours, is in doubt: the call may have had its effect.
func bounded(ctx context.Context, command string, call func() error) error {
	done := make(chan error, 1)
	go func() { done <- call() }()
	select {
	case err := <-done:
		return translate(command, err)
	case <-ctx.Done():
		return fmt.Errorf("ceph %s: no answer in time: %w (%w)", command, ceph.ErrInDoubt, context.Cause(ctx))
	}
}

func translate(command string, err error) error {
	var coded interface{ ErrorCode() int }
	if err == nil || !errors.As(err, &coded) {
		return err
	}
	errno := syscall.Errno(max(coded.ErrorCode(), -coded.ErrorCode())) //nolint:gosec // a small number
	if errno == syscall.ETIMEDOUT {
		return fmt.Errorf("ceph %s: no answer within %s s: %w", command, operationTimeout, ceph.ErrInDoubt)
	}
	return &ceph.CommandError{Command: command, Errno: errno}
}
