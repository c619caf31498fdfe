package microvm

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func write(t *testing.T, parts ...string) {
	t.Helper()
	file := filepath.Join(parts...)
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte("text of "+filepath.Base(file)+"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestModulesAreFoundInTheOrderInWhichTheyAreLoaded(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "kernel/boot/vmlinuz-6.1.0")
	for i, name := range moduleNames {
		if _, err := FindKernel(dir); err == nil {
			t.Errorf("found a kernel without %s", strings.Join(moduleNames[i:], ", "))
		}
		write(t, dir, "kernel/lib/modules/6.1.0", name[:1], name+".ko")
	}
	write(t, dir, "kernel/lib/modules/6.1.0/fs/ceph.ko")
	kernel, err := FindKernel(dir)
	if err != nil {
		t.Fatal(err)
	}
	if filepath.Base(kernel.Image) != "vmlinuz-6.1.0" || len(kernel.Modules) != len(moduleNames) {
		t.Errorf("found %+v", kernel)
	}
	for i, module := range kernel.Modules {
		if filepath.Base(module) != moduleNames[i]+".ko" {
			t.Errorf("module %d is %s, not %s", i, module, moduleNames[i])
		}
	}
}

func TestWhatIsMissingIsTold(t *testing.T) {
	dir := t.TempDir()
	if reason := Unavailable(dir); !strings.Contains(reason, "install-vm") {
		t.Errorf("before anything was got: %q", reason)
	}
	write(t, dir, "kernel/boot/vmlinuz-6.1.0")
	if reason := Unavailable(dir); reason != "" {
		t.Errorf("with a kernel: %q", reason)
	}
	write(t, dir, "unavailable")
	if reason := Unavailable(dir); reason != "text of unavailable" {
		t.Errorf("when it could not be got: %q", reason)
	}
}

func TestInitLoadsModulesByName(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "lab-vm")
	write(t, dir, "rbd-rescue")
	write(t, dir, "virtio.ko")
	write(t, dir, "rbd.ko")
	file := filepath.Join(dir, "initramfs")
	kernel := Kernel{Modules: []string{filepath.Join(dir, "virtio.ko"), filepath.Join(dir, "rbd.ko")}}
	if err := WriteInitramfs(file, filepath.Join(dir, "lab-vm"), filepath.Join(dir, "rbd-rescue"), kernel); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	at := -1
	for _, part := range []string{"init\x00", "text of lab-vm", "rbd-rescue\x00", "text of rbd-rescue", "modules/00-virtio.ko\x00", "text of virtio.ko", "modules/01-rbd.ko\x00", "text of rbd.ko"} {
		next := strings.Index(string(data), part)
		if next <= at {
			t.Errorf("%q is not where it belongs", part)
		}
		at = next
	}
}
