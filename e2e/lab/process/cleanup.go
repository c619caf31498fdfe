package process

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// CleanUp ends what an interrupted run left in dir: the process groups whose pid file still names a living process. A pid that another
// process has by now is told by its start time and left alone.
func CleanUp(dir string) error {
	files, err := filepath.Glob(filepath.Join(dir, "pids", "*"))
	if err != nil {
		return fmt.Errorf("listing the pid files of %s: %w", dir, err)
	}
	var errs []error
	for _, file := range files {
		errs = append(errs, endByPidFile(file))
	}
	return errors.Join(errs...)
}

func endByPidFile(file string) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return fmt.Errorf("reading a pid file: %w", err)
	}
	var pid int
	var start string
	if _, err := fmt.Sscan(string(text), &pid, &start); err != nil || pid <= 1 {
		return removeFile(file) // the lab died while it wrote the file; the kernel killed the child with it
	}
	if startTime(pid) == start {
		if err := signalGroup(pid, syscall.SIGKILL); err != nil {
			return fmt.Errorf("killing the process %d of %s: %w", pid, filepath.Base(file), err)
		}
	}
	for deadline := time.Now().Add(10 * time.Second); startTime(pid) == start; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			return fmt.Errorf("process %d of %s is still there 10 s after SIGKILL", pid, filepath.Base(file))
		}
	}
	return removeFile(file)
}

// removeFile doesn't mind that the file is gone: a Supervisor that still lives removes it too.
func removeFile(file string) error {
	if err := os.Remove(file); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("removing a pid file: %w", err)
	}
	return nil
}

func writePidFile(file string, pid int) error {
	if err := os.WriteFile(file, fmt.Appendf(nil, "%d %s\n", pid, startTime(pid)), 0o644); err != nil {
		return fmt.Errorf("writing a pid file: %w", err)
	}
	return nil
}

// startTime is field 22 of /proc/PID/stat, in clock ticks since boot; empty when there is no such process or only its zombie.
func startTime(pid int) string {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return ""
	}
	nameEnd := strings.LastIndexByte(string(stat), ')') // the name in parentheses may hold spaces and parentheses
	fields := strings.Fields(string(stat[nameEnd+1:]))
	if len(fields) < 20 || fields[0] == "Z" {
		return ""
	}
	return fields[19]
}
