package rescuer

import (
	"context"
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rbd-rescue/rbd-rescue/api/v1alpha1"
)

// madeByAnother makes the world's NodeFence one as another controller creates it: automatic, and with nothing that rbd-rescue fills in.
func (w *world) madeByAnother() {
	w.Helper()
	nf := w.fence()
	nf.Finalizers = nil
	nf.OwnerReferences = []metav1.OwnerReference{{APIVersion: "remediation.medik8s.io/v1alpha1", Kind: "NodeHealthCheck", Name: "workers", UID: "workers"}}
	nf.Spec = v1alpha1.NodeFenceSpec{NodeName: "node-a", Automatic: true, Reason: "NodeHealthCheck workers"}
	if err := w.client.Update(context.Background(), nf); err != nil {
		w.Fatal(err)
	}
	w.nodeReports("boot-1", corev1.ConditionUnknown)
}

func (w *world) nodeReports(boot string, ready corev1.ConditionStatus) {
	w.Helper()
	node := &corev1.Node{}
	if err := w.client.Get(context.Background(), client.ObjectKey{Name: "node-a"}, node); err != nil {
		w.Fatal(err)
	}
	node.Status.NodeInfo = corev1.NodeSystemInfo{BootID: boot, MachineID: "machine-a"}
	node.Status.Conditions[0].Status = ready
	if err := w.client.Status().Update(context.Background(), node); err != nil {
		w.Fatal(err)
	}
}

// S3: who made it deletes it when the node is Ready again, which proves nothing of the boot that was cut off.
func TestANodeFenceOfAnotherControllerThatIsDeletedStaysUntilItsBootIsOver(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.setSnapshotPolicy(v1alpha1.SnapshotOff) // a snapshot would keep the object until retention has removed it
	w.madeByAnother()
	c := w.controller()
	if err := w.settle(c); err != nil {
		t.Fatal(err)
	}
	w.checkReleased()
	if got := w.fence().Spec; got.BootID != "boot-1" || got.MachineID != "machine-a" {
		t.Errorf("it means %+v", got)
	}
	if err := w.client.Delete(t.Context(), w.fence()); err != nil {
		t.Fatal(err)
	}
	for _, ready := range []corev1.ConditionStatus{corev1.ConditionUnknown, corev1.ConditionTrue} {
		w.nodeReports("boot-1", ready)
		if err := w.settle(c); err != nil {
			t.Fatal(err)
		}
		if nf := w.fence(); nf.DeletionTimestamp == nil || !nf.Active() {
			t.Errorf("Ready is %s: it is %s", ready, nf.Status.Phase)
		}
		if !slices.Contains(w.ceph.Blocklist(), deadClient) {
			t.Errorf("S3: Ready is %s, and the boot that was cut off is let in", ready)
		}
	}
	w.nodeReports("boot-2", corev1.ConditionTrue)
	if err := w.settle(c); err != nil {
		t.Fatal(err)
	}
	if listed := w.ceph.Blocklist(); len(listed) > 0 {
		t.Errorf("%v are left", listed)
	}
	if err := w.client.Get(t.Context(), client.ObjectKey{Name: "nf"}, &v1alpha1.NodeFence{}); !apierrors.IsNotFound(err) {
		t.Errorf("the NodeFence is still there: %v", err)
	}
}

// It is no person's word: S7 and S2 hold for it as for one that rbd-rescue makes.
func TestANodeFenceOfAnotherControllerIsNoPersonsWord(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		ready corev1.ConditionStatus
		live  func(client.Reader) client.Reader
		phase v1alpha1.NodeFencePhase
	}{
		"S7: it fences nothing while the breaker is open": {
			corev1.ConditionUnknown, func(r client.Reader) client.Reader { return allUnknown{r} }, v1alpha1.PhaseFencing,
		},
		"it is cancelled where the node is Ready": {
			corev1.ConditionTrue, func(r client.Reader) client.Reader { return r }, v1alpha1.PhaseCancelled,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.madeByAnother()
			w.nodeReports("boot-1", test.ready)
			c := w.controller()
			c.Live = test.live(w.client)
			if err := w.settle(c); err != nil {
				t.Fatal(err)
			}
			if listed := w.ceph.Blocklist(); len(listed) > 0 || w.deleted != nil {
				t.Errorf("cut off: %v, deleted: %v", listed, w.deleted)
			}
			if got := w.fence().Status.Phase; got != test.phase {
				t.Errorf("it is %s", got)
			}
		})
	}
}
