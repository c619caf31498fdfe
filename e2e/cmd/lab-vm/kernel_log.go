package main

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"sync"

	"golang.org/x/sys/unix"
)

// resultLine is what the RBD driver writes of a request that failed: "rbd: rbd0: write at objno 0 2048~512 result -108".
var resultLine = regexp.MustCompile(`rbd: (rbd\d+): .*result -(\d+)`)

// kernelLog reads results of failed requests from the kernel's log.
type kernelLog struct {
	lock  sync.Mutex
	file  int
	last  map[string]unix.Errno // by device
	bytes []byte
}

func openKernelLog() (*kernelLog, error) {
	file, err := unix.Open("/dev/kmsg", unix.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("opening the kernel's log: %w", err)
	}
	return &kernelLog{file: file, last: map[string]unix.Errno{}, bytes: make([]byte, 8192)}, nil
}

// lastResult is that of a device's last failed request; zero if none is known.
func (l *kernelLog) lastResult(device string) unix.Errno {
	l.lock.Lock()
	defer l.lock.Unlock()
	for {
		n, err := unix.Read(l.file, l.bytes) // one line each
		switch {
		case err == nil:
			l.note(l.bytes[:n])
		case errors.Is(err, unix.EPIPE) || errors.Is(err, unix.EINTR): // lines were lost; the next one is there
		default:
			return l.last[device] // EAGAIN: the end
		}
	}
}

func (l *kernelLog) note(line []byte) {
	match := resultLine.FindSubmatch(line)
	if match == nil {
		return
	}
	if number, err := strconv.Atoi(string(match[2])); err == nil {
		l.last[string(match[1])] = unix.Errno(number)
	}
}
