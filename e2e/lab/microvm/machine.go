package microvm

import (
	"cmp"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"

	"github.com/rbd-rescue/rbd-rescue/e2e/lab/process"
)

// Options of a machine.
type Options struct {
	// Name of the process and of its log, which is the machine's console.
	Name   string
	Kernel Kernel
	// Initramfs is the file that WriteInitramfs wrote.
	Initramfs string
	// MemoryMiB is 384 if it is zero.
	MemoryMiB int
	// NetNS and Tap are the machine's link.
	NetNS, Tap string
	// Address of the machine, and of the gateway on the other side of the tap.
	Address netip.Prefix
	Gateway netip.Addr
	// Listen is where the machine serves calls (package krbd).
	Listen netip.AddrPort
	// Forward is what else the machine serves: --forward of its init.
	Forward string
}

// WriteInitramfs packs init (lab-vm), the node's agent (rbd-rescue), the kernel's modules, and whole folders.
func WriteInitramfs(file, init, agent string, kernel Kernel, folders ...string) (err error) {
	out, err := os.Create(file)
	if err != nil {
		return fmt.Errorf("making the initramfs: %w", err)
	}
	defer func() {
		if closed := out.Close(); err == nil {
			err = closed
		}
	}()
	a := &archive{out: out}
	for _, program := range []struct{ name, path string }{{"init", init}, {"rbd-rescue", agent}} {
		text, err := os.ReadFile(program.path)
		if err != nil {
			return fmt.Errorf("reading what runs in the VM: %w", err)
		}
		a.add(program.name, executable, text)
	}
	a.add("modules", directory, nil)
	for i, path := range kernel.Modules {
		module, err := os.ReadFile(path)
		if err != nil {
			return fmt.Errorf("reading a module: %w", err)
		}
		a.add(fmt.Sprintf("modules/%02d-%s", i, filepath.Base(path)), plainFile, module) // init loads them by name
	}
	for _, folder := range folders {
		if err := a.addTree(folder); err != nil {
			return fmt.Errorf("packing %s: %w", folder, err)
		}
	}
	if err := a.end(); err != nil {
		return fmt.Errorf("writing the initramfs: %w", err)
	}
	return nil
}

// Spec is the process. Frozen, it is a frozen host; killed, a host without power. TCG: nested KVM hangs on some hosts.
func Spec(o Options) process.Spec {
	const (
		card    = "net0"
		console = "console=ttyS0 quiet panic=-1" // the machine ends when its init does
	)
	return process.Spec{
		Name: o.Name, Path: "qemu-system-x86_64", NetNS: o.NetNS,
		Args: []string{
			"-accel", "tcg", "-cpu", "max", "-M", "q35", "-m", strconv.Itoa(cmp.Or(o.MemoryMiB, 384)), "-smp", "1",
			"-nodefaults", "-no-user-config", "-no-reboot", "-display", "none", "-serial", "stdio",
			"-netdev", "tap,id=" + card + ",ifname=" + o.Tap + ",script=no,downscript=no",
			"-device", "virtio-net-pci,romfile=,netdev=" + card,
			"-kernel", o.Kernel.Image, "-initrd", o.Initramfs,
			"-append", fmt.Sprintf("%s -- --address=%s --gateway=%s --listen=%s --forward=%s", console, o.Address, o.Gateway, o.Listen, o.Forward),
		},
	}
}
