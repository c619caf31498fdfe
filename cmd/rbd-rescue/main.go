// Command rbd-rescue moves RBD volumes away from failed Kubernetes nodes, behind a proven fence. See docs/architecture.md.
package main

import (
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
	root.AddCommand(webhookCommand(), remediatorCommand())
	if err := root.ExecuteContext(ctrl.SetupSignalHandler()); err != nil {
		fmt.Fprintln(os.Stderr, "rbd-rescue:", err)
		os.Exit(1)
	}
}
