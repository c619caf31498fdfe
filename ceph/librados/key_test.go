//go:build librados

package librados

import (
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// newKey is one of AES-256, as Ceph makes them since 19.2.6 and 20.2.4. Ceph 16's library can't read it, no more than a key
// that was pasted with a letter too few.
const newKey = "AgBrRQZr9lRsAiAAlTQGvlRKJmZdIoMVK7lf5FD4TelI1b6ljhqetcSuZlk="

func TestAKeyThatCannotBeReadIsToldAndNotPrinted(t *testing.T) {
	t.Parallel()
	for name, key := range map[string]string{"of a newer Ceph": newKey, "cut off": newKey[:20], "no key": "secret"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			options := Options{Monitors: []string{"127.0.0.1:1"}, User: "nobody", Key: key, ConnectTimeout: time.Second}
			if os.Getenv("DIAL") != "" {
				conn, err := Dial(within(t, 10*time.Second), options)
				if err == nil {
					conn.Close()
					t.Fatal("connected")
				}
				t.Fatal(err)
			}
			// The library prints where no Go program can look: to this process's standard error.
			cmd := exec.CommandContext(within(t, 20*time.Second), os.Args[0], "-test.run", "^"+strings.ReplaceAll(t.Name(), "/", "$/^")+"$")
			cmd.Env = append(os.Environ(), "DIAL=1")
			out, err := cmd.CombinedOutput()
			if err == nil || strings.Contains(string(out), key) {
				t.Errorf("%v:\n%s", err, out)
			}
			if !strings.Contains(string(out), "the key can't be read") {
				t.Errorf("does not tell:\n%s", out)
			}
		})
	}
}
