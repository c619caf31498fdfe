package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// cgroup is where a container finds its own limits (cgroup v2).
const cgroup = "/sys/fs/cgroup"

// mostOfTheMemory is the share of the container's limit up to which a verb may fill it, in percent. The kubelet has the kernel end
// every process of a container that runs out of memory: the remediator with it.
const mostOfTheMemory = 80

// roomLeft refuses to go on where the container's memory is nearly full. Where there is no limit, or none can be read, there is room.
func roomLeft(dir string) error {
	limit, err := readNumber(filepath.Join(dir, "memory.max"), "")
	if err != nil || limit == 0 {
		return nil //nolint:nilerr // "max", or no cgroup v2
	}
	used, err := readNumber(filepath.Join(dir, "memory.stat"), "anon ") // caches of files are given back
	if err != nil || used*100 < limit*mostOfTheMemory {
		return nil //nolint:nilerr // nothing to compare
	}
	const mib = 1 << 20
	return fmt.Errorf("stopped, since this container has %d of its %d MiB of memory in use, and the remediator must not be ended for the want of it: "+
		"raise its limit (remediator.resources.limits.memory), or run this elsewhere (kubectl rescue --rescue-command)", used/mib, limit/mib)
}

// readNumber reads the number behind a key at the beginning of a line.
func readNumber(path, key string) (uint64, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		if value, is := strings.CutPrefix(strings.TrimSpace(line), key); is {
			return strconv.ParseUint(value, 10, 64)
		}
	}
	return 0, fmt.Errorf("%s has no %s", path, key)
}
