package remote

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"time"
)

// killedAfter is how long a command whose deadline has passed may take to end.
const killedAfter = 5 * time.Second

// Local runs commands with one of the user's own, for who runs rbd-rescue outside of a cluster: its words, with the command of
// rbd-rescue and its arguments behind them. Words end at blanks; there are no quotes.
type Local struct{ Command string }

// Run runs the command.
func (l Local) Run(ctx context.Context, streams Streams, args ...string) error {
	words := strings.Fields(l.Command)
	if len(words) == 0 {
		return errors.New("--rescue-command has no words")
	}
	return call(ctx, streams, append(words, args...), fmt.Sprintf("%q", strings.Join(append(words[:1:1], args...), " ")), l.run)
}

func (Local) run(ctx context.Context, streams Streams, words []string) error {
	command := exec.CommandContext(ctx, words[0], words[1:]...) //nolint:gosec // the user's own
	command.Stdin, command.Stdout, command.Stderr = streams.In, streams.Out, streams.Err
	command.WaitDelay = killedAfter
	if err := command.Start(); err != nil {
		return notBegun{fmt.Errorf("running --rescue-command: %w", err)}
	}
	return command.Wait()
}
