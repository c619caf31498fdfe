package node

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// mountNamespace is one, and the processes in it.
type mountNamespace struct {
	processes []Process
	mounts    []mountEntry
}

// processes are all of the machine's, and what is mounted where they are.
type processes struct {
	all []Process
	// host is the mount namespace of process 1.
	host   mountNamespace
	others []mountNamespace
}

// readProcesses reads /proc of the whole machine. One of a container shows the container's alone, and would make every mapping look
// unused: the kernel's own threads are in no other.
func readProcesses(proc string) (processes, error) {
	if name, err := readLine(filepath.Join(proc, "2", "comm")); err != nil || name != "kthreadd" {
		return processes{}, fmt.Errorf("%s does not show all processes of the machine: run on the host, or in a pod with hostPID", proc)
	}
	entries, err := os.ReadDir(proc)
	if err != nil {
		return processes{}, fmt.Errorf("listing processes: %w", err)
	}
	var p processes
	byID := map[string]*mountNamespace{}
	for _, entry := range entries {
		pid, err := strconv.Atoi(entry.Name())
		if err != nil {
			continue
		}
		dir := filepath.Join(proc, entry.Name())
		if err := p.add(dir, pid, byID); err != nil && !gone(dir, err) {
			return processes{}, fmt.Errorf("reading process %d: %w", pid, err)
		}
	}
	hostID, err := os.Readlink(filepath.Join(proc, "1", "ns", "mnt"))
	if err != nil || byID[hostID] == nil {
		return processes{}, fmt.Errorf("reading the mounts of process 1: %w", err)
	}
	p.host = *byID[hostID]
	for id, namespace := range byID {
		if id != hostID {
			p.others = append(p.others, *namespace)
		}
	}
	return p, nil
}

func (p *processes) add(dir string, pid int, byID map[string]*mountNamespace) error {
	name, err := readLine(filepath.Join(dir, "comm"))
	if err != nil {
		return err
	}
	process := Process{PID: pid, Name: name}
	p.all = append(p.all, process)
	id, err := os.Readlink(filepath.Join(dir, "ns", "mnt"))
	if err != nil {
		return err
	}
	namespace := byID[id]
	if namespace == nil {
		text, err := os.ReadFile(filepath.Join(dir, "mountinfo"))
		if err != nil {
			return err
		}
		namespace = &mountNamespace{}
		if namespace.mounts, err = parseMountinfo(string(text)); err != nil {
			return err
		}
		byID[id] = namespace
	}
	namespace.processes = append(namespace.processes, process)
	return nil
}

// gone tells whether an error in reading dir means that its process has ended meanwhile, or is a zombie, which has no mounts. "Permission
// denied" may mean both that it has ended and that it may not be read; one that may not be read could have any image mounted.
func gone(dir string, err error) bool {
	if errors.Is(err, fs.ErrPermission) {
		_, err = os.Stat(dir)
	}
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ESRCH) || errors.Is(err, unix.EINVAL)
}

func (p processes) named(name string) []Process {
	var found []Process
	for _, process := range p.all {
		if process.Name == name {
			found = append(found, process)
		}
	}
	return found
}

// readSwaps gives the block devices that the kernel swaps to, without /dev.
func readSwaps(proc string) (map[string]bool, error) {
	text, err := os.ReadFile(filepath.Join(proc, "swaps"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil // a kernel without swap
	}
	if err != nil {
		return nil, fmt.Errorf("reading what is swapped to: %w", err)
	}
	swaps := map[string]bool{}
	for line := range strings.Lines(string(text)) {
		if fields := strings.Fields(line); len(fields) > 0 {
			swaps[strings.TrimPrefix(fields[0], "/dev/")] = true
		}
	}
	return swaps, nil
}
