//go:build !librados

package main

import (
	"context"
	"errors"

	"github.com/rbd-rescue/rbd-rescue/ceph"
)

func dial(context.Context, []string, string, string) (ceph.Conn, error) {
	return nil, errors.New("this build has no librados: use the released image, or build with -tags librados")
}
