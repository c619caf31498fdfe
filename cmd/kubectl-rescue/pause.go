package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rbd-rescue/rbd-rescue/api/v1alpha1"
	"github.com/rbd-rescue/rbd-rescue/cmd/exit"
)

func pauseCommand(p *plugin) *cobra.Command {
	var reason string
	command := &cobra.Command{
		Use:   "pause [NODE] --reason TEXT",
		Short: "Have nothing new fenced, of one node or at all",
		Long: `Have nothing new fenced by itself, of one node or, without one, at all. What was begun is finished, and what a person asks for
is done. Your name and the reason stay in annotations.`,
		Args:              exit.TakesAtMost(1),
		ValidArgsFunction: p.completeNodes,
		RunE: func(command *cobra.Command, args []string) error {
			if err := checkReason(reason, "the switch is replaced tonight"); err != nil {
				return err
			}
			ctx, cancel := p.deadline(command.Context())
			defer cancel()
			return p.setPaused(ctx, args, true, reason)
		},
	}
	command.Flags().StringVar(&reason, "reason", "", "why; kept in an annotation")
	return command
}

func resumeCommand(p *plugin) *cobra.Command {
	return &cobra.Command{
		Use:               "resume [NODE]",
		Short:             "Let nodes be fenced again, one node or all",
		Args:              exit.TakesAtMost(1),
		ValidArgsFunction: p.completeNodes,
		RunE: func(command *cobra.Command, args []string) error {
			ctx, cancel := p.deadline(command.Context())
			defer cancel()
			return p.setPaused(ctx, args, false, "")
		},
	}
}

func (p *plugin) setPaused(ctx context.Context, args []string, paused bool, reason string) error {
	c, err := p.client()
	if err != nil {
		return err
	}
	var object client.Object = &corev1.Namespace{}
	name, what := p.rescueNamespace, "namespace "+p.rescueNamespace
	if len(args) > 0 {
		object, name, what = &corev1.Node{}, args[0], "node "+args[0]
	}
	if err := c.Get(ctx, client.ObjectKey{Name: name}, object); err != nil {
		return fmt.Errorf("reading %s: %w", what, err)
	}
	was := object.GetAnnotations()[v1alpha1.AnnotationPaused] == "true"
	values := map[string]string{v1alpha1.AnnotationPaused: "", v1alpha1.AnnotationPausedBy: "", v1alpha1.AnnotationPausedReason: ""}
	done := "fences again"
	if paused {
		values = map[string]string{v1alpha1.AnnotationPaused: "true", v1alpha1.AnnotationPausedBy: whoAmI(ctx, c), v1alpha1.AnnotationPausedReason: reason}
		done = "paused"
	}
	if !was && !paused {
		fmt.Fprintf(p.Out, "%s is not paused\n", what)
		return nil
	}
	if err := annotate(ctx, c, object, values); err != nil {
		return fmt.Errorf("annotating %s: %w", what, err)
	}
	fmt.Fprintf(p.Out, "%s: %s\n", what, done)
	return nil
}
