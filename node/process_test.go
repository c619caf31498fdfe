package node

import (
	"fmt"
	"os"
	"os/exec"
	"testing"

	"golang.org/x/sys/unix"
)

// The kernel says EACCES, too, of a process that ends between the lookup of its namespace's link and the reading of it
// (fs/proc/namespaces.c, proc_ns_readlink).
func TestAProcessThatEndsWhileItIsReadIsGone(t *testing.T) {
	t.Parallel()
	process := exec.CommandContext(t.Context(), "sleep", "1h")
	if err := process.Start(); err != nil {
		t.Fatal(err)
	}
	dir := fmt.Sprintf("/proc/%d", process.Process.Pid)
	link, err := unix.Open(dir+"/ns/mnt", unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(link)
	if err := process.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = process.Wait() // it tells of the signal
	if _, err := unix.Readlinkat(link, "", make([]byte, 64)); !gone(dir, err) {
		t.Errorf("a process that has ended is not gone: %v", err)
	}
}

func TestAProcessThatMayNotBeReadIsNotGone(t *testing.T) {
	t.Parallel()
	if gone("/proc/self", &os.PathError{Op: "readlink", Path: "/proc/self/ns/mnt", Err: unix.EACCES}) {
		t.Error("a process that is there was taken for gone: its mounts would be missed")
	}
}
