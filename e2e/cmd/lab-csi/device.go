//go:build librados

package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// backingFile holds what the block device at a target shows.
func backingFile(target string) string { return target + ".backing" }

// deviceAt puts a block device at a target, which stands for the image's: a kubelet lets only block devices go again.
func (n *node) deviceAt(ctx context.Context, target string) error {
	if err := os.MkdirAll(filepath.Dir(target), 0o755); err != nil {
		return fmt.Errorf("making the folder of device %s: %w", target, err)
	}
	for path, size := range map[string]int{backingFile(target): 1 << 20, target: 0} {
		if err := os.WriteFile(path, make([]byte, size), 0o600); err != nil {
			return fmt.Errorf("making device %s: %w", target, err)
		}
	}
	device, err := losetup(ctx, "--find", "--show", backingFile(target))
	if err != nil {
		return err
	}
	if err := n.mounter.Mount(device, target, "", []string{"bind"}); err != nil {
		return errors.Join(fmt.Errorf("mounting device %s: %w", target, err), freeDevice(ctx, backingFile(target)))
	}
	return nil
}

// freeDevice frees the device of a file, and removes the file; none is no error.
func freeDevice(ctx context.Context, file string) error {
	if _, err := os.Stat(file); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	devices, err := losetup(ctx, "--associated", file, "--noheadings", "--raw", "--output", "NAME")
	if err != nil {
		return err
	}
	for device := range strings.FieldsSeq(devices) {
		if _, err := losetup(ctx, "--detach", device); err != nil {
			return err
		}
	}
	if err := os.Remove(file); err != nil {
		return fmt.Errorf("removing what stood behind a device: %w", err)
	}
	return nil
}

func losetup(ctx context.Context, args ...string) (string, error) {
	out, err := exec.CommandContext(ctx, "losetup", args...).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("running losetup %s: %w: %s", strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(string(out)), nil
}
