package process

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func newSupervisor(t *testing.T) *Supervisor {
	t.Helper()
	s, err := NewSupervisor(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.StopAll(context.Background()) })
	return s
}

func TestAProcessIsLoggedFrozenThawedStoppedAndStartedAgain(t *testing.T) {
	s := newSupervisor(t)
	spec := Spec{Name: "talker", Path: "sh", Args: []string{"-c", "trap 'echo bye; exit' TERM; while :; do echo hello; sleep 0.05; done"}}
	for range 2 {
		p, err := s.Start(spec)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.Start(spec); err == nil {
			t.Error("a second process of the same name was started")
		}
		time.Sleep(150 * time.Millisecond)
		if err := p.Freeze(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(50 * time.Millisecond)
		before, _ := os.ReadFile(p.Log())
		time.Sleep(150 * time.Millisecond)
		if after, _ := os.ReadFile(p.Log()); len(after) != len(before) {
			t.Error("a frozen process wrote to its log")
		}
		if err := p.Stop(t.Context()); err != nil { // also a frozen one
			t.Fatal(err)
		}
	}
	log, _ := os.ReadFile(filepath.Join(s.Logs(), "talker.log"))
	if n := strings.Count(string(log), "bye\n"); n != 2 {
		t.Errorf("%d polite ends in the log, want 2:\n%s", n, log)
	}
	if left, _ := filepath.Glob(filepath.Join(s.pids(), "*")); len(left) > 0 {
		t.Errorf("pid files are left: %v", left)
	}
}

func TestStopAllKillsWhatIgnoresSIGTERM(t *testing.T) {
	s := newSupervisor(t)
	p, err := s.Start(Spec{Name: "stubborn", Path: "sh", Args: []string{"-c", "trap '' TERM; while :; do sleep 0.05; done"}})
	if err != nil {
		t.Fatal(err)
	}
	time.Sleep(50 * time.Millisecond)
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if err := s.StopAll(ctx); err != nil {
		t.Fatal(err)
	}
	if !p.Ended() || startTime(p.Pid()) != "" {
		t.Error("the process is still there")
	}
}

func TestRunReturnsOutputAndPutsStandardErrorIntoTheError(t *testing.T) {
	s := newSupervisor(t)
	out, err := s.Run(t.Context(), Spec{Name: "echo", Path: "echo", Args: []string{"hello"}})
	if err != nil || string(out) != "hello\n" {
		t.Errorf("got %q, %v", out, err)
	}
	_, err = s.Run(t.Context(), Spec{Name: "fail", Path: "sh", Args: []string{"-c", "echo the reason >&2; exit 3"}})
	if err == nil || !strings.Contains(err.Error(), "the reason") || !strings.Contains(err.Error(), "exit status 3") {
		t.Errorf("got error %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	begin := time.Now()
	if _, err = s.Run(ctx, Spec{Name: "sleep", Path: "sh", Args: []string{"-c", "sleep 10; true"}}); err == nil || time.Since(begin) > 8*time.Second {
		t.Errorf("got error %v after %s", err, time.Since(begin))
	}
}

func TestCleanUpEndsALeftProcessAndSparesAnotherWithItsPid(t *testing.T) {
	s := newSupervisor(t)
	left, err := s.Start(Spec{Name: "left", Path: "sleep", Args: []string{"60"}})
	if err != nil {
		t.Fatal(err)
	}
	other := exec.Command("sleep", "60")
	if err := other.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = other.Process.Kill(); _ = other.Wait() }()
	reused := filepath.Join(s.pids(), "reused")
	if err := writePidFile(reused, other.Process.Pid); err != nil {
		t.Fatal(err)
	}
	text, _ := os.ReadFile(reused)
	_ = os.WriteFile(reused, []byte(strings.TrimSpace(string(text))+"0\n"), 0o644) // another start time
	if err := CleanUp(s.dir); err != nil {
		t.Fatal(err)
	}
	<-left.Done()
	if startTime(other.Process.Pid) == "" {
		t.Error("a process that was not ours was killed")
	}
	if err := CleanUp(filepath.Join(s.dir, "missing")); err != nil {
		t.Errorf("a directory that does not exist: %v", err)
	}
}
