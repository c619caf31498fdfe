// Command rbd-rescue moves RBD volumes away from failed Kubernetes nodes, behind a proven fence. See docs/architecture.md.
package main

import (
	"flag"
	"os"

	"github.com/spf13/cobra"
	ctrl "sigs.k8s.io/controller-runtime"

	"github.com/rbd-rescue/rbd-rescue/cmd/exit"
)

// version is set by the build.
var version = "development"

func main() {
	code := exit.Run(ctrl.SetupSignalHandler(), rootCommand(), os.Stderr)
	if call := exit.CallIn(os.Args[1:]); call != "" {
		if err := exit.WriteMark(os.Stdout, call, code); err != nil {
			code = exit.Failed
		}
	}
	os.Exit(code)
}

func rootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:     "rbd-rescue",
		Short:   "Moves RBD volumes away from failed Kubernetes nodes, behind a proven fence",
		Version: version,
		Args:    exit.Commands,
		RunE:    func(command *cobra.Command, _ []string) error { return command.Help() },
	}
	root.PersistentFlags().AddGoFlagSet(flag.CommandLine) // controller-runtime's --kubeconfig
	exit.AddMarkFlag(root.PersistentFlags())
	root.AddCommand(webhookCommand(), remediatorCommand(), planCommand(), doctorCommand(), imageCommand(), nodeCommand())
	return root
}
