// Command mutate breaks each safety rule in the code, one way at a time, and fails if the tests do not notice. Run it from
// the root of the repository: `make mutate`. Nothing is written: the broken files are laid over the real ones.
package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

func main() {
	root := flag.String("root", ".", "the repository")
	only := flag.String("rule", "", "break this rule alone, as in S1")
	flag.Parse()
	if err := run(*root, *only); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(root, only string) error {
	root, err := filepath.Abs(root)
	if err != nil {
		return err
	}
	var wrong []error
	for _, m := range mutations {
		if only != "" && m.rule != only {
			continue
		}
		noticed, err := m.try(root)
		switch {
		case err != nil:
			noticed = "ERROR"
			wrong = append(wrong, fmt.Errorf("%s: %w", m, err))
		case noticed == "":
			noticed = "NOBODY"
			wrong = append(wrong, fmt.Errorf("no test notices: %s", m))
		}
		fmt.Printf("%-3s %-70s %s\n", m.rule, m.what, noticed)
	}
	return errors.Join(wrong...)
}

// mutation is one way to break a rule.
type mutation struct {
	rule, what string
	// file has old in it exactly once; new takes its place.
	file, old, new string
}

func (m mutation) String() string { return fmt.Sprintf("%s, %s (%s)", m.rule, m.what, m.file) }

// broken is the text of a file with the mutation.
func (m mutation) broken(file string) (string, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return "", err
	}
	if n := strings.Count(string(text), m.old); n != 1 {
		return "", fmt.Errorf("the text to replace is there %d times, not once: the code has changed, change the mutation with it", n)
	}
	return strings.Replace(string(text), m.old, m.new, 1), nil
}

// try gives the first test that notices; empty for none.
func (m mutation) try(root string) (noticed string, err error) {
	file := filepath.Join(root, m.file)
	text, err := m.broken(file)
	if err != nil {
		return "", err
	}
	dir, err := os.MkdirTemp("", "mutate")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(dir) //nolint:errcheck // a temporary folder
	broken := filepath.Join(dir, filepath.Base(m.file))
	if err := os.WriteFile(broken, []byte(text), 0o600); err != nil {
		return "", err
	}
	overlay, err := json.Marshal(map[string]any{"Replace": map[string]string{file: broken}})
	if err != nil {
		return "", err
	}
	overlayFile := filepath.Join(dir, "overlay.json")
	if err := os.WriteFile(overlayFile, overlay, 0o600); err != nil {
		return "", err
	}
	for _, tests := range [][]string{
		{"./volume", "./ceph", "./remediator/plan", "./remediator/observe", "./remediator/recorder", "./remediator/rescuer", "./remediator/retention", "./remediator/flagger", "./node"},
		{"./remediator/history", "-rapid.checks=300", "-rapid.steps=100", "-rapid.shrinktime=0s"}, // slower, so only for what the others let pass
	} {
		if noticed, err = test(root, append([]string{"-vet=off", "-overlay", overlayFile}, tests...)); noticed != "" || err != nil {
			return noticed, err
		}
	}
	return "", nil
}

// test gives the first test that fails; empty for none.
func test(root string, args []string) (string, error) {
	command := exec.Command("go", append([]string{"test"}, args...)...) //nolint:gosec // our own arguments
	command.Dir = root
	out, err := command.CombinedOutput()
	var failed *exec.ExitError
	switch {
	case err == nil:
		return "", nil
	case !errors.As(err, &failed):
		return "", err
	case strings.Contains(string(out), "[build failed]") || strings.Contains(string(out), "[setup failed]"):
		return "", fmt.Errorf("it does not compile:\n%s", out)
	}
	return firstFailure(string(out)), nil
}

// firstFailure is the innermost test of the first that failed.
func firstFailure(out string) string {
	name := "a test"
	for line := range strings.Lines(out) {
		test, is := strings.CutPrefix(strings.TrimSpace(line), "--- FAIL: ")
		if !is {
			if name != "a test" {
				break
			}
			continue
		}
		name, _, _ = strings.Cut(test, " (")
	}
	return name
}
