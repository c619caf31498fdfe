package rescuer

import (
	"context"
	"fmt"
	"sync"

	"k8s.io/apimachinery/pkg/types"
	ctrl "sigs.k8s.io/controller-runtime"

	"github.com/rbd-rescue/rbd-rescue/api/v1alpha1"
	"github.com/rbd-rescue/rbd-rescue/remediator/observe"
	"github.com/rbd-rescue/rbd-rescue/remediator/plan"
)

// attempts are how the last ask for the safety snapshot of each volume went. A process that starts knows of none, and asks again.
type attempts struct {
	lock sync.Mutex
	last map[attempted]plan.SnapshotAttempt
}

type attempted struct {
	fence            types.UID
	persistentVolume string
}

func (a *attempts) note(nf *v1alpha1.NodeFence, persistentVolume string, attempt plan.SnapshotAttempt) {
	a.lock.Lock()
	defer a.lock.Unlock()
	if a.last == nil {
		a.last = map[attempted]plan.SnapshotAttempt{}
	}
	a.last[attempted{nf.UID, persistentVolume}] = attempt
}

// tell adds them to what a decision is taken from, and forgets those of an incident that is over.
func (a *attempts) tell(nf *v1alpha1.NodeFence, s *plan.Snapshot) {
	a.lock.Lock()
	defer a.lock.Unlock()
	for i := range s.Volumes {
		s.Volumes[i].SnapshotTried = a.last[attempted{nf.UID, s.Volumes[i].Name}]
	}
	if nf.Active() {
		return
	}
	for key := range a.last {
		if key.fence == nf.UID {
			delete(a.last, key)
		}
	}
}

// takeSnapshot asks for a safety snapshot while the API itself shows the volume attached as it was judged. How that went is for the
// next look to judge: it is no failure of the step.
func (c *Controller) takeSnapshot(ctx context.Context, nf *v1alpha1.NodeFence, s plan.TakeSnapshot) error {
	ctx, cancel := context.WithTimeout(ctx, s.Within)
	defer cancel()
	if s.Attachment != "" {
		uid, err := observe.AttachmentNow(ctx, c.Live, s.Attachment)
		if err != nil {
			return err
		}
		if uid != s.AttachmentUID {
			err := fmt.Errorf("VolumeAttachment %s is gone: another node may have the volume", s.Attachment)
			c.attempts.note(nf, s.PersistentVolume, plan.SnapshotAttempt{Name: s.Name, At: c.Observer.Clock.Now(), Err: err})
			return nil
		}
	}
	cluster, err := c.Clusters.Get(ctx, s.ClusterID)
	if err == nil {
		err = cluster.CreateSnapshot(ctx, s.Image, s.Name, s.CutOff)
	}
	if err != nil {
		ctrl.LoggerFrom(ctx).Info("Taking a safety snapshot failed", "node", nf.Spec.NodeName, "volume", s.PersistentVolume, "image", s.Image.String(), "reason", err.Error())
	}
	c.attempts.note(nf, s.PersistentVolume, plan.SnapshotAttempt{Name: s.Name, At: c.Observer.Clock.Now(), Err: err})
	return nil
}
