//go:build librados

package main

import (
	"context"

	"github.com/rbd-rescue/rbd-rescue/ceph"
	"github.com/rbd-rescue/rbd-rescue/ceph/librados"
)

// errNoLibrados is nil: this build can reach Ceph.
var errNoLibrados error

func dial(ctx context.Context, monitors []string, user, key string) (ceph.Conn, error) {
	return librados.Dial(ctx, librados.Options{Monitors: monitors, User: user, Key: key})
}
