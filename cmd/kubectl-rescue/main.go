// Command kubectl-rescue is the kubectl plugin "kubectl rescue": what rbd-rescue sees, would do, does and did, and a person's word to
// it. It has the rights of whoever calls it. See docs/kubectl-rescue.md.
package main

import (
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	"context"

	"github.com/spf13/cobra"
	"k8s.io/cli-runtime/pkg/genericiooptions"

	"github.com/rbd-rescue/rbd-rescue/cmd/exit"
)

// version is set by the build.
var version = "development"

// completionName is how kubectl calls a plugin for completions: link it to this file.
const completionName = "kubectl_complete-rescue"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	root := rootCommand(genericiooptions.IOStreams{In: os.Stdin, Out: os.Stdout, ErrOut: os.Stderr})
	if name := filepath.Base(os.Args[0]); strings.TrimSuffix(name, ".exe") == completionName {
		root.SetArgs(append([]string{cobra.ShellCompRequestCmd}, os.Args[1:]...))
	}
	code := exit.Run(ctx, root, os.Stderr)
	stop()
	os.Exit(code)
}
