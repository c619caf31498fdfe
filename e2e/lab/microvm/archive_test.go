package microvm

import (
	"bytes"
	"errors"
	"os"
	"testing"
)

// The form is that of the kernel's Documentation/driver-api/early-userspace/buffer-format.rst, byte by byte.
func TestAnArchiveIsWhatTheKernelUnpacks(t *testing.T) {
	var out bytes.Buffer
	a := &archive{out: &out}
	a.add("modules", directory, nil)
	a.add("init", executable, []byte("hello"))
	if err := a.end(); err != nil {
		t.Fatal(err)
	}
	const zero = "00000000"
	want := "070701" + "00000001" + "000041ed" + zero + zero + "00000002" + zero + zero + zero + zero + zero + zero + "00000008" + zero +
		"modules\x00" + "\x00\x00" +
		"070701" + "00000002" + "000081ed" + zero + zero + "00000001" + zero + "00000005" + zero + zero + zero + zero + "00000005" + zero +
		"init\x00" + "\x00" + "hello" + "\x00\x00\x00" +
		"070701" + "00000003" + zero + zero + zero + "00000001" + zero + zero + zero + zero + zero + zero + "0000000b" + zero +
		"TRAILER!!!\x00" + "\x00\x00\x00"
	if got := out.String(); got != want {
		t.Errorf("got\n%q\nwant\n%q", got, want)
	}
}

func TestAFolderIsPackedWithItsLinksAndWhatCanBeExecuted(t *testing.T) {
	dir := t.TempDir()
	if err := errors.Join(
		os.Mkdir(dir+"/bin", 0o700), os.WriteFile(dir+"/bin/sh", []byte("shell"), 0o700), os.Symlink("sh", dir+"/bin/ash"), os.WriteFile(dir+"/note", []byte("text"), 0o600),
	); err != nil {
		t.Fatal(err)
	}
	var got, want bytes.Buffer
	a, b := &archive{out: &got}, &archive{out: &want}
	if err := a.addTree(dir); err != nil {
		t.Fatal(err)
	}
	b.add("bin", directory, nil)
	b.add("bin/ash", link, []byte("sh"))
	b.add("bin/sh", executable, []byte("shell"))
	b.add("note", plainFile, []byte("text"))
	if got.String() != want.String() {
		t.Errorf("got\n%q\nwant\n%q", got.String(), want.String())
	}
	if err := a.addTree(dir + "/none"); err == nil {
		t.Error("a folder that is not there was packed")
	}
}

type full struct{}

func (full) Write([]byte) (int, error) { return 0, errors.New("no space left") }

func TestAnArchiveThatCannotBeWrittenIsAnError(t *testing.T) {
	a := &archive{out: full{}}
	a.add("init", executable, []byte("hello"))
	if a.end() == nil {
		t.Error("no error")
	}
}
