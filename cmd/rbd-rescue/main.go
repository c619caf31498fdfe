// Command rbd-rescue moves RBD volumes away from failed Kubernetes nodes, behind a proven fence. See docs/architecture.md.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"

	"github.com/spf13/cobra"
	ctrl "sigs.k8s.io/controller-runtime"
)

// version is set by the build.
var version = "development"

func main() {
	root := &cobra.Command{
		Use:           "rbd-rescue",
		Short:         "Moves RBD volumes away from failed Kubernetes nodes, behind a proven fence",
		Version:       version,
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.PersistentFlags().AddGoFlagSet(flag.CommandLine) // controller-runtime's --kubeconfig
	root.AddCommand(webhookCommand(), remediatorCommand(), nodeCommand())
	if err := root.ExecuteContext(ctrl.SetupSignalHandler()); err != nil {
		fmt.Fprintln(os.Stderr, "rbd-rescue:", err)
		os.Exit(exitCode(err))
	}
}

// wrongCall is an error of whoever typed the command.
type wrongCall struct{ error }

// exitCode is 2 for a wrong call, and 1 for whatever else did not work.
func exitCode(err error) int {
	if errors.As(err, new(wrongCall)) {
		return 2
	}
	return 1
}
