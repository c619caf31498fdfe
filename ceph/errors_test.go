package ceph

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"syscall"
	"testing"
)

func TestCommandErrorTellsTheMissingRight(t *testing.T) {
	t.Parallel()
	for command, want := range map[string]string{
		"osd blocklist": `mon 'allow r, allow command "osd blocklist"'`,
		"osd blacklist": `mon 'allow r, allow command "osd blacklist"'`,
		"osd dump":      `mon 'allow r'`,
		"mgr dump":      `mon 'allow r'`,
		"mgr metadata":  `mon 'allow r'`,
		"service dump":  `mon 'allow r'`,
		"log last":      `mon 'allow r'`,
		"stat":          `osd 'profile rbd-read-only'`,
		"connect":       "its key is wrong",
	} {
		err := fmt.Errorf("doing it: %w", &CommandError{Command: command, Errno: syscall.EACCES, Message: "access denied"})
		if text := err.Error(); !strings.Contains(text, want) || !strings.Contains(text, "access denied") {
			t.Errorf("%s: got %s", command, text)
		}
		if !errors.Is(err, syscall.EACCES) || !errors.Is(err, fs.ErrPermission) || errors.Is(err, ErrInDoubt) || IsNotFound(err) {
			t.Errorf("%s: taken for another error", command)
		}
	}
	if !IsNotFound(&CommandError{Errno: syscall.ENOENT}) || IsNotFound(nil) {
		t.Error("not found is told wrongly")
	}
}
