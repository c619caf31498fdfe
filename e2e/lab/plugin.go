package lab

import (
	"context"
	"path/filepath"
	"slices"
	"strings"

	"github.com/rbd-rescue/rbd-rescue/e2e/lab/build"
	"github.com/rbd-rescue/rbd-rescue/e2e/lab/process"
)

// Plugin runs kubectl rescue with all rights, and returns what it printed; what it complained of is in the error. Nothing in the lab
// runs a pod's containers: rbd-rescue runs here for it, with the remediator's configuration.
func (r *Rescue) Plugin(ctx context.Context, args ...string) (string, error) {
	remediator, err := r.arguments(ctx, "remediator")
	if err != nil {
		return "", err
	}
	kubeconfig := "--kubeconfig=" + r.lab.Kube.Kubeconfig()
	config := remediator[slices.IndexFunc(remediator, func(arg string) bool { return strings.HasPrefix(arg, "--config=") })]
	out, err := r.lab.Supervisor.Run(ctx, process.Spec{
		Name: build.Plugin, Path: filepath.Join(r.lab.binaries.Dir, build.Plugin),
		Args: append(args, kubeconfig, "--rescue-command="+strings.Join([]string{
			filepath.Join(r.lab.binaries.Dir, build.RBDRescue), kubeconfig, config, "--namespace=" + Namespace,
		}, " ")),
	})
	return string(out), err
}
