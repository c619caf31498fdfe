// Command kubectl-rescue is the kubectl plugin "kubectl rescue": what rbd-rescue sees, would do, does and did, and a person's word to
// it. It has the rights of whoever calls it. See docs/kubectl-rescue.md.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"k8s.io/cli-runtime/pkg/genericiooptions"

	"github.com/rbd-rescue/rbd-rescue/cmd/exit"
)

// version is set by the build.
var version = "development"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	root := rootCommand(genericiooptions.IOStreams{In: os.Stdin, Out: os.Stdout, ErrOut: os.Stderr})
	code := exit.Run(ctx, root, os.Stderr)
	stop()
	os.Exit(code)
}
