package plan

import (
	"fmt"
	"reflect"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/rbd-rescue/rbd-rescue/ceph"
)

// Step is one write that the rescuer carries out. It is data: it can be printed, compared and repeated, and it carries
// the precondition under which it is right.
type Step interface {
	fmt.Stringer
	step()
}

// AddToBlocklist cuts clients off that have no entry.
type AddToBlocklist struct {
	ClusterID string
	Clients   []ceph.Address
	TTL       time.Duration
}

// RemoveFromBlocklist lifts entries (S3), but for those that another active NodeFence asks for.
type RemoveFromBlocklist struct {
	ClusterID string
	Clients   []ceph.Address
	// Over are the names of NodeFences that are over as well, and need none of them.
	Over []string
}

// TaintNode keeps new pods off the node.
type TaintNode struct {
	Node string
	UID  types.UID
}

// UntaintNode lets pods back onto the node.
type UntaintNode struct {
	Node string
	UID  types.UID
}

// ClearVolumesInUse takes volumes out of the dead node's status.volumesInUse, so that the attach/detach controller
// detaches them by its normal, checked path (facts/kubernetes.md §1). It holds for the boot that is fenced only.
type ClearVolumesInUse struct {
	Node        string
	UID         types.UID
	BootID      string
	UniqueNames []string
}

// DeletePod deletes a pod of the fenced node, if it is still exactly the pod that was judged.
type DeletePod struct {
	Namespace, Name string
	UID             types.UID
	ResourceVersion string
	// Graceful leaves it to a kubelet that answers to end the pod; else there is no grace period.
	Graceful bool
	// Done is announced once the pod is deleted.
	Done []Event
}

// DeleteAttachment deletes a VolumeAttachment that the attach/detach controller left behind.
type DeleteAttachment struct {
	Name string
	UID  types.UID
}

// FreeAttachment takes the finalizers from a VolumeAttachment whose attacher does not let it go.
type FreeAttachment struct {
	Name string
	UID  types.UID
}

// TakeSnapshot takes a safety snapshot, if the volume is attached to the fenced node as it was when it was judged.
type TakeSnapshot struct {
	PersistentVolume string
	ClusterID        string
	Image            ceph.Image
	Name             string
	// Attachment to the node, and its UID; empty for a volume that other nodes may have anyway.
	Attachment    string
	AttachmentUID types.UID
	// CutOff are the clients whose exclusive lock may be taken.
	CutOff []ceph.Address
	// Within is how long it may take.
	Within time.Duration
}

// ReleaseFinalizer lets a NodeFence go that somebody has deleted.
type ReleaseFinalizer struct{}

func (AddToBlocklist) step()      {}
func (RemoveFromBlocklist) step() {}
func (TaintNode) step()           {}
func (UntaintNode) step()         {}
func (ClearVolumesInUse) step()   {}
func (DeletePod) step()           {}
func (DeleteAttachment) step()    {}
func (FreeAttachment) step()      {}
func (TakeSnapshot) step()        {}
func (ReleaseFinalizer) step()    {}

func (s AddToBlocklist) String() string {
	return fmt.Sprintf("add %s to the blocklist of cluster %s for %s", join(s.Clients), s.ClusterID, s.TTL)
}

func (s RemoveFromBlocklist) String() string {
	return fmt.Sprintf("remove %s from the blocklist of cluster %s", join(s.Clients), s.ClusterID)
}
func (s TaintNode) String() string   { return "taint node " + s.Node }
func (s UntaintNode) String() string { return "remove the taint from node " + s.Node }
func (s ClearVolumesInUse) String() string {
	return fmt.Sprintf("clear %s from volumesInUse of node %s", strings.Join(s.UniqueNames, ", "), s.Node)
}
func (s DeletePod) String() string {
	if s.Graceful {
		return "delete pod " + s.Namespace + "/" + s.Name
	}
	return "force-delete pod " + s.Namespace + "/" + s.Name
}
func (s DeleteAttachment) String() string { return "delete VolumeAttachment " + s.Name }
func (s FreeAttachment) String() string {
	return "remove the finalizers from VolumeAttachment " + s.Name
}
func (s TakeSnapshot) String() string {
	return fmt.Sprintf("take snapshot %s of image %s", s.Name, s.Image)
}
func (ReleaseFinalizer) String() string { return "remove the finalizer from the NodeFence" }

// Kind names the kind of a step, as in "AddToBlocklist".
func Kind(s Step) string { return reflect.TypeOf(s).Name() }

func join(addresses []ceph.Address) string {
	texts := make([]string, len(addresses))
	for i, a := range addresses {
		texts[i] = a.String()
	}
	return strings.Join(texts, ", ")
}

// Event is one sentence of the story that users read in kubectl describe.
type Event struct {
	// Regarding is the object that the reader looks at first.
	Regarding corev1.ObjectReference
	// Related is the other object of the fact; may be zero. Events of one object that differ in nothing but their note are
	// one to Kubernetes, so that it also keeps the facts about several claims of a NodeFence apart.
	Related corev1.ObjectReference
	// Type is Normal for progress, Warning where a person may be needed.
	Type   string
	Reason string
	// Action is the verb.
	Action string
	Note   string
}
