package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	authenticationv1 "k8s.io/api/authentication/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rbd-rescue/rbd-rescue/cmd/exit"
)

// maxReason is how long the reason of a NodeFence may be.
const maxReason = 256

// checkReason wants a person to say why; it stays on record.
func checkReason(reason, example string) error {
	switch {
	case strings.TrimSpace(reason) == "":
		return exit.Misusef("--reason is missing: say why, as in --reason %q; it is kept with your name", example)
	case len(reason) > maxReason:
		return exit.Misusef("--reason has %d bytes, which is more than %d", len(reason), maxReason)
	default:
		return nil
	}
}

// whoAmI is the user's name to the API server, for the record; empty where it does not say.
func whoAmI(ctx context.Context, c client.Client) string {
	review := &authenticationv1.SelfSubjectReview{}
	if err := c.Create(ctx, review); err != nil {
		return ""
	}
	return review.Status.UserInfo.Username
}

// errNotConfirmed ends a command of whom the person thought better.
var errNotConfirmed = errors.New("not confirmed: nothing was done")

// confirm has a person type a name, unless --yes was given.
func (p *plugin) confirm(yes bool, question, name string) error {
	if yes {
		return nil
	}
	fmt.Fprintf(p.ErrOut, "%s\nType %s to go on: ", question, name)
	typed, err := bufio.NewReader(p.In).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("reading the confirmation: %w", err)
	}
	if err != nil && typed == "" {
		return fmt.Errorf("%w (nothing was typed; --yes is for scripts)", errNotConfirmed)
	}
	if strings.TrimSpace(typed) != name {
		return errNotConfirmed
	}
	return nil
}
