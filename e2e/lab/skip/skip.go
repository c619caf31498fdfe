// Package skip skips tests so that nobody overlooks it: `make test` ends with what was skipped.
package skip

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

// Loudly skips a test and adds the reason to e2e/bin/skipped.
func Loudly(t testing.TB, format string, args ...any) {
	t.Helper()
	reason := fmt.Sprintf(format, args...)
	if err := add(t.Name() + ": " + reason); err != nil {
		t.Fatalf("SKIPPED: %s; but the list of what is skipped can't be written: %v", reason, err)
	}
	t.Skip("SKIPPED: " + reason)
}

func add(line string) error {
	dir, err := os.Getwd() // the package's folder
	if err != nil {
		return err
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			break
		}
		if dir == filepath.Dir(dir) {
			return fmt.Errorf("no go.mod above %s", dir)
		}
		dir = filepath.Dir(dir)
	}
	bin := filepath.Join(dir, "bin")
	if err := os.MkdirAll(bin, 0o755); err != nil {
		return err
	}
	file, err := os.OpenFile(filepath.Join(bin, "skipped"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(file, line)
	if closed := file.Close(); err == nil {
		err = closed
	}
	return err
}
