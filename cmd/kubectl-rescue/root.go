package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/cli-runtime/pkg/genericiooptions"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rbd-rescue/rbd-rescue/api/v1alpha1"
	"github.com/rbd-rescue/rbd-rescue/cmd/exit"
	"github.com/rbd-rescue/rbd-rescue/cmd/kubectl-rescue/remote"
)

// plugin is what all commands share.
type plugin struct {
	genericiooptions.IOStreams
	flags           *genericclioptions.ConfigFlags
	rescueNamespace string
	rescueCommand   string
	timeout         time.Duration
	// connect makes the client of the API, and run runs rbd-rescue; tests have their own.
	connect func() (client.Client, error)
	run     remote.Runner
}

func rootCommand(streams genericiooptions.IOStreams) *cobra.Command {
	return (&plugin{IOStreams: streams}).command()
}

func (p *plugin) command() *cobra.Command {
	p.flags = genericclioptions.NewConfigFlags(true)
	root := &cobra.Command{
		Use:         "kubectl-rescue",
		Short:       "See and say what happens to RBD volumes of failed nodes",
		Version:     version,
		Annotations: map[string]string{cobra.CommandDisplayNameAnnotation: "kubectl rescue"},
		Args:        exit.Commands,
		RunE:        func(command *cobra.Command, _ []string) error { return command.Help() },
	}
	root.SetIn(p.In)
	root.SetOut(p.Out)
	root.SetErr(p.ErrOut)
	p.flags.AddFlags(root.PersistentFlags())
	root.PersistentFlags().StringVar(&p.rescueNamespace, "rescue-namespace", "rbd-rescue", "namespace that rbd-rescue runs in")
	root.PersistentFlags().StringVar(&p.rescueCommand, "rescue-command", "", "command that runs rbd-rescue here, in place of a remediator's pod, as in \"/usr/bin/rbd-rescue --config=FILE --namespace=rbd-rescue\"")
	root.PersistentFlags().DurationVar(&p.timeout, "timeout", time.Minute, "how long the command may take, without what a person takes to confirm")
	root.PersistentPreRunE = func(*cobra.Command, []string) error {
		if p.timeout <= 0 {
			return exit.Misusef("--timeout: must be more than 0, not %s", p.timeout)
		}
		return nil
	}
	root.AddCommand(statusCommand(p), planCommand(p), fenceCommand(p), liftCommand(p), pauseCommand(p), resumeCommand(p), timelineCommand(p), doctorCommand(p), restoreCommand(p))
	return root
}

// deadline bounds what a command asks, before a person confirms and after.
func (p *plugin) deadline(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, p.timeout)
}

// config finds the cluster as kubectl does. One that cannot be found is a wrong call.
func (p *plugin) config() (*rest.Config, error) {
	config, err := p.flags.ToRESTConfig()
	if err != nil {
		return nil, exit.Misuse(err)
	}
	config.UserAgent = "kubectl-rescue/" + version
	config.QPS = -1
	config.WarningHandler = rest.NewWarningWriter(p.ErrOut, rest.WarningWriterOptions{Deduplicate: true})
	return config, nil
}

// client asks the API itself, with the user's rights.
func (p *plugin) client() (client.Client, error) {
	if p.connect != nil {
		return p.connect()
	}
	config, err := p.config()
	if err != nil {
		return nil, err
	}
	kinds, err := scheme()
	if err != nil {
		return nil, err
	}
	return client.New(config, client.Options{Scheme: kinds})
}

func scheme() (*runtime.Scheme, error) {
	kinds := runtime.NewScheme()
	if err := errors.Join(clientgoscheme.AddToScheme(kinds), v1alpha1.AddToScheme(kinds)); err != nil {
		return nil, fmt.Errorf("registering kinds: %w", err)
	}
	return kinds, nil
}

// rescue runs commands of rbd-rescue where Ceph can be reached.
func (p *plugin) rescue() (remote.Runner, error) {
	if p.run != nil {
		return p.run, nil
	}
	if p.rescueCommand != "" {
		return remote.Local{Command: p.rescueCommand}, nil
	}
	config, err := p.config()
	if err != nil {
		return nil, err
	}
	return remote.Pod{Config: config, Namespace: p.rescueNamespace}, nil
}

// streams are those of a command that runs elsewhere.
func (p *plugin) streams() remote.Streams { return remote.Streams{Out: p.Out, Err: p.ErrOut} }
