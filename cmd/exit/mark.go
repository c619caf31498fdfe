package exit

import (
	"bytes"
	"crypto/rand"
	"fmt"
	"io"
	"strconv"
	"strings"
	"sync"

	"github.com/spf13/pflag"
)

// A command that is run far away may be cut off at any moment, and what carries its output may then look as if it had ended. So it
// writes, after all else, a mark that names the call and the code. Who reads no mark knows that it does not know.

// markFlag is the flag that names the call.
const markFlag = "end-mark"

// begin and end are of the mark; no text for people has this byte.
const (
	begin = "\x1e"
	end   = "\n"
)

// NewCall names a call, so that no output can hold its mark by chance.
func NewCall() string { return rand.Text() }

// MarkFlag is the argument that has the command mark its end.
func MarkFlag(call string) string { return "--" + markFlag + "=" + call }

// AddMarkFlag lets a command be told to mark its end; it is for programs, and not in the help.
func AddMarkFlag(flags *pflag.FlagSet) {
	flags.String(markFlag, "", "name of the call whose end is marked on stdout")
	_ = flags.MarkHidden(markFlag) // it is there
}

// CallIn finds the name of the call in the arguments, be the others right or wrong; empty for none.
func CallIn(args []string) string {
	for _, arg := range args {
		if call, is := strings.CutPrefix(arg, "--"+markFlag+"="); is {
			return call
		}
	}
	return ""
}

// WriteMark marks the end of a call; nothing may be written after it.
func WriteMark(w io.Writer, call string, code int) error {
	_, err := fmt.Fprintf(w, "%s%s ended %d%s", begin, call, code, end)
	return err
}

// Until passes on what a call writes, but for its mark.
type Until struct {
	to   io.Writer
	call string

	lock sync.Mutex
	held []byte // what may be the beginning of the mark
	code int
	seen bool
}

// NewUntil reads for the mark of a call.
func NewUntil(to io.Writer, call string) *Until { return &Until{to: to, call: call} }

// Write passes on what is not the mark.
func (u *Until) Write(p []byte) (int, error) {
	u.lock.Lock()
	defer u.lock.Unlock()
	u.held = append(u.held, p...)
	for len(u.held) > 0 {
		at := bytes.Index(u.held, []byte(begin))
		if at < 0 {
			at = len(u.held)
		}
		if at > 0 {
			if _, err := u.to.Write(u.held[:at]); err != nil {
				return 0, err
			}
			u.held = u.held[at:]
			continue
		}
		size, is := u.mark()
		switch {
		case size == 0:
			return len(p), nil // not to be told yet
		case is:
			u.held = u.held[size:]
		default:
			if _, err := u.to.Write(u.held[:size]); err != nil {
				return 0, err
			}
			u.held = u.held[size:]
		}
	}
	return len(p), nil
}

// mark reads what is held, and begins as a mark does: how much of it is told, and whether it is the mark.
func (u *Until) mark() (size int, is bool) {
	prefix := begin + u.call + " ended "
	if len(u.held) < len(prefix) {
		if strings.HasPrefix(prefix, string(u.held)) {
			return 0, false
		}
		return 1, false
	}
	if !bytes.HasPrefix(u.held, []byte(prefix)) {
		return 1, false
	}
	last := bytes.Index(u.held, []byte(end))
	if last < 0 {
		return 0, false
	}
	code, err := strconv.Atoi(string(u.held[len(prefix):last]))
	if err != nil {
		return 1, false
	}
	u.code, u.seen = code, true
	return last + len(end), true
}

// Ended is the code with which the call has said that it came to its end; false if it has not said so.
func (u *Until) Ended() (code int, ended bool) {
	u.lock.Lock()
	defer u.lock.Unlock()
	return u.code, u.seen
}

// Flush passes on what was held back for the mark that did not come.
func (u *Until) Flush() error {
	u.lock.Lock()
	defer u.lock.Unlock()
	_, err := u.to.Write(u.held)
	u.held = nil
	return err
}
