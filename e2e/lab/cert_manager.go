package lab

import (
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/rbd-rescue/rbd-rescue/e2e/lab/build"
	"github.com/rbd-rescue/rbd-rescue/e2e/lab/process"
)

// InstallCertManager makes cert-manager's kinds known, from its module; nothing of it runs yet.
func (l *Lab) InstallCertManager(ctx context.Context) error {
	out, err := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}", "github.com/cert-manager/cert-manager").Output()
	if err != nil {
		return fmt.Errorf("finding cert-manager's module: %w", err)
	}
	for _, command := range [][]string{
		{"apply", "--server-side", "-f", filepath.Join(strings.TrimSpace(string(out)), "deploy", "crds")},
		{"wait", "--for=condition=Established", "--timeout=30s", "crd", "--all"},
	} {
		if _, err := l.Kube.Kubectl(ctx, command...); err != nil {
			return fmt.Errorf("installing cert-manager's kinds: %w", err)
		}
	}
	return nil
}

// StartCertManager starts cert-manager's own controllers and its injector of CAs.
func (l *Lab) StartCertManager(ctx context.Context) (*process.Process, error) {
	if err := l.InstallCertManager(ctx); err != nil {
		return nil, err
	}
	p, err := l.Supervisor.Start(process.Spec{
		Name: "cert-manager", Path: filepath.Join(l.binaries.Dir, build.CertManager), Args: []string{"--kubeconfig=" + l.Kube.Kubeconfig()},
	})
	if err != nil {
		return nil, fmt.Errorf("starting cert-manager: %w", err)
	}
	return p, nil
}
