package exit

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
)

// Exit codes.
const (
	// Fine: done, and nothing was found that a person should look at.
	Fine = 0
	// Failed: it could not be done; or it was, and something was found.
	Failed = 1
	// Misused: the command was called wrongly, and nothing was asked or done.
	Misused = 2
)

// ErrFound ends a command that did what it was asked for, has said what it found, and is not Fine. Nothing more is printed.
var ErrFound = errors.New("something was found")

// misuse is an error of whoever called.
type misuse struct{ error }

func (m misuse) Unwrap() error { return m.error }

// Misuse says that the command was called wrongly.
func Misuse(err error) error {
	if err == nil {
		return nil
	}
	return misuse{err}
}

// Misusef says how the command was called wrongly, and how it is called rightly.
func Misusef(format string, args ...any) error { return misuse{fmt.Errorf(format, args...)} }

// Code is the exit code for the error of a command. One that was made elsewhere carries its own (Coded).
func Code(err error) int {
	var wrong misuse
	var coded Coded
	switch {
	case err == nil:
		return Fine
	case errors.As(err, &coded):
		return int(coded)
	case errors.As(err, &wrong):
		return Misused
	default:
		return Failed
	}
}

// Coded is the end of a command that ran elsewhere and has said there what was wrong.
type Coded int

func (c Coded) Error() string { return fmt.Sprintf("ended with code %d", int(c)) }

// Run runs a command, says in one line on stderr what was wrong, and returns the exit code.
func Run(ctx context.Context, root *cobra.Command, stderr io.Writer) int {
	strict(root)
	err := root.ExecuteContext(ctx)
	var coded Coded
	if err != nil && !errors.Is(err, ErrFound) && !errors.As(err, &coded) {
		fmt.Fprintf(stderr, "%s: %s\n", root.DisplayName(), line(err, Code(err) == Misused))
	}
	return Code(err)
}

// line makes one line of a misuse: cobra adds suggestions below it.
func line(err error, one bool) string {
	if !one {
		return err.Error()
	}
	return strings.Join(strings.Fields(err.Error()), " ")
}

// strict makes every wrong call of a command, or of those below it, a misuse, told without the help text.
func strict(command *cobra.Command) {
	command.SilenceUsage, command.SilenceErrors = true, true
	command.SetFlagErrorFunc(func(at *cobra.Command, err error) error {
		return Misusef("%w; see %s --help", err, at.CommandPath())
	})
	if check := command.Args; check != nil {
		command.Args = func(at *cobra.Command, args []string) error {
			if err := check(at, args); err != nil {
				return Misusef("%w; see %s --help", err, at.CommandPath())
			}
			return nil
		}
	}
	for _, child := range command.Commands() {
		strict(child)
	}
}

// Commands is the Args of a command that has others below it and does nothing itself: whatever it is given is no command.
func Commands(command *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	var near string
	if names := command.SuggestionsFor(args[0]); len(names) > 0 {
		near = fmt.Sprintf("; did you mean %s?", strings.Join(names, " or "))
	}
	return fmt.Errorf("there is no command %q%s", args[0], near)
}
