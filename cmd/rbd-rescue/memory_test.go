package main

import (
	"os"
	"path/filepath"
	"testing"
)

func TestAVerbStopsBeforeTheContainersMemoryIsFull(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		limit, stat string
		stops       bool
	}{
		"room":                {limit: "1000\n", stat: "file 900\nanon 799\nanon_thp 999\n"},
		"nearly full":         {limit: "1000\n", stat: "file 1\nanon 800\n", stops: true},
		"no limit":            {limit: "max\n", stat: "anon 800\n"},
		"no cgroup v2":        {},
		"limit without usage": {limit: "1000\n"},
	} {
		dir := t.TempDir()
		for file, text := range map[string]string{"memory.max": test.limit, "memory.stat": test.stat} {
			if text == "" {
				continue
			}
			if err := os.WriteFile(filepath.Join(dir, file), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if err := roomLeft(dir); (err != nil) != test.stops {
			t.Errorf("%s: %v", name, err)
		}
	}
}
