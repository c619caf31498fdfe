//go:build !librados

package main

import (
	"context"
	"errors"

	"github.com/rbd-rescue/rbd-rescue/ceph"
)

// errNoLibrados ends the remediator at its start: without Ceph it would only look alive.
var errNoLibrados = errors.New("this build has no librados: use an image of the Dockerfile (docs/image.md), or build with -tags librados")

func dial(context.Context, []string, string, string) (ceph.Conn, error) { return nil, errNoLibrados }
