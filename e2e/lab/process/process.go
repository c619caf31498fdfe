package process

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"time"
)

// Process is a started process. All signals go to its whole process group.
type Process struct {
	spec    Spec
	cmd     *exec.Cmd
	log     string
	pidFile string
	done    chan struct{}
	err     error // of Wait; read it after done
}

func (p *Process) wait() {
	p.err = p.cmd.Wait()
	_ = os.Remove(p.pidFile) // CleanUp also sees by the start time that it is stale
	close(p.done)
}

// Ended tells whether the process is over.
func (p *Process) Ended() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// Name is the name from the Spec.
func (p *Process) Name() string { return p.spec.Name }

// Spec is what the process was started with, to start it once more.
func (p *Process) Spec() Spec { return p.spec }

// Pid is the pid of the process, and of its process group.
func (p *Process) Pid() int { return p.cmd.Process.Pid }

// Log is the path of its log.
func (p *Process) Log() string { return p.log }

// Done is closed when the process has ended and its name is free.
func (p *Process) Done() <-chan struct{} { return p.done }

// Err says how the process ended; nil while it runs.
func (p *Process) Err() error {
	if !p.Ended() {
		return nil
	}
	return p.err
}

// Kill ends the process group with SIGKILL and waits for the process. An ended process is no error.
func (p *Process) Kill() error {
	if err := p.signal(syscall.SIGKILL); err != nil {
		return err
	}
	select {
	case <-p.done:
		return nil
	case <-time.After(10 * time.Second):
		return fmt.Errorf("%s (pid %d) is still there 10 s after SIGKILL", p.spec.Name, p.Pid())
	}
}

// Stop ends the process: SIGCONT, SIGTERM, and SIGKILL after a grace or when ctx ends.
func (p *Process) Stop(ctx context.Context) error {
	if p.Ended() {
		return nil
	}
	if err := errors.Join(p.signal(syscall.SIGTERM), p.signal(syscall.SIGCONT)); err != nil {
		return err
	}
	select {
	case <-p.done:
		_ = signalGroup(p.Pid(), syscall.SIGKILL) // what it may have left in its group
		return nil
	case <-time.After(stopGrace):
	case <-ctx.Done():
	}
	return p.Kill()
}

// Freeze stops the process group with SIGSTOP.
func (p *Process) Freeze() error { return p.signal(syscall.SIGSTOP) }

// Thaw lets a frozen process group go on.
func (p *Process) Thaw() error { return p.signal(syscall.SIGCONT) }

func (p *Process) signal(sig syscall.Signal) error {
	if p.Ended() {
		return nil // the pid may be another's by now
	}
	if err := signalGroup(p.Pid(), sig); err != nil {
		return fmt.Errorf("sending %s to %s (pid %d): %w", sig, p.spec.Name, p.Pid(), err)
	}
	return nil
}

func signalGroup(pid int, sig syscall.Signal) error {
	err := syscall.Kill(-pid, sig)
	if errors.Is(err, syscall.ESRCH) {
		return nil
	}
	return err
}
