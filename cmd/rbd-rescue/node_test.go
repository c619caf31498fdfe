package main

import (
	"io"
	"strings"
	"testing"
)

func TestAWrongCallIsToldInOneLine(t *testing.T) {
	t.Parallel()
	for call, want := range map[string]string{
		"":                             "say what to do",
		"list -o yaml":                 "there is only json",
		"list x":                       `unknown command "x"`,
		"list --bad":                   "unknown flag: --bad",
		"release":                      "one of --pod, --device, --image and --all",
		"release --all --device rbd0":  "one of --pod, --device, --image and --all",
		"release --all --timeout soon": "invalid argument",
		"list --cri-socket /not/there": "is no socket",
		"agent --node-name=":           "--node-name is missing",
	} {
		command := nodeCommand()
		command.SilenceErrors, command.SilenceUsage = true, true
		command.SetArgs(strings.Fields(call))
		command.SetOut(io.Discard)
		err := command.ExecuteContext(t.Context())
		if err == nil || exitCode(err) != 2 || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("node %s: %v, exit code %d", call, err, exitCode(err))
		}
	}
}

func TestWhatCannotBeReadIsNoWrongCall(t *testing.T) {
	t.Parallel()
	command := nodeCommand()
	command.SilenceErrors, command.SilenceUsage = true, true
	command.SetArgs([]string{"list", "--sys", t.TempDir()})
	if err := command.ExecuteContext(t.Context()); err == nil || exitCode(err) != 1 || !strings.Contains(err.Error(), "is no sysfs") {
		t.Errorf("%v, exit code %d", err, exitCode(err))
	}
}
