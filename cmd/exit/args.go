package exit

import (
	"fmt"

	"github.com/spf13/cobra"
)

// Takes is the Args of a command that takes each of these arguments, named as in its usage line.
func Takes(names ...string) cobra.PositionalArgs {
	return func(command *cobra.Command, args []string) error {
		if len(args) < len(names) {
			return fmt.Errorf("%s is missing", names[len(args)])
		}
		return TakesAtMost(len(names))(command, args)
	}
}

// TakesAtMost is the Args of a command that may be called without arguments, or with up to so many.
func TakesAtMost(most int) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		if len(args) > most {
			return fmt.Errorf("%q is one argument too many", args[most])
		}
		return nil
	}
}
