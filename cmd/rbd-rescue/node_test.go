package main

import (
	"strings"
	"testing"

	"github.com/rbd-rescue/rbd-rescue/cmd/exit"
)

// callNode calls rbd-rescue node, and gives what it says on stderr and its exit code.
func callNode(t *testing.T, args ...string) (said string, code int) {
	t.Helper()
	root := rootCommand()
	root.SetArgs(append([]string{"node"}, args...))
	var out, stderr strings.Builder
	root.SetOut(&out)
	code = exit.Run(t.Context(), root, &stderr)
	return stderr.String(), code
}

func TestAWrongCallOfNodeIsToldInOneLine(t *testing.T) {
	t.Parallel()
	for call, want := range map[string]string{
		"":                             "say what to do",
		"list -o yaml":                 "there is only json",
		"list x":                       `"x" is one argument too many`,
		"list --bad":                   "unknown flag: --bad",
		"release":                      "one of --pod, --device, --image and --all",
		"release --all --device rbd0":  "one of --pod, --device, --image and --all",
		"release --all --timeout soon": "invalid argument",
		"list --cri-socket /not/there": "is no socket",
		"agent --node-name=":           "--node-name: is missing",
	} {
		if said, code := callNode(t, strings.Fields(call)...); code != exit.Misused || !strings.Contains(said, want) || strings.Count(said, "\n") != 1 {
			t.Errorf("node %s: %q, exit code %d", call, said, code)
		}
	}
}

func TestWhatCannotBeReadIsNoWrongCall(t *testing.T) {
	t.Parallel()
	if said, code := callNode(t, "list", "--sys", t.TempDir()); code != exit.Failed || !strings.Contains(said, "is no sysfs") {
		t.Errorf("%q, exit code %d", said, code)
	}
}
