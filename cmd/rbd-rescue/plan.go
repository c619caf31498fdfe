package main

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rbd-rescue/rbd-rescue/api/v1alpha1"
	"github.com/rbd-rescue/rbd-rescue/cmd/exit"
	"github.com/rbd-rescue/rbd-rescue/remediator"
	"github.com/rbd-rescue/rbd-rescue/remediator/observe"
	"github.com/rbd-rescue/rbd-rescue/remediator/plan"
)

// planTimeout bounds the whole: lists of a large cluster, and what is asked of Ceph, which has bounds of its own.
const planTimeout = 2 * time.Minute

// looksAtMemory is after how many objects it looks how much memory is left.
const looksAtMemory = 500

// planOptions are the flags of the plan command.
type planOptions struct {
	verb
	byHand  bool
	bootID  string
	clients []string
	output  string
}

func planCommand() *cobra.Command {
	var o planOptions
	command := &cobra.Command{
		Use:   "plan NODE",
		Short: "Tells what would happen if a node failed now; writes nothing",
		Args:  exit.Takes("NODE"),
		RunE: func(command *cobra.Command, args []string) error {
			if o.output != "json" {
				return exit.Misusef("-o %s: is not json; kubectl rescue plan has output for people", o.output)
			}
			if !o.byHand && (o.bootID != "" || len(o.clients) > 0) {
				return exit.Misusef("--boot-id and --client go with --by-hand")
			}
			ctx, cancel := context.WithTimeout(command.Context(), planTimeout)
			defer cancel()
			rehearsal, err := o.rehearse(ctx, args[0])
			if err != nil {
				return err
			}
			encoder := json.NewEncoder(command.OutOrStdout())
			encoder.SetIndent("", "  ")
			return encoder.Encode(rehearsal)
		},
	}
	o.addFlags(command.Flags())
	command.Flags().BoolVar(&o.byHand, "by-hand", false, "what a NodeFence would do that a person makes, be the node healthy or not")
	command.Flags().StringVar(&o.bootID, "boot-id", "", "boot to fence by hand; the node's last one by default")
	command.Flags().StringSliceVar(&o.clients, "client", nil, "Ceph client to fence by hand, as in 10.0.0.5:0/42")
	command.Flags().StringVarP(&o.output, "output", "o", "json", "json")
	return command
}

func (o planOptions) rehearse(ctx context.Context, node string) (plan.Rehearsal, error) {
	site, err := o.open("plan")
	if err != nil {
		return plan.Rehearsal{}, err
	}
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	kept := 0
	reader, err := observe.NewListed(ctx, site.client, func(object client.Object) client.Object {
		if kept++; kept%looksAtMemory == 0 {
			if err := roomLeft(cgroup); err != nil {
				stop(err)
			}
		}
		return keep(object)
	})
	if err != nil {
		return plan.Rehearsal{}, err
	}
	observer := &observe.Observer{
		Reader: reader, Live: reader, Clusters: site.clusters, Clock: clock.RealClock{}, Namespace: o.namespace, Settings: site.configuration.Settings(),
	}
	snapshot, verdict, err := o.observe(ctx, observer, node)
	if ctx.Err() != nil {
		return plan.Rehearsal{}, fmt.Errorf("observing node %s: %w", node, context.Cause(ctx))
	}
	if err != nil {
		return plan.Rehearsal{}, fmt.Errorf("observing node %s: %w", node, err)
	}
	if snapshot.Node == nil && len(snapshot.Volumes) == 0 {
		return plan.Rehearsal{}, fmt.Errorf("there is no node %s, and no RBD volume is attached to one of that name", node)
	}
	return plan.Rehearse(snapshot, verdict), nil
}

func (o planOptions) observe(ctx context.Context, observer *observe.Observer, node string) (plan.Snapshot, plan.Verdict, error) {
	if !o.byHand {
		return observer.IfFailed(ctx, node)
	}
	s, err := observer.IfFenced(ctx, &v1alpha1.NodeFence{Spec: v1alpha1.NodeFenceSpec{NodeName: node, BootID: o.bootID, Clients: o.clients}})
	return s, plan.Verdict{}, err
}

// keep gives what the remediator's own caches have of an object, and of pods also what they tolerate. It shares the memory of the
// remediator beside which it runs: a pod without claims matters to no decision about volumes.
func keep(object client.Object) client.Object {
	kept := remediator.Stripped(object)
	if pod, is := object.(*corev1.Pod); is {
		stripped := kept.(*corev1.Pod)
		if len(stripped.Spec.Volumes) == 0 {
			return nil
		}
		stripped.Spec.Tolerations = pod.Spec.Tolerations
	}
	return kept
}
