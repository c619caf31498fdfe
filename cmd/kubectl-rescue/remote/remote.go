// Package remote runs commands of rbd-rescue where Ceph can be reached: in a pod of the remediator, or with a command that the user
// gives. It believes only a command that says that it came to its end: a connection that breaks is never taken for success.
package remote

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/rbd-rescue/rbd-rescue/cmd/exit"
)

// Streams are what a command reads and writes. In may be nil.
type Streams struct {
	In       io.Reader
	Out, Err io.Writer
}

// Runner runs one command of rbd-rescue, as in Run(ctx, streams, "plan", "node-a"). The caller sets the deadline.
//
// A command that ended with another code than 0 has said why: its error is an exit.Coded. ErrInDoubt says that nothing is known of
// its end: what it was to do may be done, in part, wholly, or still be under way.
type Runner interface {
	Run(ctx context.Context, streams Streams, args ...string) error
}

// ErrInDoubt says that a command was begun, and that nobody knows how it ended.
var ErrInDoubt = errors.New("nobody knows how the command ended: what it was to do may be done, in part, or still be under way; look at what is so before you try again")

// call runs a command through a way that carries its streams, and tells how it ended.
func call(ctx context.Context, streams Streams, args []string, where string, carry func(ctx context.Context, streams Streams, args []string) error) error {
	name := exit.NewCall()
	out := exit.NewUntil(streams.Out, name)
	err := carry(ctx, Streams{In: streams.In, Out: out, Err: streams.Err}, append(args, exit.MarkFlag(name)))
	if flushed := out.Flush(); flushed != nil {
		return fmt.Errorf("passing on what %s wrote: %w", where, flushed)
	}
	var never notBegun
	code, ended := out.Ended()
	switch {
	case errors.As(err, &never):
		return never.error
	case ended && code == exit.Fine:
		return nil
	case ended:
		return exit.Coded(code)
	case ctx.Err() != nil:
		return fmt.Errorf("%s did not come to its end in time (%w): %w", where, ctx.Err(), ErrInDoubt)
	case err != nil:
		return fmt.Errorf("%s broke off (%w): %w", where, err, ErrInDoubt)
	default:
		return fmt.Errorf("%s broke off without a word: %w", where, ErrInDoubt)
	}
}

// notBegun is an error from before anything was run.
type notBegun struct{ error }
