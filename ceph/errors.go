package ceph

import (
	"errors"
	"fmt"
	"syscall"
)

// ErrInDoubt says that a call may or may not have had its effect: its deadline passed or the connection broke. Observe
// again before anything else.
var ErrInDoubt = errors.New("it is not known whether Ceph did it")

// CommandError is Ceph's own answer to a command that it did not carry out.
type CommandError struct {
	// Command is the prefix, as in "osd blocklist".
	Command string
	Errno   syscall.Errno
	// Message is what the monitor said, often empty.
	Message string
}

func (e *CommandError) Error() string {
	text := fmt.Sprintf("ceph %s: %s", e.Command, e.Errno.Error())
	if e.Message != "" {
		text += ": " + e.Message
	}
	if e.Errno == syscall.EACCES || e.Errno == syscall.EPERM {
		text += ` (the user lacks a right; it needs mon 'allow r, allow command "osd blocklist"' and osd 'profile rbd-read-only')`
	}
	return text
}

// Is makes errors.Is(err, syscall.EINVAL) and the like work.
func (e *CommandError) Is(target error) bool {
	errno, ok := target.(syscall.Errno) //nolint:errorlint // the target of errors.Is is not wrapped
	return ok && errno == e.Errno
}
