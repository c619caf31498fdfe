package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/rbd-rescue/rbd-rescue/e2e/lab/build"
)

// Plugin runs kubectl rescue with all rights, as a person who types something does, and returns what it printed and its exit code.
// What needs Ceph it runs as the remediator's own command, with its configuration and its rights: no kubelet here runs containers. A
// --rescue-command among the arguments is taken instead.
func (l *Lab) Plugin(ctx context.Context, typed string, args ...string) (out string, code int, err error) {
	command := exec.CommandContext(ctx, filepath.Join(l.binaries.Dir, build.KubectlRescue), append([]string{
		"--kubeconfig=" + l.Kube.Kubeconfig(), "--rescue-namespace=" + Namespace, "--rescue-command=" + l.Rescue.command,
	}, args...)...)
	var stdout, stderr bytes.Buffer
	command.Stdin, command.Stdout, command.Stderr = strings.NewReader(typed), &stdout, &stderr
	command.Env = []string{"HOME=" + Dir} // its caches
	err = command.Run()
	var ended *exec.ExitError
	if errors.As(err, &ended) && ended.Exited() {
		return stdout.String() + stderr.String(), ended.ExitCode(), nil
	}
	if err != nil {
		return stdout.String(), -1, fmt.Errorf("running kubectl rescue %s: %w: %s", strings.Join(args, " "), err, stderr.String())
	}
	return stdout.String(), 0, nil
}
