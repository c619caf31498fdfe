package plan

import (
	"fmt"

	"github.com/rbd-rescue/rbd-rescue/api/v1alpha1"
)

// moved tells whether Kubernetes has given the volume to another node with no fence before. It does so where somebody called the
// node out of service, or after six minutes, though the old boot may still write. There is nothing to release then, but a client to
// cut off: the node still says that it uses the volume or, where its object is gone, the NodeFence lists it.
func moved(s Snapshot, v Volume) bool {
	return v.Exclusive && attachmentTo(s.NodeName, v) == nil && len(usersOn(s.NodeName, v)) == 0 && attachedElsewhere(s.NodeName, v) != ""
}

// tellMovedUnfenced warns of two nodes that may write to one image, where the client of the first cannot be cut off.
func (d *draft) tellMovedUnfenced(v Volume, r refusal) {
	d.announceVolume(v.Volume, warning, v1alpha1.ReasonMovedUnfenced, "Fence", fmt.Sprintf(
		"Two nodes may write to claim %s (image %s): Kubernetes has moved it to node %s, and node %s, which failed with it, is not cut off from it (%s): %s. Power node %s off.",
		v.Claim, v.ImageName(), attachedElsewhere(d.s.NodeName, v), d.s.NodeName, r.reason, r.message, d.s.NodeName))
}
