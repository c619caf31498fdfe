package doctor

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestThePersonReadsTheRemedyBelowWhatIsWrong(t *testing.T) {
	t.Parallel()
	var text strings.Builder
	if err := WriteText(&text, []Finding{
		{Check: CheckCeph, Severity: OK, Message: "Ceph answers."},
		{Check: CheckCephCaps, Severity: Error, Message: "It may not.", Remedy: "Run: ceph auth caps."},
		{Check: CheckPauses, Severity: Warning, Message: "Node a is paused.", Remedy: "Resume it."},
	}); err != nil {
		t.Fatal(err)
	}
	want := `OK    ceph       Ceph answers.
FAIL  ceph-caps  It may not.
                 -> Run: ceph auth caps.
WARN  pauses     Node a is paused.
                 -> Resume it.
`
	if diff := cmp.Diff(want, text.String()); diff != "" {
		t.Error(diff)
	}
}
