// Package runbooks tests that whoever is woken finds a page, and that the page is whole.
package runbooks

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"
)

const (
	alertsFile  = "../../charts/rbd-rescue/files/alerts.yaml"
	alertPrefix = "RBDRescue"
	pageURL     = "https://github.com/rbd-rescue/rbd-rescue/blob/main/docs/runbooks/"
)

type rule struct {
	Alert       string            `json:"alert"`
	Labels      map[string]string `json:"labels"`
	Annotations map[string]string `json:"annotations"`
}

func alerts(t *testing.T) []rule {
	t.Helper()
	var file struct {
		Groups []struct {
			Rules []rule `json:"rules"`
		} `json:"groups"`
	}
	if err := yaml.Unmarshal([]byte(read(t, alertsFile)), &file); err != nil {
		t.Fatal(err)
	}
	var all []rule
	for _, group := range file.Groups {
		all = append(all, group.Rules...)
	}
	if len(all) == 0 {
		t.Fatalf("%s has no alert", alertsFile)
	}
	return all
}

// pages by name, without .md.
func pages(t *testing.T) map[string]string {
	t.Helper()
	files, err := filepath.Glob("*.md")
	if err != nil {
		t.Fatal(err)
	}
	texts := map[string]string{}
	for _, file := range files {
		texts[strings.TrimSuffix(file, ".md")] = read(t, file)
	}
	return texts
}

// warnings are the reasons that docs/events.md marks as such.
func warnings(t *testing.T) []string {
	t.Helper()
	return found(read(t, "../events.md"), "(?m)^\\| [^|]*`(\\w+)`[^|]*\\(Warning\\)")
}

func read(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// found are the first groups of all matches.
func found(text, expression string) []string {
	var list []string
	for _, match := range regexp.MustCompile(expression).FindAllStringSubmatch(text, -1) {
		list = append(list, match[1])
	}
	return list
}

func TestEveryAlertSaysHowBadItIsAndWhatToDo(t *testing.T) {
	t.Parallel()
	known, unitTests := pages(t), read(t, "../../charts/rbd-rescue/files/alerts_test.yaml")
	for _, alert := range alerts(t) {
		name, ours := strings.CutPrefix(alert.Alert, alertPrefix)
		if !ours {
			t.Errorf("%s: its name does not begin with %s", alert.Alert, alertPrefix)
		}
		if severity := alert.Labels["severity"]; severity != "critical" && severity != "warning" {
			t.Errorf("%s: severity %q", alert.Alert, severity)
		}
		if alert.Annotations["summary"] == "" || alert.Annotations["description"] == "" {
			t.Errorf("%s: summary or description is missing", alert.Alert)
		}
		if got, want := alert.Annotations["runbook_url"], pageURL+name+".md"; got != want {
			t.Errorf("%s: runbook_url is %q, want %q", alert.Alert, got, want)
		}
		if known[name] == "" {
			t.Errorf("%s: there is no page %s.md", alert.Alert, name)
		}
		if !strings.Contains(unitTests, `"`+alert.Alert+`"`) {
			t.Errorf("%s: no unit test sees it fire", alert.Alert)
		}
	}
}

func TestEveryWarningHasAPageAndEveryPageAReader(t *testing.T) {
	t.Parallel()
	known, events := pages(t), read(t, "../events.md")
	read := map[string]bool{}
	for _, alert := range alerts(t) {
		read[strings.TrimPrefix(alert.Alert, alertPrefix)] = true
	}
	for _, reason := range warnings(t) {
		read[reason] = true
		if known[reason] == "" {
			t.Errorf("there is no page %s.md for events with this reason", reason)
		}
	}
	for page := range known {
		if !read[page] {
			t.Errorf("no alert and no Warning leads to %s.md", page)
		}
		if !strings.Contains(events, "(runbooks/"+page+".md)") {
			t.Errorf("docs/events.md has no link to %s.md", page)
		}
	}
}

// A reason whose events are Warnings somewhere in the code is one in docs/events.md. The code that takes the reason from a
// variable tells of refusals and of BreakerOpen, Paused and CephUnreachable.
func TestEveryWarningOfTheCodeIsOneInTheDocumentation(t *testing.T) {
	t.Parallel()
	documented := warnings(t)
	inCode := []string{"BreakerOpen", "Paused", "CephUnreachable"}
	for _, folder := range []string{"remediator", "webhook", "certs"} {
		err := filepath.WalkDir("../../"+folder, func(path string, _ fs.DirEntry, err error) error {
			if err != nil || filepath.Ext(path) != ".go" || strings.HasSuffix(path, "_test.go") {
				return err
			}
			inCode = append(inCode, found(read(t, path), `(?:\bwarning|EventTypeWarning), (?:Reason: )?v1alpha1\.Reason(\w+)`)...)
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if len(inCode) < 10 {
		t.Fatalf("found only %v in the code", inCode)
	}
	for _, reason := range inCode {
		if !slices.Contains(documented, reason) {
			t.Errorf("events with reason %s are Warnings; docs/events.md does not say so", reason)
		}
	}
}

func TestEveryPageIsWhole(t *testing.T) {
	t.Parallel()
	reasons := found(read(t, "../../api/v1alpha1/reasons.go"), `Reason\w+ += "(\w+)"`)
	for name, text := range pages(t) {
		if !strings.HasPrefix(text, "# "+name+"\n") {
			t.Errorf("%s.md: its title is not its name", name)
		}
		at := 0
		for _, part := range []string{"\n**Look**\n", "\n    kubectl ", "\n**Do**\n", "\n1. ", "\n**Do not**", "\n**Over** when "} {
			next := strings.Index(text[at:], part)
			if next < 0 {
				t.Errorf("%s.md: has no %q in its place", name, strings.TrimSpace(part))
				break
			}
			at += next
		}
		for _, reason := range found(text, `reason=(\w+)`) {
			if !slices.Contains(reasons, reason) {
				t.Errorf("%s.md: there is no reason %s", name, reason)
			}
		}
		for _, link := range found(text, `\]\(([^)#]+)`) {
			if _, err := os.Stat(link); err != nil {
				t.Errorf("%s.md: %v", name, err)
			}
		}
	}
	for _, alert := range alerts(t) {
		for _, reason := range found(alert.Annotations["description"], `reason=(\w+)`) {
			if !slices.Contains(reasons, reason) {
				t.Errorf("%s: there is no reason %s", alert.Alert, reason)
			}
		}
	}
}
