package observe

import (
	"context"

	"github.com/rbd-rescue/rbd-rescue/api/v1alpha1"
	"github.com/rbd-rescue/rbd-rescue/remediator/plan"
)

// IfFailed reads what a node's incident would be, if it failed now: the snapshot as the rescuer would see it, with the NodeFence that
// the detector would make, and why it would make none. Nothing is written.
func (o *Observer) IfFailed(ctx context.Context, name string) (plan.Snapshot, plan.Verdict, error) {
	s, err := o.Node(ctx, name)
	if err != nil {
		return s, plan.Verdict{}, err
	}
	s = plan.IfFailed(s)
	var verdict plan.Verdict
	s.Fence, verdict = plan.FenceOf(s)
	return s, verdict, o.complete(ctx, &s)
}

// IfFenced reads what the incident of a NodeFence would be that a person has not made yet.
func (o *Observer) IfFenced(ctx context.Context, nf *v1alpha1.NodeFence) (plan.Snapshot, error) {
	s, err := o.kubernetes(ctx, nf.Spec.NodeName, nf, o.Live)
	if err != nil {
		return s, err
	}
	if identity := plan.IdentityOf(s); nf.Spec.BootID == "" || nf.Spec.BootID == identity.BootID {
		nf.Spec.BootID, nf.Spec.MachineID, nf.Spec.SystemUUID = identity.BootID, identity.MachineID, identity.SystemUUID
	}
	return s, o.complete(ctx, &s)
}

// complete asks Ceph, and finds who else is where a decision may come to.
func (o *Observer) complete(ctx context.Context, s *plan.Snapshot) error {
	if !s.Fence.Active() {
		return nil
	}
	o.ceph(ctx, s)
	if err := o.attachedAfter(ctx, s); err != nil {
		return err
	}
	if err := o.otherPods(ctx, s); err != nil {
		return err
	}
	o.daemons(ctx, s)
	return o.others(ctx, s)
}
