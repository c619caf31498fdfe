package remote

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rbd-rescue/rbd-rescue/cmd/exit"
)

// rescue is a stand-in for rbd-rescue: a shell script that knows its call as $CALL.
func rescue(t *testing.T, script string) Local {
	t.Helper()
	path := filepath.Join(t.TempDir(), "rbd-rescue")
	text := "#!/bin/sh\nfor CALL; do :; done\nCALL=${CALL#--end-mark=}\n" + script + "\n"
	if err := os.WriteFile(path, []byte(text), 0o700); err != nil {
		t.Fatal(err)
	}
	return Local{Command: path + " --config=/etc/x"}
}

func TestOnlyACommandThatSaysSoHasEnded(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		script  string
		code    int
		inDoubt bool
		out     string
	}{
		"fine":                          {script: `echo "$1 $2 $3"; printf '\036%s ended 0\n' "$CALL"`, out: "--config=/etc/x plan node-a\n"},
		"found something":               {script: `echo found; printf '\036%s ended 1\n' "$CALL"; exit 1`, code: exit.Failed, out: "found\n"},
		"called wrongly":                {script: `printf '\036%s ended 2\n' "$CALL"; exit 2`, code: exit.Misused},
		"ends well without its mark":    {script: `echo all is well`, code: exit.Failed, inDoubt: true, out: "all is well\n"},
		"is killed":                     {script: `echo half; kill -9 $$`, code: exit.Failed, inDoubt: true, out: "half\n"},
		"an old one, without the verb":  {script: `echo 'unknown command' >&2; exit 1`, code: exit.Failed, inDoubt: true},
		"the way to it fails after all": {script: `printf '\036%s ended 0\n' "$CALL"; exit 255`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var out, problems bytes.Buffer
			err := rescue(t, test.script).Run(t.Context(), Streams{Out: &out, Err: &problems}, "plan", "node-a")
			if exit.Code(err) != test.code || errors.Is(err, ErrInDoubt) != test.inDoubt || out.String() != test.out {
				t.Errorf("code %d (%v), out %q; want code %d, in doubt %v, out %q", exit.Code(err), err, out.String(), test.code, test.inDoubt, test.out)
			}
		})
	}
}

func TestACommandThatIsNotThereWasNotBegun(t *testing.T) {
	t.Parallel()
	err := Local{Command: "/nowhere/rbd-rescue"}.Run(t.Context(), Streams{Out: &bytes.Buffer{}, Err: &bytes.Buffer{}}, "plan")
	if err == nil || errors.Is(err, ErrInDoubt) || !strings.Contains(err.Error(), "--rescue-command") {
		t.Error(err)
	}
}

func TestADeadlineLeavesACommandInDoubt(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	err := rescue(t, "exec sleep 60").Run(ctx, Streams{Out: &bytes.Buffer{}, Err: &bytes.Buffer{}}, "plan")
	if !errors.Is(err, ErrInDoubt) || !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
}
