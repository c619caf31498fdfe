package main

import (
	"context"
	"errors"
	"io"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/rbd-rescue/rbd-rescue/cmd/exit"
	"github.com/rbd-rescue/rbd-rescue/node"
)

// childCommand is how the program starts itself for one step that may hang.
const childCommand = "step"

func nodeCommand() *cobra.Command {
	var o hostOptions
	command := &cobra.Command{
		Use:   "node",
		Short: "Finds and lets go the RBD images that this machine has mapped; needs neither Ceph nor the API server",
		RunE: func(*cobra.Command, []string) error {
			return exit.Misusef("say what to do: list, release or agent; see rbd-rescue node --help")
		},
		Args: exit.Commands,
	}
	o.addFlags(command.PersistentFlags())
	command.AddCommand(listCommand(&o), releaseCommand(&o), agentCommand(&o), stepCommand())
	return command
}

// hostOptions say where the machine shows itself.
type hostOptions struct {
	sys, proc, kubeletDir, socket string
}

func (o *hostOptions) addFlags(flags *pflag.FlagSet) {
	flags.StringVar(&o.sys, "sys", "/sys", "where sysfs is mounted")
	flags.StringVar(&o.proc, "proc", "/proc", "where proc is mounted; it must show all processes of the machine")
	flags.StringVar(&o.kubeletDir, "kubelet-dir", "/var/lib/kubelet", "the kubelet's folder (--root-dir), on the machine")
	flags.StringVar(&o.socket, "cri-socket", "", "the container runtime's socket, on the machine; by default the one that is found")
}

// host finds the container runtime. That there is none stands in the way only of what has to stop containers.
func (o *hostOptions) host() (node.Host, error) {
	h := node.Host{Sys: o.sys, Proc: o.proc, KubeletDir: o.kubeletDir}
	socket, err := node.FindSocket(o.proc, o.socket)
	switch {
	case err == nil:
		h.Runtime, err = node.Dial(socket)
		return h, err
	case o.socket != "":
		return h, exit.Misuse(err)
	default:
		h.RuntimeError = err
		return h, nil
	}
}

func (o *hostOptions) releaser(h node.Host, out io.Writer) node.Releaser {
	return node.Releaser{
		Host: h, Out: out, Pause: 500 * time.Millisecond,
		Kernel: node.Children{Command: []string{"/proc/self/exe", "node", childCommand}, Sys: o.sys, Proc: o.proc},
	}
}

func listCommand(o *hostOptions) *cobra.Command {
	var output string
	command := &cobra.Command{
		Use:   "list",
		Short: "Lists the mapped images: device, image, Ceph client, mount points, pods and containers",
		Args:  exit.Takes(),
		RunE: func(command *cobra.Command, _ []string) error {
			if output != "" && output != "json" {
				return exit.Misusef("-o %s: there is only json", output)
			}
			h, err := o.host()
			if err != nil {
				return err
			}
			survey, err := h.Survey(command.Context())
			if err != nil {
				return err
			}
			if output == "json" {
				return node.WriteJSON(command.OutOrStdout(), survey)
			}
			return node.WriteTable(command.OutOrStdout(), survey)
		},
	}
	command.Flags().StringVarP(&output, "output", "o", "", "json, for programs")
	return command
}

func releaseCommand(o *hostOptions) *cobra.Command {
	var selection node.Selection
	var dryRun bool
	var timeout time.Duration
	command := &cobra.Command{
		Use:   "release {--pod | --device | --image | --all}",
		Short: "Stops the pods that use a mapped image, unmounts it and unmaps it, in this order",
		Args:  exit.Takes(),
		RunE: func(command *cobra.Command, _ []string) error {
			if err := selection.Validate(); err != nil {
				return exit.Misuse(err)
			}
			h, err := o.host()
			if err != nil {
				return err
			}
			ctx, cancel := context.WithTimeout(command.Context(), timeout)
			defer cancel()
			releaser := o.releaser(h, command.OutOrStdout())
			var unclaimed error
			wanted := func(s node.Survey) ([]node.Mapping, bool) {
				unclaimed = selection.Unclaimed(s)
				return selection.Of(s)
			}
			if dryRun {
				err = releaser.DryRun(ctx, wanted)
			} else {
				err = releaser.Release(ctx, wanted)
			}
			return errors.Join(err, unclaimed)
		},
	}
	flags := command.Flags()
	flags.StringVar(&selection.Pod, "pod", "", "what this pod uses: NAMESPACE/NAME or its UID")
	flags.StringVar(&selection.Device, "device", "", "this device: /dev/rbd0")
	flags.StringVar(&selection.Image, "image", "", "this image: POOL/IMAGE or POOL/NAMESPACE/IMAGE")
	flags.BoolVar(&selection.All, "all", false, "all that Kubernetes mapped")
	flags.BoolVar(&dryRun, "dry-run", false, "only tell what would be done")
	flags.DurationVar(&timeout, "timeout", 2*time.Minute, "give up after this time; what hangs in the kernel is left as it is")
	return command
}

// stepCommand is what the program starts itself with.
func stepCommand() *cobra.Command {
	return &cobra.Command{
		Use: childCommand, Hidden: true, Args: cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error { return node.RunChild(args[0]) },
	}
}
