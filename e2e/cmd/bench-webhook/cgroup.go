package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// cgroup is a control group with a limit on its memory, as a container has one.
type cgroup struct {
	dir   string
	names cgroupNames
}

// cgroupNames are the files of a version of cgroups.
type cgroupNames struct{ limit, now, peak, inactive string }

var (
	cgroup2 = cgroupNames{"memory.max", "memory.current", "memory.peak", "inactive_file"}
	cgroup1 = cgroupNames{"memory.limit_in_bytes", "memory.usage_in_bytes", "memory.max_usage_in_bytes", "total_inactive_file"}
)

// newCgroup makes an empty one for a command, in place of one that a run before has left.
func newCgroup(command string, limit int64) (*cgroup, error) {
	root, names := "/sys/fs/cgroup/memory", cgroup1
	if _, err := os.Stat(root); err != nil {
		root, names = "/sys/fs/cgroup", cgroup2
		if err := os.WriteFile(filepath.Join(root, "cgroup.subtree_control"), []byte("+memory"), 0o600); err != nil {
			return nil, fmt.Errorf("giving control groups a memory controller: %w", err)
		}
	}
	g := &cgroup{filepath.Join(root, "rbd-rescue-bench-"+command), names}
	if err := g.remove(); err != nil {
		return nil, err
	}
	if err := os.Mkdir(g.dir, 0o755); err != nil { //nolint:gosec // as the kernel has them
		return nil, fmt.Errorf("making a control group: %w", err)
	}
	if err := os.WriteFile(filepath.Join(g.dir, names.limit), []byte(strconv.FormatInt(limit, 10)), 0o600); err != nil {
		return nil, fmt.Errorf("limiting the memory of %s: %w", command, err)
	}
	return g, nil
}

func (g *cgroup) remove() error {
	if err := os.Remove(g.dir); err != nil && !os.IsNotExist(err) {
		return fmt.Errorf("removing a control group: %w", err)
	}
	return nil
}

// forget has the kernel drop a file from memory, so that its pages are counted where they are read anew.
func forget(path string) error {
	f, err := os.Open(path) //nolint:gosec // our own
	if err != nil {
		return fmt.Errorf("opening the program: %w", err)
	}
	defer func() { _ = f.Close() }()
	_ = f.Sync()
	if err := unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED); err != nil { //nolint:gosec // a file descriptor
		return fmt.Errorf("dropping the program from memory: %w", err)
	}
	return nil
}

// enter is a command line that runs another one in the group: all that it takes is counted.
func (g *cgroup) enter(path string, args []string) (string, []string) {
	return "/bin/sh", append([]string{"-c", `echo $$ >"$0" && exec "$@"`, filepath.Join(g.dir, "cgroup.procs"), path}, args...)
}

// read gives the working set, as kubelet counts it to tell who takes too much, and the peak of all, in MiB.
func (g *cgroup) read() (workingSet, peak float64, err error) {
	text, err := os.ReadFile(filepath.Join(g.dir, "memory.stat"))
	if err != nil {
		return 0, 0, fmt.Errorf("reading the memory of a control group: %w", err)
	}
	values := map[string]float64{}
	for line := range strings.Lines(string(text)) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		values[name], _ = strconv.ParseFloat(value, 64)
	}
	for _, name := range []string{g.names.now, g.names.peak} {
		text, err := os.ReadFile(filepath.Join(g.dir, name))
		if err != nil {
			return 0, 0, fmt.Errorf("reading the memory of a control group: %w", err)
		}
		if values[name], err = strconv.ParseFloat(strings.TrimSpace(string(text)), 64); err != nil {
			return 0, 0, fmt.Errorf("reading %s: %w", name, err)
		}
	}
	return (values[g.names.now] - values[g.names.inactive]) / (1 << 20), values[g.names.peak] / (1 << 20), nil
}
