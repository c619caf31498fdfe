package node

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// stepTimeout is how long one step may take: a file system whose Ceph answers is written out within it.
const stepTimeout = time.Minute

// Children is the Kernel that takes each step in a process of its own, which can be left behind: one that waits for Ceph in the kernel
// can be neither killed nor waited for.
type Children struct {
	// Command starts this program for one step, which comes as the last argument.
	Command []string
	// Sys and Proc as in Host.
	Sys, Proc string
}

var _ Kernel = Children{}

// childStep is what a child is to do.
type childStep struct {
	Action string
	Target string
	Sys    string
	Proc   string
}

// childResult is what came of it.
type childResult struct {
	Errno unix.Errno
	Text  string
}

// Unmount implements Kernel.
func (c Children) Unmount(ctx context.Context, path string) error {
	return c.run(ctx, "unmount", path)
}

// Cover implements Kernel.
func (c Children) Cover(ctx context.Context, path string) error { return c.run(ctx, "cover", path) }

// DetachLoop implements Kernel.
func (c Children) DetachLoop(ctx context.Context, name string) error {
	return c.run(ctx, "detach-loop", name)
}

// CloseCrypt implements Kernel.
func (c Children) CloseCrypt(ctx context.Context, mapper string) error {
	return c.run(ctx, "close-crypt", mapper)
}

// Unmap implements Kernel.
func (c Children) Unmap(ctx context.Context, id int) error {
	return c.run(ctx, "unmap", strconv.Itoa(id))
}

func (c Children) run(ctx context.Context, action, target string) error {
	step, err := json.Marshal(childStep{action, target, c.Sys, c.Proc})
	if err != nil {
		return fmt.Errorf("encoding a step: %w", err)
	}
	// Not bound to ctx: waiting for a child that is killed, and does not end, would hang as well.
	child := exec.Command(c.Command[0], append(slices.Clone(c.Command[1:]), string(step))...) //nolint:noctx // see above
	var out, problem bytes.Buffer
	child.Stdout, child.Stderr = &out, &problem
	child.SysProcAttr = &unix.SysProcAttr{Setpgid: true} // an interrupt at the terminal is not for it
	if err := child.Start(); err != nil {
		return fmt.Errorf("starting a process for it: %w", err)
	}
	ended := make(chan error, 1)
	go func() { ended <- child.Wait() }()
	ctx, cancel := context.WithTimeout(ctx, stepTimeout)
	defer cancel()
	select {
	case err = <-ended:
	case <-ctx.Done():
		return c.abandon(child, ended)
	}
	var result childResult
	if decoded := json.Unmarshal(out.Bytes(), &result); err != nil || decoded != nil {
		return fmt.Errorf("the process for it failed: %w: %s", errors.Join(err, decoded), strings.TrimSpace(problem.String()))
	}
	if result.Errno != 0 {
		return fmt.Errorf("%s: %w", result.Text, result.Errno)
	}
	if result.Text != "" {
		return errors.New(result.Text)
	}
	return nil
}

// abandon ends a child that takes too long, or leaves it where the kernel does not let it end.
func (c Children) abandon(child *exec.Cmd, ended <-chan error) error {
	_ = child.Process.Kill()
	select {
	case err := <-ended:
		return errors.Join(errors.New("it took too long and was given up"), err)
	case <-time.After(time.Second):
		return fmt.Errorf("it hangs in the kernel (process %d), waiting for Ceph, and ends by itself once Ceph answers or has fenced this client; if neither comes, only a reboot ends it",
			child.Process.Pid)
	}
}

// RunChild does what a child is to do, and tells what came of it on standard output.
func RunChild(step string) error {
	var s childStep
	if err := json.Unmarshal([]byte(step), &s); err != nil {
		return fmt.Errorf("decoding a step: %w", err)
	}
	var result childResult
	if err := s.do(); err != nil {
		result.Text = err.Error()
		if errors.As(err, &result.Errno) {
			result.Text = strings.TrimSuffix(result.Text, ": "+result.Errno.Error())
		}
	}
	if err := json.NewEncoder(os.Stdout).Encode(result); err != nil {
		return fmt.Errorf("telling the result: %w", err)
	}
	return nil
}

func (s childStep) do() error {
	switch s.Action {
	case "unmount":
		return s.onHost(func() error {
			if err := unix.Unmount(s.Target, unix.UMOUNT_NOFOLLOW); err != nil {
				return fmt.Errorf("unmounting %s: %w", s.Target, err)
			}
			return nil
		})
	case "cover":
		return s.onHost(func() error {
			const flags = unix.MS_RDONLY | unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC
			if err := unix.Mount("rbd-rescue", s.Target, "tmpfs", flags, "size=4k,nr_inodes=2,mode=0555"); err != nil {
				return fmt.Errorf("mounting an empty file system at %s: %w", s.Target, err)
			}
			return nil
		})
	case "detach-loop":
		return detachLoop(filepath.Join(s.Proc, "1", "root", "dev", s.Target))
	case "close-crypt":
		return removeMapped(filepath.Join(s.Proc, "1", "root", "dev", "mapper", "control"), s.Target)
	case "unmap":
		return unmap(s.Sys, s.Target)
	default:
		return fmt.Errorf("no step is called %q", s.Action)
	}
}

// onHost does something in the mount namespace of process 1. The thread is never used for anything else again.
func (s childStep) onHost(do func() error) error {
	runtime.LockOSThread()
	namespace, err := os.Open(filepath.Join(s.Proc, "1", "ns", "mnt"))
	if err != nil {
		return fmt.Errorf("opening the host's mounts: %w", err)
	}
	defer namespace.Close()                             //nolint:errcheck // nothing was written
	if err := unix.Unshare(unix.CLONE_FS); err != nil { // a thread that shares its folders cannot enter
		return fmt.Errorf("parting from the other threads: %w", err)
	}
	if err := unix.Setns(int(namespace.Fd()), unix.CLONE_NEWNS); err != nil {
		return fmt.Errorf("entering the host's mounts: %w", err)
	}
	return do()
}

// unmap never forces: the kernel refuses while somebody has the device open.
func unmap(sys, id string) error {
	bus := filepath.Join(sys, "bus", "rbd")
	file := filepath.Join(bus, "remove_single_major")
	if _, err := os.Stat(file); err != nil {
		file = filepath.Join(bus, "remove")
	}
	out, err := os.OpenFile(file, os.O_WRONLY, 0)
	if err == nil {
		_, err = out.WriteString(id)
		err = errors.Join(err, out.Close())
	}
	if err != nil {
		return fmt.Errorf("unmapping rbd%s: %w", id, err)
	}
	return nil
}

func detachLoop(path string) error {
	loop, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return fmt.Errorf("opening loop device %s: %w", path, err)
	}
	defer loop.Close() //nolint:errcheck // nothing was written
	if err := unix.IoctlSetInt(int(loop.Fd()), unix.LOOP_CLR_FD, 0); err != nil {
		return fmt.Errorf("detaching loop device %s: %w", path, err)
	}
	return nil
}

// mapperRequest is the kernel's struct dm_ioctl.
type mapperRequest struct {
	version                  [3]uint32
	dataSize, dataStart      uint32
	targetCount              uint32
	openCount                int32
	flags, eventNumber, _pad uint32
	device                   uint64
	name                     [128]byte
	uuid                     [129]byte
	data                     [7]byte
}

// mapperRemove is DM_DEV_REMOVE.
const mapperRemove = 3<<30 | unsafe.Sizeof(mapperRequest{})<<16 | 0xfd<<8 | 4

// removeMapped does what `cryptsetup close` does; the kernel refuses while the device is in use.
func removeMapped(control, name string) error {
	file, err := os.OpenFile(control, os.O_RDWR, 0)
	if err != nil {
		return fmt.Errorf("opening the device mapper: %w", err)
	}
	defer file.Close() //nolint:errcheck // nothing was written
	r := mapperRequest{version: [3]uint32{4, 0, 0}, dataSize: uint32(unsafe.Sizeof(mapperRequest{}))}
	if len(name) >= len(r.name) {
		return fmt.Errorf("closing %s: the name is too long", name)
	}
	copy(r.name[:], name)
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, file.Fd(), mapperRemove, uintptr(unsafe.Pointer(&r))); errno != 0 { //nolint:gosec // the kernel takes a struct
		return fmt.Errorf("closing %s: %w", name, errno)
	}
	return nil
}
