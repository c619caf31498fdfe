package node

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestMain lets this program be its own child, as rbd-rescue is.
func TestMain(m *testing.M) {
	if len(os.Args) == 3 && os.Args[1] == "step" {
		if err := RunChild(os.Args[2]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// host is a process with mounts of its own that stands for process 1 of a machine.
type host struct {
	*testing.T
	pid  int
	proc string
	root string
}

func newHost(t *testing.T) host {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("SKIPPED: real mounts need root")
	}
	first := exec.Command("unshare", "--mount", "--propagation", "private", "sleep", "300")
	if err := first.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = first.Process.Kill(); _ = first.Wait() })
	h := host{t, first.Process.Pid, t.TempDir(), t.TempDir()}
	own, err := os.Readlink("/proc/self/ns/mnt")
	if err != nil {
		t.Fatal(err)
	}
	for began := time.Now(); ; time.Sleep(10 * time.Millisecond) { // until it has its own
		theirs, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/mnt", h.pid))
		if err == nil && theirs != own {
			break
		}
		if time.Since(began) > 30*time.Second {
			t.Skip("SKIPPED: no mounts of its own can be made here")
		}
	}
	for _, name := range []string{"ns", "root"} {
		if err := os.MkdirAll(filepath.Join(h.proc, "1"), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(fmt.Sprintf("/proc/%d/%s", h.pid, name), filepath.Join(h.proc, "1", name)); err != nil {
			t.Fatal(err)
		}
	}
	return h
}

func (h host) children() Children {
	return Children{Command: []string{os.Args[0], "step"}, Sys: "/sys", Proc: h.proc}
}

// run runs a command on the host.
func (h host) run(args ...string) string {
	h.Helper()
	out, err := exec.Command("nsenter", append([]string{fmt.Sprintf("--mount=/proc/%d/ns/mnt", h.pid)}, args...)...).CombinedOutput()
	if err != nil {
		h.Fatalf("%v: %v: %s", args, err, out)
	}
	return string(out)
}

func (h host) mounts() string {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/mountinfo", h.pid))
	if err != nil {
		h.Fatal(err)
	}
	return string(text)
}

func TestAChildUnmountsOnTheHostAndCoversThePlace(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.run("mount", "-t", "tmpfs", "tmpfs", h.root)
	if !strings.Contains(h.mounts(), h.root) {
		t.Fatal("nothing is mounted")
	}
	if err := h.children().Unmount(t.Context(), h.root); err != nil || strings.Contains(h.mounts(), h.root) {
		t.Fatalf("%v:\n%s", err, h.mounts())
	}
	if err := h.children().Unmount(t.Context(), h.root); !errors.Is(err, unix.EINVAL) {
		t.Errorf("once more: %v", err)
	}
	if err := h.children().Cover(t.Context(), h.root); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("nsenter", fmt.Sprintf("--mount=/proc/%d/ns/mnt", h.pid), "touch", h.root+"/file").CombinedOutput()
	if err == nil || !strings.Contains(string(out), "Read-only") {
		t.Errorf("what starts there again can write: %v, %s", err, out)
	}
	if err := h.children().Unmount(t.Context(), h.root); err != nil { // as the kubelet's plugin does later
		t.Error(err)
	}
}

func TestABusyMountIsToldOf(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.run("mount", "-t", "tmpfs", "tmpfs", h.root)
	user := exec.Command("nsenter", fmt.Sprintf("--mount=/proc/%d/ns/mnt", h.pid),
		"sh", "-c", "cd "+h.root+" && exec sleep 300")
	if err := user.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = user.Process.Kill(); _ = user.Wait() })
	for began := time.Now(); ; time.Sleep(10 * time.Millisecond) {
		if at, err := os.Readlink(fmt.Sprintf("/proc/%d/cwd", user.Process.Pid)); err == nil && strings.Contains(at, filepath.Base(h.root)) {
			break
		}
		if time.Since(began) > 30*time.Second {
			t.Fatal("nobody has entered the folder")
		}
	}
	if err := h.children().Unmount(t.Context(), h.root); !errors.Is(err, unix.EBUSY) || !underWay(err) {
		t.Errorf("%v", err)
	}
}

func TestAChildDetachesALoopDevice(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	file := filepath.Join(h.root, "file")
	if err := os.WriteFile(file, make([]byte, 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("losetup", "--find", "--show", file).CombinedOutput()
	if err != nil {
		t.Skipf("SKIPPED: there are no loop devices here: %s", out)
	}
	device := strings.TrimSpace(string(out))
	t.Cleanup(func() { _ = exec.Command("losetup", "--detach", device).Run() })
	loops, err := readLoops("/sys")
	if err != nil || "/dev/"+loops[file].Name != device {
		t.Errorf("%v, %v", err, loops)
	}
	if err := h.children().DetachLoop(t.Context(), filepath.Base(device)); err != nil {
		t.Fatal(err)
	}
	if loops, err := readLoops("/sys"); err != nil || loops[file].Name != "" {
		t.Errorf("%v, %v", err, loops)
	}
}

func TestWhatIsNotThereIsDone(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	sys := t.TempDir()
	c := h.children()
	c.Sys = sys
	if err := c.Unmap(t.Context(), 7); !errors.Is(err, unix.ENOENT) {
		t.Errorf("%v", err)
	}
	if err := c.Unmount(t.Context(), h.root+"/none"); !errors.Is(err, unix.ENOENT) {
		t.Errorf("%v", err)
	}
}

func TestAnUnmapIsWrittenToTheBus(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"remove", "remove_single_major"} {
		sys := t.TempDir()
		file := filepath.Join(sys, "bus", "rbd", name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := (Children{Command: []string{os.Args[0], "step"}, Sys: sys}).Unmap(t.Context(), 7); err != nil {
			t.Error(err)
		}
		if text, err := os.ReadFile(file); err != nil || string(text) != "7" {
			t.Errorf("%s: %q, %v", name, text, err)
		}
	}
}

func TestAChildThatTakesTooLongIsGivenUp(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	c := Children{Command: []string{"sh", "-c", "exec sleep 300"}}
	if err := c.Unmap(ctx, 0); err == nil || !strings.Contains(err.Error(), "took too long") {
		t.Errorf("%v", err)
	}
	c = Children{Command: []string{"sh", "-c", "echo broken >&2; exit 3"}}
	if err := c.Unmap(t.Context(), 0); err == nil || !strings.Contains(err.Error(), "broken") {
		t.Errorf("%v", err)
	}
}
