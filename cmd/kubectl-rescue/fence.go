package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rbd-rescue/rbd-rescue/api/v1alpha1"
	"github.com/rbd-rescue/rbd-rescue/ceph"
	"github.com/rbd-rescue/rbd-rescue/cmd/exit"
)

// fenceOptions are the flags of the fence command.
type fenceOptions struct {
	*plugin
	reason  string
	clients []string
	bootID  string
	yes     bool
}

func fenceCommand(p *plugin) *cobra.Command {
	o := fenceOptions{plugin: p}
	command := &cobra.Command{
		Use:   "fence NODE --reason TEXT",
		Short: "Fence a node by hand, be it healthy or not",
		Long: `Make a NodeFence by hand: the node's Ceph clients are cut off, its pods with RBD volumes of namespaces in mode rescue are
deleted, and their volumes move. It shows the plan first, and asks for the node's name. Breaker and pauses do not hold back what a
person asks for; everything else does (S1-S6).

Name clients with --client where rbd-rescue cannot tell them, as rbd status prints them: IP:0/NONCE, or IP:0/0 for the whole host.`,
		Args:              exit.Takes("NODE"),
		ValidArgsFunction: p.completeNodes,
		RunE: func(command *cobra.Command, args []string) error {
			if err := o.check(args[0]); err != nil {
				return err
			}
			return o.run(command.Context(), args[0])
		},
	}
	command.Flags().StringVar(&o.reason, "reason", "", "why the node is fenced; kept in the NodeFence")
	command.Flags().StringSliceVar(&o.clients, "client", nil, "a Ceph client of the node, as in 10.0.0.5:0/42; may be given several times")
	command.Flags().StringVar(&o.bootID, "boot-id", "", "the boot to fence; by default the node's current one")
	command.Flags().BoolVar(&o.yes, "yes", false, "ask nothing, and show no plan; for scripts")
	return command
}

func (o fenceOptions) check(node string) error {
	if problems := validation.IsDNS1123Subdomain(node); len(problems) > 0 {
		return exit.Misusef("%q is no name of a node", node)
	}
	for _, text := range o.clients {
		if _, err := ceph.ParseAddress(text); err != nil {
			return exit.Misusef("--client %s: %w", text, err)
		}
	}
	return checkReason(o.reason, "its disk controller hangs")
}

func (o fenceOptions) run(ctx context.Context, node string) error {
	c, err := o.client()
	if err != nil {
		return err
	}
	nf, err := o.prepare(ctx, c, node)
	if err != nil {
		return err
	}
	if err := o.confirm(o.yes, fmt.Sprintf("\nThis cuts node %s off from Ceph until it is rebooted.", node), node); err != nil {
		return err
	}
	ctx, cancel := o.deadline(ctx)
	defer cancel()
	again, err := o.nodeFence(ctx, c, node)
	if err != nil {
		return err
	}
	if again.Spec.BootID != nf.Spec.BootID {
		return fmt.Errorf("node %s was rebooted meanwhile (boot %s, then %s), and was not fenced: look again", node, nf.Spec.BootID, again.Spec.BootID)
	}
	if err := c.Create(ctx, nf); err != nil {
		return fmt.Errorf("making a NodeFence of node %s: %w", node, err)
	}
	fmt.Fprintf(o.Out, "nodefence.%s/%s made; follow it: kubectl get nodefence %s --watch\n", v1alpha1.GroupVersion.Group, nf.Name, nf.Name)
	return nil
}

// prepare gives what is to be made, and shows what it would do.
func (o fenceOptions) prepare(ctx context.Context, c client.Client, node string) (*v1alpha1.NodeFence, error) {
	ctx, cancel := o.deadline(ctx)
	defer cancel()
	nf, err := o.nodeFence(ctx, c, node)
	if err != nil || o.yes {
		return nf, err
	}
	args := []string{node, "--by-hand", "--boot-id=" + nf.Spec.BootID}
	for _, text := range o.clients {
		args = append(args, "--client="+text)
	}
	rehearsal, err := o.rehearse(ctx, args...)
	if err != nil {
		return nil, fmt.Errorf("nothing was done, since the plan cannot be shown (--yes fences without it): %w", err)
	}
	return nf, planText(o.ErrOut, rehearsal, false)
}

// nodeFence is what is to be made. One that is under way is enough.
func (o fenceOptions) nodeFence(ctx context.Context, c client.Client, name string) (*v1alpha1.NodeFence, error) {
	bootID := o.bootID
	if bootID == "" {
		var node corev1.Node
		if err := c.Get(ctx, client.ObjectKey{Name: name}, &node); err != nil {
			if apierrors.IsNotFound(err) {
				return nil, fmt.Errorf("there is no node %s: if it was deleted, name its boot with --boot-id", name)
			}
			return nil, fmt.Errorf("reading node %s: %w", name, err)
		}
		if bootID = node.Status.NodeInfo.BootID; bootID == "" {
			return nil, fmt.Errorf("node %s reports no bootID: name it with --boot-id", name)
		}
	}
	fences, err := fencesOf(ctx, c, name)
	if err != nil {
		return nil, err
	}
	for _, nf := range fences {
		if nf.Spec.BootID == bootID && (len(o.clients) == 0 || !nf.Spec.Automatic && len(nf.Spec.Clients) > 0) {
			return nil, fmt.Errorf("NodeFence %s of that boot of node %s is under way already (%s)", nf.Name, name, nf.Status.Message)
		}
	}
	return &v1alpha1.NodeFence{
		ObjectMeta: metav1.ObjectMeta{GenerateName: name[:min(len(name), 200)] + "-by-hand-"},
		Spec:       v1alpha1.NodeFenceSpec{NodeName: name, BootID: bootID, Clients: o.clients, Reason: o.reason},
	}, nil
}

// fencesOf are the active NodeFences of a node.
func fencesOf(ctx context.Context, c client.Client, node string) ([]v1alpha1.NodeFence, error) {
	var list v1alpha1.NodeFenceList
	if err := c.List(ctx, &list); err != nil {
		return nil, fmt.Errorf("listing NodeFences: %w", err)
	}
	var active []v1alpha1.NodeFence
	for _, nf := range list.Items {
		if nf.Active() && nf.Spec.NodeName == node {
			active = append(active, nf)
		}
	}
	return active, nil
}
