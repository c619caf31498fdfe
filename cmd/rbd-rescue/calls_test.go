package main

import (
	"bytes"
	"strings"
	"testing"

	"github.com/rbd-rescue/rbd-rescue/cmd/exit"
)

func TestAWrongCallOfAVerbIsToldInOneLine(t *testing.T) {
	for args, want := range map[string]string{
		"paln":                             `there is no command "paln"; did you mean plan?`,
		"plan":                             "accepts 1 arg(s), received 0",
		"plan node-a node-b":               "accepts 1 arg(s), received 2",
		"plan node-a --fnord":              "unknown flag: --fnord; see rbd-rescue plan --help",
		"plan node-a -o yaml":              "-o yaml",
		"plan node-a --client 10.0.0.1:/7": "--by-hand",
		"plan node-a --namespace=":         "--namespace: is missing",
	} {
		var problem bytes.Buffer
		root := rootCommand()
		root.SetArgs(strings.Fields(args))
		code := exit.Run(t.Context(), root, &problem)
		if text := problem.String(); code != exit.Misused || !strings.Contains(text, want) || strings.Count(text, "\n") != 1 {
			t.Errorf("%s: code %d, says %q, not %q", args, code, text, want)
		}
	}
}
