//go:build librados

// Package rbdcheck runs workload.Check on an RBD image, read back by librbd.
package rbdcheck

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/ceph/go-ceph/rados"
	"github.com/ceph/go-ceph/rbd"

	"github.com/rbd-rescue/rbd-rescue/e2e/workload"
)

// Check reads an image as client.admin of a ceph.conf, and compares it with the logs of acknowledgements in ackDir. The
// logs are read first: what is acknowledged meanwhile may be in the image, and need not be in them.
func Check(_ context.Context, confFile, pool, image, ackDir string) (report workload.Report, err error) {
	logs, err := workload.ReadAckLogs(ackDir, image)
	if err != nil {
		return report, err
	}
	return check(confFile, pool, image, rbd.NoSnapshot, logs)
}

// CheckSnapshot reads a snapshot of an image, and compares it with the logs of the writers on one node.
func CheckSnapshot(_ context.Context, confFile, pool, image, snapshot, ackDir, node string) (report workload.Report, err error) {
	logs, err := workload.ReadAckLogs(ackDir, image)
	if err != nil {
		return report, err
	}
	logs = slices.DeleteFunc(logs, func(log workload.AckLog) bool { return log.Node != node })
	return check(confFile, pool, image, snapshot, logs)
}

func check(confFile, pool, image, snapshot string, logs []workload.AckLog) (report workload.Report, err error) {
	conn, err := rados.NewConnWithUser("admin")
	if err != nil {
		return report, fmt.Errorf("making a Ceph client: %w", err)
	}
	if err := errors.Join(conn.ReadConfigFile(confFile), conn.SetConfigOption("rados_osd_op_timeout", "20"),
		conn.SetConfigOption("client_mount_timeout", "20")); err != nil {
		return report, fmt.Errorf("reading %s: %w", confFile, err)
	}
	if err := conn.Connect(); err != nil {
		return report, fmt.Errorf("connecting to Ceph: %w", err)
	}
	defer conn.Shutdown()
	ioctx, err := conn.OpenIOContext(pool)
	if err != nil {
		return report, fmt.Errorf("opening pool %s: %w", pool, err)
	}
	defer ioctx.Destroy()
	opened, err := rbd.OpenImageReadOnly(ioctx, image, snapshot)
	if err != nil {
		return report, fmt.Errorf("opening image %s/%s: %w", pool, image, err)
	}
	defer func() { err = errors.Join(err, opened.Close()) }()
	size, err := opened.GetSize()
	if err != nil {
		return report, fmt.Errorf("reading the size of image %s/%s: %w", pool, image, err)
	}
	return workload.Check(opened, int64(size), logs)
}
