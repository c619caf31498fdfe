package ceph

import (
	"errors"
	"fmt"
	"strings"
	"syscall"
)

// ErrInDoubt says that a call may or may not have had its effect, or may have it yet: its deadline passed or the
// connection broke. Observe again before anything else. An error that is not ErrInDoubt says that nothing happened.
var ErrInDoubt = errors.New("it is not known whether Ceph did it")

// CommandError is Ceph's own answer to a call that it did not carry out.
type CommandError struct {
	// Command is the prefix of a command, as in "osd blocklist", or the name of another call, as in "list watchers".
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
		text += " (" + e.missingRight() + ")"
	}
	return text
}

// missingRight says what the user must be given.
func (e *CommandError) missingRight() string {
	switch {
	case e.Command == "connect":
		return "the user is not known to Ceph or its key is wrong: compare with `ceph auth get`"
	case strings.HasSuffix(e.Command, "blocklist"):
		return `the user needs the caps mon 'allow r, allow command "osd blocklist"'`
	case strings.HasSuffix(e.Command, "blacklist"):
		return `the user needs the caps mon 'allow r, allow command "osd blacklist"'`
	case strings.HasSuffix(e.Command, " snapshot"):
		return "the user needs the caps for snapshots of this pool: see README.md, Install it"
	case e.Command == "set image metadata":
		return "the user needs the caps for image metadata of this pool: see README.md, Install it"
	case e.Command == "clone image", e.Command == "roll image back":
		return "the user needs the caps osd 'profile rbd' for this pool and namespace"
	case strings.HasPrefix(e.Command, "osd "), strings.HasSuffix(e.Command, " dump"), strings.HasSuffix(e.Command, " metadata"), e.Command == "log last":
		return "the user needs the caps mon 'allow r'"
	default:
		return "the user needs the caps osd 'profile rbd-read-only' for this pool and namespace"
	}
}

// Unwrap makes errors.Is(err, syscall.EINVAL) and the like work.
func (e *CommandError) Unwrap() error { return e.Errno }

// IsNotFound tells whether an error says that the image or pool asked about does not exist.
func IsNotFound(err error) bool { return errors.Is(err, syscall.ENOENT) }
