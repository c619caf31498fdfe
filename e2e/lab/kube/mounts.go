package kube

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// UnmountBelow frees the loop devices of files below dir, and unmounts everything at or below it, the last mount first; what
// is busy is detached. A device that is mounted goes with its last mount.
func UnmountBelow(ctx context.Context, dir string) error {
	if err := detachLoopsBelow(ctx, dir); err != nil {
		return err
	}
	for ; ctx.Err() == nil; time.Sleep(10 * time.Millisecond) {
		points, err := mountsBelow(dir)
		if err != nil || len(points) == 0 {
			return err
		}
		slices.Reverse(points)
		for _, point := range points {
			err := unix.Unmount(point, unix.UMOUNT_NOFOLLOW)
			if errors.Is(err, unix.EBUSY) {
				err = unix.Unmount(point, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW)
			}
			if err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOENT) { // gone meanwhile: the next look tells
				return fmt.Errorf("unmounting %s: %w", point, err)
			}
		}
	}
	return fmt.Errorf("unmounting all below %s: %w", dir, ctx.Err())
}

// detachLoopsBelow frees the loop devices of files below dir: kubelets hold block volumes by them.
func detachLoopsBelow(ctx context.Context, dir string) error {
	out, err := exec.CommandContext(ctx, "losetup", "--list", "--noheadings", "--raw", "--output", "NAME,BACK-FILE").Output()
	if err != nil {
		return fmt.Errorf("listing loop devices: %w", err)
	}
	for line := range strings.Lines(string(out)) {
		device, file, _ := strings.Cut(strings.TrimSpace(line), " ")
		if !strings.HasPrefix(file, dir+"/") {
			continue
		}
		if err := exec.CommandContext(ctx, "losetup", "--detach", device).Run(); err != nil {
			return fmt.Errorf("freeing loop device %s of %s: %w", device, file, err)
		}
	}
	return nil
}

// mountsBelow lists mount points in the order in which they were mounted.
func mountsBelow(dir string) ([]string, error) {
	file, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return nil, fmt.Errorf("listing mounts: %w", err)
	}
	defer file.Close()
	var points []string
	lines := bufio.NewScanner(file)
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		if len(fields) < 5 {
			continue
		}
		point := unescape(fields[4])
		if point == dir || strings.HasPrefix(point, dir+"/") {
			points = append(points, point)
		}
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("listing mounts: %w", err)
	}
	return points, nil
}

// unescape undoes the kernel's \040 for blanks and the like.
func unescape(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+4 <= len(s) {
			if c, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
				b.WriteByte(byte(c))
				i += 3
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}
