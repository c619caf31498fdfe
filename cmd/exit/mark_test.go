package exit

import (
	"bytes"
	"testing"
)

func TestAMarkIsReadInWhateverPiecesItComes(t *testing.T) {
	t.Parallel()
	var sent bytes.Buffer
	sent.WriteString("one\ntwo \x1e not a mark, no new line")
	if err := WriteMark(&sent, "call", 1); err != nil {
		t.Fatal(err)
	}
	for size := 1; size <= sent.Len(); size++ {
		var got bytes.Buffer
		until := NewUntil(&got, "call")
		for rest := sent.Bytes(); len(rest) > 0; rest = rest[min(size, len(rest)):] {
			if n, err := until.Write(rest[:min(size, len(rest))]); err != nil || n != min(size, len(rest)) {
				t.Fatal(n, err)
			}
		}
		if err := until.Flush(); err != nil {
			t.Fatal(err)
		}
		if code, ended := until.Ended(); !ended || code != 1 {
			t.Errorf("in pieces of %d: ended %v with code %d", size, ended, code)
		}
		if want := "one\ntwo \x1e not a mark, no new line"; got.String() != want {
			t.Errorf("in pieces of %d: %q, want %q", size, got.String(), want)
		}
	}
}

func TestWhatIsNotTheWholeMarkOfThisCallIsNoEnd(t *testing.T) {
	t.Parallel()
	for name, text := range map[string]string{
		"nothing":                  "",
		"output alone":             "all went well\n",
		"a mark that is cut off":   "fine\x1ecall ended 0",
		"a mark without its code":  "fine\x1ecall ended \n",
		"the mark of another call": "fine\x1eother ended 0\n",
		"text that looks like one": "call ended 0\n",
	} {
		var got bytes.Buffer
		until := NewUntil(&got, "call")
		if _, err := until.Write([]byte(text)); err != nil {
			t.Fatal(err)
		}
		if code, ended := until.Ended(); ended {
			t.Errorf("%s: taken for an end with code %d", name, code)
		}
		if err := until.Flush(); err != nil || got.String() != text {
			t.Errorf("%s: passed on %q (%v)", name, got.String(), err)
		}
	}
}
