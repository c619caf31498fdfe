package main

import (
	"bytes"
	"context"
	"io"
	"strings"
	"testing"

	"k8s.io/cli-runtime/pkg/genericiooptions"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rbd-rescue/rbd-rescue/cmd/exit"
	"github.com/rbd-rescue/rbd-rescue/cmd/kubectl-rescue/remote"
)

// called is what came of a call.
type called struct {
	code        int
	out, errOut string
}

// call calls the plugin as a person does, on a cluster of the test's own.
func call(ctx context.Context, p *plugin, typed string, args ...string) called {
	return callReading(ctx, p, strings.NewReader(typed), args...)
}

func callReading(ctx context.Context, p *plugin, in io.Reader, args ...string) called {
	var out, errOut bytes.Buffer
	p.IOStreams = genericiooptions.IOStreams{In: in, Out: &out, ErrOut: &errOut}
	root := p.command() //nolint:contextcheck // cobra hands it on
	root.SetArgs(args)
	code := exit.Run(ctx, root, &errOut)
	return called{code: code, out: out.String(), errOut: errOut.String()}
}

// untouched fails a test when anything is asked of anybody.
func untouched(t *testing.T) *plugin {
	return &plugin{
		connect: func() (client.Client, error) {
			t.Error("the cluster was asked")
			return nil, context.Canceled
		},
		run: runner(func(context.Context, remote.Streams, ...string) error {
			t.Error("rbd-rescue was run")
			return nil
		}),
	}
}

type runner func(ctx context.Context, streams remote.Streams, args ...string) error

func (r runner) Run(ctx context.Context, streams remote.Streams, args ...string) error {
	return r(ctx, streams, args...)
}

func TestAWrongCallIsToldInOneLineAndDoesNothing(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 257)
	for wrong, want := range map[string]string{
		"stauts":                               `there is no command "stauts"; did you mean status?`,
		"fnord":                                `there is no command "fnord"`,
		"--fnord":                              "unknown flag: --fnord",
		"status --fnord":                       "unknown flag: --fnord; see kubectl rescue status --help",
		"status node-a":                        `"node-a" is one argument too many`,
		"status -o xml":                        "-o xml: is none of wide, json, yaml",
		"status -o":                            "flag needs an argument",
		"status --timeout 0":                   "--timeout",
		"status --timeout fast":                "invalid argument",
		"plan":                                 "NODE is missing; see kubectl rescue plan --help",
		"plan node-a node-b":                   `"node-b" is one argument too many`,
		"plan node-a -o html":                  "-o html",
		"fence":                                "NODE is missing",
		"fence node-a":                         "--reason is missing",
		"fence node-a --reason= ":              "--reason is missing",
		"fence node-a --reason " + long:        "--reason has 257 bytes",
		"fence Node_A --reason x":              `"Node_A" is no name of a node`,
		"fence node-a --reason x --client 1.2": "--client 1.2",
		"fence node-a --reason x --yes=maybe":  "invalid argument",
		"lift":                                 "NODEFENCE or NODE is missing",
		"lift node-a":                          "--reason is missing",
		"pause":                                "--reason is missing",
		"pause a b --reason x":                 `"b" is one argument too many`,
		"resume a b":                           `"b" is one argument too many`,
		"resume --reason x":                    "unknown flag: --reason",
		"timeline":                             "NODEFENCE or NODE is missing",
		"doctor node-a":                        `"node-a" is one argument too many`,
		"doctor -o wide":                       "-o wide: is none of json, yaml",
		"timeline x -o wide":                   "-o wide: is none of json, yaml, svg, html",
	} {
		t.Run(wrong, func(t *testing.T) {
			t.Parallel()
			got := call(t.Context(), untouched(t), "", strings.Fields(wrong)...)
			if got.code != exit.Misused || got.out != "" || strings.Count(got.errOut, "\n") != 1 || !strings.HasPrefix(got.errOut, "kubectl rescue: ") {
				t.Errorf("code %d, out %q, err %q", got.code, got.out, got.errOut)
			}
			if !strings.Contains(got.errOut, want) {
				t.Errorf("says %q, not %q", got.errOut, want)
			}
		})
	}
}

func TestAClusterThatIsNotToBeFoundIsAWrongCall(t *testing.T) {
	t.Parallel()
	got := call(t.Context(), &plugin{}, "", "status", "--kubeconfig", "/nowhere/config")
	if got.code != exit.Misused || strings.Count(got.errOut, "\n") != 1 {
		t.Errorf("code %d, err %q", got.code, got.errOut)
	}
}

func TestHelpIsNoError(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{nil, {"--help"}, {"plan", "--help"}, {"help", "fence"}} {
		got := call(t.Context(), untouched(t), "", args...)
		if got.code != exit.Fine || got.errOut != "" || !strings.Contains(got.out, "kubectl rescue") {
			t.Errorf("%v: code %d, out %q, err %q", args, got.code, got.out, got.errOut)
		}
	}
}
