package microvm

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// Dir is where e2e/install-vm leaves the kernel, in the folder of the lab's programs.
const Dir = "vm"

// moduleNames in the order in which they are loaded: each needs those before it (facts/krbd.md).
var moduleNames = []string{
	"virtio_ring", "virtio", "virtio_pci_modern_dev", "virtio_pci_legacy_dev", "virtio_pci",
	"failover", "net_failover", "virtio_net",
	"crc32c-intel", "libcrc32c", "libceph", "rbd",
}

// Kernel is a kernel's image and the modules that the RBD client needs, as files.
type Kernel struct {
	Image   string
	Modules []string
}

// Unavailable tells why there is no kernel or no qemu on this machine; empty if e2e/install-vm got both.
func Unavailable(dir string) string {
	reason, err := os.ReadFile(filepath.Join(dir, "unavailable"))
	if err == nil {
		return strings.TrimSpace(string(reason))
	}
	if _, err := os.Stat(filepath.Join(dir, "kernel")); err != nil {
		return "run e2e/install-vm first"
	}
	return ""
}

// NoPrograms tells why there is no container runtime for a machine; empty if e2e/install-vm got it.
func NoPrograms(dir string) string {
	if reason := Unavailable(dir); reason != "" {
		return reason
	}
	if _, err := os.Stat(Programs(dir)); err == nil {
		return ""
	}
	reason, err := os.ReadFile(filepath.Join(dir, "programs-unavailable"))
	if err != nil {
		return "run e2e/install-vm first"
	}
	return strings.TrimSpace(string(reason))
}

// Programs is the folder of a container runtime and what else a node's machine runs, as it lies in its root.
func Programs(dir string) string { return filepath.Join(dir, "programs") }

// FindKernel finds what e2e/install-vm left in dir.
func FindKernel(dir string) (Kernel, error) {
	images, err := filepath.Glob(filepath.Join(dir, "kernel", "boot", "vmlinuz-*"))
	if err != nil || len(images) != 1 {
		return Kernel{}, errors.Join(fmt.Errorf("looking for one kernel in %s: %v", dir, images), err)
	}
	byName := map[string]string{}
	err = filepath.WalkDir(filepath.Join(dir, "kernel", "lib", "modules"), func(path string, _ fs.DirEntry, err error) error {
		if name, ok := strings.CutSuffix(filepath.Base(path), ".ko"); ok {
			byName[name] = path
		}
		return err
	})
	if err != nil {
		return Kernel{}, fmt.Errorf("listing the kernel's modules: %w", err)
	}
	kernel := Kernel{Image: images[0]}
	for _, name := range moduleNames {
		if byName[name] == "" {
			return Kernel{}, fmt.Errorf("the kernel in %s has no module %s", dir, name)
		}
		kernel.Modules = append(kernel.Modules, byName[name])
	}
	return kernel, nil
}
