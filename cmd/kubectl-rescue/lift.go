package main

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rbd-rescue/rbd-rescue/api/v1alpha1"
	"github.com/rbd-rescue/rbd-rescue/cmd/exit"
)

func liftCommand(p *plugin) *cobra.Command {
	var reason string
	var yes bool
	command := &cobra.Command{
		Use:   "lift NODEFENCE|NODE --reason TEXT",
		Short: "Say that a fenced boot is over, so that its fence is lifted",
		Long: `Say on your word that the boot which a NodeFence cuts off is over. A fence is lifted by itself once the same machine is
Ready with a new boot; this is for a machine that will not come back, or that has no RBD mapping left.

If the old boot still runs, its RBD mappings can write again, unseen by Ceph, to images that other nodes have by now (S3).`,
		Args:              exit.Takes("NODEFENCE or NODE"),
		ValidArgsFunction: p.completeFences,
		RunE: func(command *cobra.Command, args []string) error {
			if err := checkReason(reason, "the machine is unplugged"); err != nil {
				return err
			}
			return p.lift(command.Context(), args[0], reason, yes)
		},
	}
	command.Flags().StringVar(&reason, "reason", "", "why the boot is over; kept on the NodeFence")
	command.Flags().BoolVar(&yes, "yes", false, "ask nothing; for scripts")
	return command
}

func (p *plugin) lift(ctx context.Context, name, reason string, yes bool) error {
	c, err := p.client()
	if err != nil {
		return err
	}
	nf, err := p.liftable(ctx, c, name)
	if err != nil {
		return err
	}
	shown := liftWarning(nf)
	if err := p.confirm(yes, shown, nf.Spec.NodeName); err != nil {
		return err
	}
	ctx, cancel := p.deadline(ctx)
	defer cancel()
	if nf, err = p.liftable(ctx, c, nf.Name); err != nil {
		return err
	}
	if liftWarning(nf) != shown {
		return fmt.Errorf("NodeFence %s has changed since it was shown, and was not lifted: look again", nf.Name)
	}
	by := map[string]string{v1alpha1.AnnotationLift: nf.Spec.BootID, v1alpha1.AnnotationLiftReason: reason}
	if who := whoAmI(ctx, c); who != "" {
		by[v1alpha1.AnnotationLiftReason] = who + ": " + reason
	}
	if err := annotate(ctx, c, nf, by); err != nil {
		return fmt.Errorf("lifting NodeFence %s: %w", nf.Name, err)
	}
	fmt.Fprintf(p.Out, "nodefence.%s/%s is to be lifted; follow it: kubectl get nodefence %s --watch\n", v1alpha1.GroupVersion.Group, nf.Name, nf.Name)
	return nil
}

// liftable finds a NodeFence that a person may lift.
func (p *plugin) liftable(ctx context.Context, c client.Client, name string) (*v1alpha1.NodeFence, error) {
	ctx, cancel := p.deadline(ctx)
	defer cancel()
	nf, err := findFence(ctx, c, name)
	switch {
	case err != nil:
		return nil, err
	case !nf.Active():
		return nil, fmt.Errorf("NodeFence %s is over: %s", nf.Name, nf.Status.Phase)
	case nf.Spec.BootID == "":
		return nil, fmt.Errorf("NodeFence %s names no boot, and has cut nothing off: delete it: kubectl delete nodefence %s", nf.Name, nf.Name)
	default:
		return nf, nil
	}
}

// liftWarning says what the person takes upon them.
func liftWarning(nf *v1alpha1.NodeFence) string {
	var w strings.Builder
	fmt.Fprintf(&w, "NodeFence %s cuts off boot %s of node %s:", nf.Name, nf.Spec.BootID, nf.Spec.NodeName)
	for _, client := range nf.Status.Clients {
		fmt.Fprintf(&w, " %s", client.Address)
	}
	for _, v := range nf.Status.Volumes {
		if v.RecoveredOn != "" {
			fmt.Fprintf(&w, "\n  claim %s (image %s) runs on node %s now", v.Claim, v.Image, v.RecoveredOn)
		}
	}
	fmt.Fprint(&w, "\nIf that boot still runs, an RBD mapping that is left on it writes again as soon as the fence is lifted, and rbd status shows no "+
		"watcher for it: two writers on one image. Make sure that the machine is off, or that /sys/bus/rbd/devices is empty there.")
	return w.String()
}

// findFence finds a NodeFence by its name, or the active one of a node.
func findFence(ctx context.Context, c client.Client, name string) (*v1alpha1.NodeFence, error) {
	nf := &v1alpha1.NodeFence{}
	err := c.Get(ctx, client.ObjectKey{Name: name}, nf)
	if err == nil || !apierrors.IsNotFound(err) {
		return nf, err
	}
	fences, err := fencesOf(ctx, c, name)
	if err != nil {
		return nil, err
	}
	switch len(fences) {
	case 0:
		return nil, fmt.Errorf("there is no NodeFence %s, and no node of that name has an active one: kubectl get nodefences", name)
	case 1:
		return &fences[0], nil
	}
	var names []string
	for _, nf := range fences {
		names = append(names, nf.Name)
	}
	return nil, fmt.Errorf("node %s has several active NodeFences, name one of them: %s", name, strings.Join(names, ", "))
}

// annotate sets annotations of the very object that was looked at; an empty value takes one away.
func annotate(ctx context.Context, c client.Client, object client.Object, values map[string]string) error {
	annotations := map[string]any{}
	for key, value := range values {
		annotations[key] = value
		if value == "" {
			annotations[key] = nil
		}
	}
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{"uid": object.GetUID(), "annotations": annotations}})
	if err != nil {
		return err
	}
	return c.Patch(ctx, object, client.RawPatch(types.MergePatchType, patch))
}
