package doctor

import (
	"fmt"
	"io"
)

// WriteText writes findings for people, one below the other, with the remedy below what is wrong.
func WriteText(w io.Writer, findings []Finding) error {
	width := 0
	for _, f := range findings {
		width = max(width, len(f.Check))
	}
	for _, f := range findings {
		if _, err := fmt.Fprintf(w, "%-4s  %-*s  %s\n", f.Severity.word(), width, f.Check, f.Message); err != nil {
			return err
		}
		if f.Remedy == "" {
			continue
		}
		if _, err := fmt.Fprintf(w, "%-4s  %-*s  -> %s\n", "", width, "", f.Remedy); err != nil {
			return err
		}
	}
	return nil
}

func (s Severity) word() string {
	switch s {
	case OK:
		return "OK"
	case Warning:
		return "WARN"
	default:
		return "FAIL"
	}
}
