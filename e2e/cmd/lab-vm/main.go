// Command lab-vm is the init of a lab node's microVM: it loads the kernel's RBD client, takes an address, and lets the node's CSI plugin
// map images and write to them, and the lab run the node's agent (package krbd). With --in it is outside, and has a VM do that.
package main

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"log"
	"net"
	"net/netip"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/rbd-rescue/rbd-rescue/e2e/krbd"
)

// modulesDir holds the kernel's modules; the order of their names is that in which they are loaded.
const modulesDir = "/modules"

func main() {
	address := flag.String("address", "", "address of the VM with the bits of its prefix")
	gateway := flag.String("gateway", "", "address of the node, which is the way to Ceph")
	listen := flag.String("listen", "", "address to serve the kernel's calls on")
	forward := flag.String("forward", "", "ADDRESS=SOCKET: who connects to the address reaches the VM's unix socket")
	in := flag.String("in", "", "address of a VM that is to run rbd-rescue with the arguments that follow")
	bootID := flag.String("boot-id", "", "with --in: what the VM is to call its boot")
	kubeconfig := flag.String("kubeconfig", "", "with --in: the agent's kubeconfig")
	flag.Parse()
	log.SetFlags(0)
	log.SetPrefix("lab-vm: ")
	if *in != "" {
		log.Fatal(runIn(*in, *bootID, *kubeconfig, flag.Args()))
	}
	log.Fatal(run(*address, *gateway, *listen, *forward)) // the kernel panics at the end of init, and the VM ends
}

// run does not return but with an error.
func run(address, gateway, listen, forward string) error {
	if os.Getpid() != 1 {
		return errors.New("this is the init of a VM: it would mount over what is here")
	}
	prefix, err := netip.ParsePrefix(address)
	if err != nil {
		return fmt.Errorf("reading --address: %w", err)
	}
	via, err := netip.ParseAddr(gateway)
	if err != nil {
		return fmt.Errorf("reading --gateway: %w", err)
	}
	if err := coverRoot(); err != nil {
		return err
	}
	if err := mountKernelFiles(); err != nil {
		return err
	}
	if err := loadModules(); err != nil {
		return err
	}
	if err := configureNetwork("eth0", prefix, via); err != nil {
		return err
	}
	if forward != "" {
		if err := forwardTo(forward); err != nil {
			return err
		}
	}
	kernel, err := newRBD()
	if err != nil {
		return err
	}
	listener, err := net.Listen("tcp", listen)
	if err != nil {
		return fmt.Errorf("serving the kernel's calls: %w", err)
	}
	log.Printf("%s serves on %s", release(), listener.Addr())
	return krbd.Serve(listener, kernel)
}

// coverRoot lays the kernel's first root over itself: containers can't leave that one by pivot_root(2), and would keep what is mounted
// when they start.
func coverRoot() error {
	const at = "/newroot"
	if err := errors.Join(os.Mkdir(at, 0o755), unix.Mount("/", at, "", unix.MS_BIND, ""), unix.Chdir(at)); err != nil {
		return fmt.Errorf("making a root: %w", err)
	}
	if err := errors.Join(unix.Mount(".", "/", "", unix.MS_MOVE, ""), unix.Chroot("."), unix.Chdir("/")); err != nil {
		return fmt.Errorf("going to the root: %w", err)
	}
	return nil
}

func mountKernelFiles() error {
	for _, m := range []struct{ kind, at string }{{"proc", "/proc"}, {"sysfs", "/sys"}, {"devtmpfs", "/dev"}, {"cgroup2", "/sys/fs/cgroup"}} {
		if err := os.MkdirAll(m.at, 0o755); err != nil {
			return fmt.Errorf("making %s: %w", m.at, err)
		}
		if err := unix.Mount(m.kind, m.at, m.kind, 0, ""); err != nil {
			return fmt.Errorf("mounting %s: %w", m.at, err)
		}
	}
	return nil
}

func loadModules() error {
	files, err := filepath.Glob(filepath.Join(modulesDir, "*.ko"))
	if err != nil {
		return fmt.Errorf("listing the kernel's modules: %w", err)
	}
	for _, file := range files {
		module, err := os.ReadFile(file)
		if err != nil {
			return fmt.Errorf("reading a module: %w", err)
		}
		if err := unix.InitModule(module, ""); err != nil {
			return fmt.Errorf("loading module %s: %w", filepath.Base(file), err)
		}
	}
	return nil
}

func release() string {
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		return "an unknown kernel"
	}
	return "Linux " + string(bytes.TrimRight(name.Release[:], "\x00"))
}
