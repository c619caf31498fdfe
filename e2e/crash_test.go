package e2e

import (
	"testing"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rbd-rescue/rbd-rescue/api/v1alpha1"
	"github.com/rbd-rescue/rbd-rescue/e2e/lab"
)

// The remediator crashes at every boundary of an incident, against real Ceph and a real API server, and each time another
// process goes on from what it finds. What comes before a boundary is done by then, so that it takes two incidents to meet all.
func TestCrashAroundFenceAndVolumesInUse(t *testing.T) {
	crashThrough(t, "node-a",
		[]string{
			"before status", "after status", "before AddToBlocklist", "after AddToBlocklist", "before TakeSnapshot", "after TakeSnapshot",
			"before ClearVolumesInUse", "after ClearVolumesInUse",
		},
		[]string{"before RemoveFromBlocklist", "after RemoveFromBlocklist"})
}

func TestCrashAroundTaintAndForceDelete(t *testing.T) {
	crashThrough(t, "node-b",
		[]string{"before TaintNode", "after TaintNode", "before DeletePod", "after DeletePod"},
		[]string{"before UntaintNode", "after UntaintNode"})
}

// Two replicas; the leader hangs while it proves a fence, the other one takes over and finishes. When the old leader goes on
// it finds that it leads no more, and ends.
func TestLeaderChangeInMidFence(t *testing.T) {
	s := begin(t, v1alpha1.ModeRescue)
	db := s.workload("db", "node-c", true, patience)
	s.must(s.lab.Rescue.StartSecondRemediator(s.ctx))
	s.must(s.lab.Nodes["node-c"].KillKubelet()) // its writer goes on
	s.notReady("node-c")
	s.must(s.lab.Ceph.FreezeOSD(0)) // no fence can be proven
	s.reaches("node-c", v1alpha1.PhaseFencing)
	s.must(s.lab.Rescue.FreezeRemediator())
	first := s.leader()
	s.must(s.lab.Ceph.ThawOSD(0))
	s.runsElsewhere(db, "node-c")
	s.wrote(db, "node-c")
	s.refused(db, "node-c")
	s.must(s.lab.Rescue.ThawRemediator())
	select {
	case <-s.lab.Rescue.RemediatorEnded():
	case <-time.After(soon):
		t.Error("the old leader goes on")
	}
	if now := s.leader(); now == first || now == "" {
		t.Errorf("the leader is %q, as before", now)
	}
	s.reaches("node-c", v1alpha1.PhaseRecovered)
	s.proveData(db)
}

func (s *scenario) leader() string {
	s.Helper()
	lease := &coordinationv1.Lease{}
	s.must(s.lab.Client.Get(s.ctx, client.ObjectKey{Namespace: lab.Namespace, Name: "rbd-rescue-remediator"}, lease))
	return ptr.Deref(lease.Spec.HolderIdentity, "")
}

// crashThrough fails a node under an application that goes on writing, and crashes at these boundaries on the way to its
// recovery, and at those on the way to the lift.
func crashThrough(t *testing.T, node string, recovery, lift []string) {
	t.Helper()
	s := begin(t, v1alpha1.ModeRescue)
	db := s.workload("db", node, true, patience)
	s.must(s.lab.Rescue.KillRemediator())
	s.must(s.lab.Nodes[node].KillKubelet())
	s.notReady(node)
	s.crashAtEach(recovery)
	s.dropLease()
	s.must(s.lab.Rescue.StartRemediator(s.ctx))
	s.runsElsewhere(db, node)
	s.wrote(db, node)
	s.refused(db, node)
	s.reaches(node, v1alpha1.PhaseRecovered)
	s.must(s.lab.Rescue.KillRemediator())
	s.must(s.lab.Nodes[node].Reboot(s.ctx))
	s.crashAtEach(lift)
	s.dropLease()
	s.must(s.lab.Rescue.StartRemediator(s.ctx))
	nf := s.reaches(node, v1alpha1.PhaseLifted)
	if none, err := s.noClientListed(nf); err != nil || !none {
		t.Errorf("entries are left after the lift (%v)", err)
	}
	s.proveData(db)
}

func (s *scenario) crashAtEach(boundaries []string) {
	s.Helper()
	for _, boundary := range boundaries {
		s.dropLease()
		s.must(s.lab.Rescue.StartRemediatorToCrash(s.ctx, boundary))
		select {
		case <-s.lab.Rescue.RemediatorEnded():
			s.Logf("%6.1f s  crashed %s", time.Since(s.began).Seconds(), boundary)
		case <-time.After(atLast): // a removal that a process had asked for before it crashed is given a minute
			s.Fatalf("the remediator did not come to %q within %s", boundary, atLast)
		}
	}
}

// dropLease stands for the time until a dead leader's lease has run out.
func (s *scenario) dropLease() {
	s.Helper()
	lease := &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Namespace: lab.Namespace, Name: "rbd-rescue-remediator"}}
	s.must(client.IgnoreNotFound(s.lab.Client.Delete(s.ctx, lease)))
}
