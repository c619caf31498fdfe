package doctor

import (
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// told are the findings that are not OK, as "severity check: message".
func told(findings []Finding) []string {
	var texts []string
	for _, f := range findings {
		if f.Severity != OK {
			texts = append(texts, string(f.Severity)+" "+f.Check+": "+f.Message)
		}
	}
	return texts
}

// mended: whoever is told of something is told what to do.
func mended(t *testing.T, findings []Finding) {
	t.Helper()
	for _, f := range findings {
		if f.Severity != OK && !strings.HasSuffix(f.Remedy, ".") {
			t.Errorf("no remedy, or not in a sentence: %+v", f)
		}
		if !strings.HasSuffix(f.Message, ".") || strings.Contains(f.Message, "%!") {
			t.Errorf("not a sentence: %+v", f)
		}
	}
}

func compare(t *testing.T, findings []Finding, want []string) {
	t.Helper()
	mended(t, findings)
	if diff := cmp.Diff(want, told(findings)); diff != "" {
		t.Errorf("(-want +told)\n%s", diff)
	}
}

// everyCheck: what is well is told, too, so that a reader sees what was looked at.
func everyCheck(t *testing.T, findings []Finding, checks []string) {
	t.Helper()
	var names []string
	for _, f := range findings {
		names = append(names, f.Check)
	}
	if diff := cmp.Diff(checks, names); diff != "" {
		t.Errorf("(-want +told)\n%s", diff)
	}
}

func TestWhatCouldNotBeReadIsNeitherGoodNorBad(t *testing.T) {
	t.Parallel()
	f := healthyInside()
	f.Unread = Unread{CheckCaches: errors.New("asking the remediator: connection refused")}
	compare(t, f.Findings(), []string{"warning caches: This could not be looked at: asking the remediator: connection refused."})
}

func TestFindingsComeInTheOrderOfTheChecksTheWorstFirst(t *testing.T) {
	t.Parallel()
	all := []Finding{{Check: CheckPauses, Severity: OK}, {Check: CheckPools, Severity: Warning}, {Check: CheckPools, Severity: Error}, {Check: CheckCeph, Severity: OK}}
	Sort(all)
	want := []Finding{{Check: CheckCeph, Severity: OK}, {Check: CheckPools, Severity: Error}, {Check: CheckPools, Severity: Warning}, {Check: CheckPauses, Severity: OK}}
	if diff := cmp.Diff(want, all); diff != "" {
		t.Error(diff)
	}
	if !Failed(all) || Failed(all[2:]) {
		t.Error("only an error fails")
	}
}

func TestEveryCheckIsExplained(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../docs/doctor.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, check := range Checks {
		if !strings.Contains(string(text), "\n| `"+check+"` |") {
			t.Errorf("docs/doctor.md does not explain %s", check)
		}
	}
}
