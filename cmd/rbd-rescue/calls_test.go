package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rbd-rescue/rbd-rescue/cmd/exit"
)

func TestAWrongCallIsToldInOneLine(t *testing.T) {
	for args, want := range map[string]string{
		"paln":                             `there is no command "paln"; did you mean plan?`,
		"plan":                             "NODE is missing; see rbd-rescue plan --help",
		"plan node-a node-b":               `"node-b" is one argument too many`,
		"plan node-a --fnord":              "unknown flag: --fnord; see rbd-rescue plan --help",
		"plan node-a -o yaml":              "-o yaml",
		"plan node-a --client 10.0.0.1:/7": "--by-hand",
		"plan node-a --namespace=":         "--namespace: is missing",
		"image clone p/i@s":                "NAME is missing",
		"webhook --namespace=":             "--namespace: is missing",
		"remediator --namespace=":          "--namespace: is missing",
		"remediator --namespace=x":         "--config: is missing",
		"remediator node-a":                `"node-a" is one argument too many`,
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

func TestAWrongConfigurationEndsTheRemediatorWithFileAndField(t *testing.T) {
	const head = "apiVersion: config.rbd-rescue.io/v1alpha1\nkind: RemediatorConfiguration\n"
	for name, test := range map[string]struct {
		file string
		want []string
	}{
		"two fields": {
			head + "cephClusters: [{clusterID: a, monitors: ['10.0.0.1']}]", []string{"config.yaml", "cephClusters[0].user: is missing", "cephClusters[0].monitors[0]"},
		},
		"no key": {
			head + "cephClusters: [{clusterID: a, user: u, keyFile: /nowhere/key, monitors: ['10.0.0.1:6789']}]",
			[]string{"config.yaml", "reading keyFile of cluster a", "/nowhere/key"},
		},
	} {
		file := filepath.Join(t.TempDir(), "config.yaml")
		if err := os.WriteFile(file, []byte(test.file), 0o600); err != nil {
			t.Fatal(err)
		}
		var problem bytes.Buffer
		root := rootCommand()
		root.SetArgs([]string{"remediator", "--namespace=x", "--config=" + file})
		if code := exit.Run(t.Context(), root, &problem); code != exit.Failed {
			t.Errorf("%s: code %d", name, code)
		}
		for _, want := range test.want {
			if !strings.Contains(problem.String(), want) {
				t.Errorf("%s: does not say %q: %s", name, want, problem.String())
			}
		}
	}
}
