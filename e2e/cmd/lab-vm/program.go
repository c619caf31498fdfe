package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/rbd-rescue/rbd-rescue/e2e/krbd"
)

// Run implements krbd.Kernel. What the program prints is on the console, too.
func (r *rbd) Run(p krbd.Program) ([]byte, error) {
	for path, text := range p.Files {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return nil, fmt.Errorf("making the folder of %s: %w", path, err)
		}
		if err := os.WriteFile(path, text, 0o600); err != nil {
			return nil, fmt.Errorf("writing %s: %w", path, err)
		}
	}
	if p.BootID != "" {
		if err := setBootID(p.BootID); err != nil {
			return nil, err
		}
	}
	var printed bytes.Buffer
	out := io.MultiWriter(os.Stdout, &printed) // one value for both, so that exec lets one write at a time
	command := exec.Command(p.Path, p.Args...)
	command.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin"}
	command.Stdout, command.Stderr = out, out
	if err := command.Run(); err != nil {
		return printed.Bytes(), fmt.Errorf("running %s: %w", p.Path, err)
	}
	return printed.Bytes(), nil
}

// setBootID lays the lab's bootID over the kernel's own: the node's kubelet, which is outside, reports that one.
func setBootID(id string) error {
	const ours, kernels = "/boot_id", "/proc/sys/kernel/random/boot_id"
	if err := os.WriteFile(ours, []byte(id+"\n"), 0o444); err != nil {
		return fmt.Errorf("writing the bootID: %w", err)
	}
	if err := unix.Mount(ours, kernels, "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("laying the bootID over the kernel's: %w", err)
	}
	return nil
}

// runIn has a VM run its agent, and waits until that ends.
func runIn(address, bootID, kubeconfig string, args []string) error {
	text, err := os.ReadFile(kubeconfig)
	if err != nil {
		return fmt.Errorf("reading the kubeconfig: %w", err)
	}
	ctx := context.Background() // the lab ends this process
	machine, err := krbd.Dial(ctx, address)
	if err != nil {
		return err
	}
	const inside = "/etc/kubeconfig"
	_, err = machine.Run(ctx, krbd.Program{
		Path: "/rbd-rescue", Args: append(args, "--kubeconfig="+inside), Files: map[string][]byte{inside: text}, BootID: bootID,
	})
	return err
}
