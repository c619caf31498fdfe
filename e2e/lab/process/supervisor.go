package process

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

// stopGrace is how long a process may take to end after SIGTERM before it gets SIGKILL.
const stopGrace = 3 * time.Second

// Spec says what to run.
type Spec struct {
	// Name is the process's name in logs and errors, and its log is logs/<Name>.log; unique among the running processes of a Supervisor.
	Name string
	// Path is the program: a path, or a name to look up in PATH.
	Path string
	Args []string
	// Env is added to the lab's own environment.
	Env []string
	// Dir is the working directory; empty is the lab's own.
	Dir string
	// NetNS is the name of the network namespace (/var/run/netns/NetNS); empty is the host's.
	NetNS string
	// Usr is the folder that the process sees as /usr, so that it is of another release of the system; empty is the host's.
	Usr string
}

func (s Spec) validate() error {
	if s.Name == "" || strings.ContainsAny(s.Name, "/ \n") {
		return fmt.Errorf("the process name %q is not fit for a file name: use letters, digits and dashes", s.Name)
	}
	if s.Path == "" {
		return fmt.Errorf("process %s has no Path: name its program", s.Name)
	}
	return nil
}

func (s Spec) command() *exec.Cmd {
	path, args := s.Path, s.Args
	// unshare, sh and nsenter exec: the pid stays the daemon's.
	if s.Usr != "" {
		// The mount is in a namespace of the process's own, so there is none to undo.
		path, args = "unshare", append([]string{"--mount", "sh", "-c", `mount --bind "$0" /usr && exec "$@"`, s.Usr, path}, args...)
	}
	if s.NetNS != "" {
		path, args = "nsenter", append([]string{"--net=/var/run/netns/" + s.NetNS, path}, args...)
	}
	cmd := exec.Command(path, args...)
	cmd.Dir = s.Dir
	cmd.Env = append(os.Environ(), s.Env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	return cmd
}

// Supervisor starts processes and knows all it started.
type Supervisor struct {
	dir string

	mu      sync.Mutex
	running []*Process // in the order of their start
}

// NewSupervisor keeps logs in dir/logs/<Name>.log and pids in dir/pids/<Name>.
func NewSupervisor(dir string) (*Supervisor, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("finding the supervisor's directory: %w", err)
	}
	s := &Supervisor{dir: dir}
	for _, sub := range []string{s.Logs(), s.pids()} {
		if err := os.MkdirAll(sub, 0o755); err != nil {
			return nil, fmt.Errorf("making the supervisor's directory: %w", err)
		}
	}
	return s, nil
}

// Logs is the directory of the logs.
func (s *Supervisor) Logs() string { return filepath.Join(s.dir, "logs") }

func (s *Supervisor) pids() string { return filepath.Join(s.dir, "pids") }

// Start starts a process. A name may be used again once the process that had it is done; the log is appended to.
func (s *Supervisor) Start(spec Spec) (*Process, error) {
	if err := spec.validate(); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range s.running {
		if p.spec.Name == spec.Name && !p.Ended() {
			return nil, fmt.Errorf("starting %s: a process of that name is running with pid %d", spec.Name, p.Pid())
		}
	}
	log, err := os.OpenFile(filepath.Join(s.Logs(), spec.Name+".log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, fmt.Errorf("opening the log of %s: %w", spec.Name, err)
	}
	defer log.Close() // the child has its own copy
	fmt.Fprintf(log, "--- %s %s %s\n", time.Now().Format(time.RFC3339Nano), spec.Path, strings.Join(spec.Args, " "))
	cmd := spec.command()
	cmd.Stdout, cmd.Stderr = log, log
	if err := startFromLastingThread(cmd); err != nil {
		return nil, fmt.Errorf("starting %s: %w", spec.Name, err)
	}
	p := &Process{spec: spec, cmd: cmd, done: make(chan struct{}), log: log.Name(), pidFile: filepath.Join(s.pids(), spec.Name)}
	err = writePidFile(p.pidFile, p.Pid())
	go p.wait()
	if err != nil {
		return nil, errors.Join(err, p.Kill())
	}
	s.forgetEnded()
	s.running = append(s.running, p)
	return p, nil
}

func (s *Supervisor) forgetEnded() {
	var left []*Process
	for _, p := range s.running {
		if !p.Ended() {
			left = append(left, p)
		}
	}
	s.running = left
}

// StopAll stops every process, the one started last first: SIGCONT, SIGTERM, and SIGKILL after a grace.
func (s *Supervisor) StopAll(ctx context.Context) error {
	s.mu.Lock()
	running := s.running
	s.running = nil
	s.mu.Unlock()
	var errs []error
	for _, r := range slices.Backward(running) {
		errs = append(errs, r.Stop(ctx))
	}
	return errors.Join(errs...)
}

// Run runs a short command to its end and returns its standard output; its standard error is in the error. When ctx ends, the command's
// process group gets SIGKILL.
func (s *Supervisor) Run(ctx context.Context, spec Spec) ([]byte, error) {
	if err := spec.validate(); err != nil {
		return nil, err
	}
	var stdout, stderr bytes.Buffer
	cmd := spec.command()
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	cmd.WaitDelay = time.Second // a grandchild that keeps the pipes open must not hold us
	if err := startFromLastingThread(cmd); err != nil {
		return nil, fmt.Errorf("starting %s: %w", spec.Name, err)
	}
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	var err error
	select {
	case err = <-done:
	case <-ctx.Done():
		_ = signalGroup(cmd.Process.Pid, syscall.SIGKILL)
		<-done //nolint:errcheck // it was killed: that is the error
		err = ctx.Err()
	}
	if err != nil {
		return stdout.Bytes(), fmt.Errorf("running %s %s: %w: %s", spec.Path, strings.Join(spec.Args, " "), err, strings.TrimSpace(stderr.String()))
	}
	return stdout.Bytes(), nil
}

// starts hands commands to a thread that never ends: Linux sends Pdeathsig when the *thread* that forked ends, not the process.
var starts = func() chan<- func() {
	jobs := make(chan func())
	go func() {
		runtime.LockOSThread()
		for job := range jobs {
			job()
		}
	}()
	return jobs
}()

func startFromLastingThread(cmd *exec.Cmd) error {
	result := make(chan error, 1)
	starts <- func() { result <- cmd.Start() }
	return <-result
}
