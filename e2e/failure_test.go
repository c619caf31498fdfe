package e2e

import (
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"

	"github.com/rbd-rescue/rbd-rescue/api/v1alpha1"
	"github.com/rbd-rescue/rbd-rescue/e2e/lab/network"
	"github.com/rbd-rescue/rbd-rescue/volume"
)

// The host is dead: all processes of the node are gone at once.
func TestHostDead(t *testing.T) {
	s := beginOnNode(t, v1alpha1.ModeRescue)
	db := s.workload("db", s.node, true, patience)
	web := s.workload("web", s.node, false, patience)
	planned := s.plan(s.node)
	s.must(s.lab.Nodes[s.node].Kill())
	s.movesAway(s.node, db, web)
	s.reaches(s.node, v1alpha1.PhaseRecovered)
	s.asPlanned(planned)
	s.tells("the incident as a picture", "claim "+s.namespace+"/web", "timeline", s.node, "-o", "svg")
	s.tells("who recovered", s.namespace+"/db", "status", "-o", "wide")
	for _, reason := range []string{v1alpha1.ReasonFenceStarted, v1alpha1.ReasonNodeFenced} {
		s.told(reason, "Node", s.node)
		s.told(reason, "NodeFence", s.node)
	}
	s.told(v1alpha1.ReasonVolumeHeld, "Pod", "web")
	s.told(v1alpha1.ReasonPodForceDeleted, "Pod", "db-0")
	s.told(v1alpha1.ReasonVolumeReleased, "PersistentVolumeClaim", "db")
	s.told(v1alpha1.ReasonVolumeReleased, "Pod", "web")
	s.told(v1alpha1.ReasonVolumeRecovered, "PersistentVolumeClaim", "web")
	s.proveData(db, web)
}

// The host is frozen for longer than a watch lives, and thaws after the take-over: without a fence its writes would land.
func TestHostFrozenUntilItsWatchIsGone(t *testing.T) {
	s := beginOnNode(t, v1alpha1.ModeRescue)
	db := s.workload("db", s.node, true, outlivesWatch)
	s.must(s.lab.Nodes[s.node].Freeze())
	s.notReady(s.node)
	s.eventually(soon, "rbd status shows no watcher", func() (bool, error) {
		watchers, err := s.lab.Ceph.Watchers(s.ctx, "kubernetes", db.Image)
		return len(watchers) == 0, err
	})
	if nf, err := s.fence(s.node); err != nil || nf != nil {
		t.Fatalf("fenced before Kubernetes wanted anything moved: %v, %v", nf, err)
	}
	s.runsElsewhere(db, s.node)
	s.wrote(db, s.node)
	s.must(s.lab.Nodes[s.node].Thaw())
	s.refused(db, s.node)
	s.told(v1alpha1.ReasonNodeStillFenced, "Node", s.node)
	s.proveData(db)
}

// The kubelet is dead, and the container goes on writing: "host available" in the old runbook.
func TestKubeletDeadWriterAlive(t *testing.T) {
	s := beginOnNode(t, v1alpha1.ModeRescue)
	db := s.workload("db", s.node, true, patience)
	planned := s.plan(s.node)
	s.must(s.lab.Nodes[s.node].KillKubelet())
	s.movesAway(s.node, db)
	s.refused(db, s.node)
	s.reaches(s.node, v1alpha1.PhaseRecovered)
	s.asPlanned(planned)
	s.proveData(db)
}

// The node cannot reach the API, but Ceph: it writes until the very moment of the fence.
func TestAPILinkCut(t *testing.T) {
	s := beginOnNode(t, v1alpha1.ModeRescue)
	web := s.workload("web", s.node, false, patience)
	s.must(s.lab.Network.Cut(s.ctx, s.node, network.API))
	s.movesAway(s.node, web)
	s.refused(web, s.node)
	s.must(s.lab.Network.Restore(s.ctx, s.node))
	s.told(v1alpha1.ReasonNodeStillFenced, "Node", s.node)
	s.proveData(web)
}

// The node reaches nothing, and comes back with the same boot: it stays fenced.
func TestAllLinksCutThenRestored(t *testing.T) {
	s := beginOnNode(t, v1alpha1.ModeRescue)
	db := s.workload("db", s.node, true, patience)
	planned := s.plan(s.node)
	s.must(s.lab.Network.Cut(s.ctx, s.node, network.All))
	s.movesAway(s.node, db)
	s.must(s.lab.Network.Restore(s.ctx, s.node))
	s.eventually(soon, s.node+" is Ready again", func() (bool, error) {
		node, err := s.lab.Node(s.ctx, s.node)
		return err == nil && volume.Ready(node), err
	})
	s.told(v1alpha1.ReasonNodeStillFenced, "Node", s.node)
	node, err := s.lab.Node(s.ctx, s.node)
	s.must(err)
	if !hasTaint(node, v1alpha1.TaintFenced) {
		t.Error("the taint is gone although the old boot still runs")
	}
	nf := s.reaches(s.node, v1alpha1.PhaseRecovered)
	s.asPlanned(planned)
	if none, err := s.noClientListed(nf); err != nil || none {
		t.Errorf("the entries are gone although the old boot still runs (%v)", err)
	}
	s.refused(db, s.node)
	s.proveData(db)
}

// The remediator is killed between fence and release: the client is cut off, nothing has been released, and the next one goes on.
func TestRemediatorKilledBetweenFenceAndRelease(t *testing.T) {
	s := begin(t, v1alpha1.ModeRescue)
	db := s.workload("db", "node-b", true, patience)
	old := s.pods(db)[0].UID
	s.must(s.lab.Rescue.KillRemediator())
	s.must(s.lab.Nodes["node-b"].Kill())
	s.notReady("node-b")
	s.crashAtEach([]string{"after AddToBlocklist"})
	nf, err := s.fence("node-b")
	s.must(err)
	if none, err := s.noClientListed(nf); err != nil || none || len(nf.Status.Clients) == 0 || nf.Status.Times.FencedAt != nil {
		t.Fatalf("it was not killed between fence and proof: clients %+v, proven at %v (%v)", nf.Status.Clients, nf.Status.Times.FencedAt, err)
	}
	if pods := s.pods(db); len(pods) != 1 || pods[0].UID != old {
		t.Errorf("pods were released before the fence was proven: %v", pods)
	}
	if attached := s.attachedTo(db); !slices.Equal(attached, []string{"node-b"}) {
		t.Errorf("the volume was released before the fence was proven: it is attached to %v", attached)
	}
	s.dropLease()
	s.must(s.lab.Rescue.StartRemediator(s.ctx))
	s.runsElsewhere(db, "node-b")
	s.wrote(db, "node-b")
	s.reaches("node-b", v1alpha1.PhaseRecovered)
	s.proveData(db)
}

// The webhook is down during the failure: pods are created all the same, and flagged later by the remediator. A Prometheus with the
// chart's alerts tells of both, and of nothing else: here, since this scenario has the lab to itself.
func TestWebhookDown(t *testing.T) {
	s := begin(t, v1alpha1.ModeRescue)
	alerts := s.alerts()
	s.must(s.lab.Rescue.KillWebhook())
	web := s.workload("web", "node-c", false, patience)
	versions := s.versionsOfPods()
	s.must(s.lab.Nodes["node-c"].Freeze())
	s.notReady("node-c")
	s.told(v1alpha1.ReasonVolumeHeld, "Pod", "web")
	s.flaggedLater(versions, v1alpha1.HeldVolume{Claim: s.namespace + "/web", Volume: web.Volume, Node: "node-c"})
	s.runsElsewhere(web, "node-c")
	s.wrote(web, "node-c")
	s.eventually(soon, "the pod's flag is gone again", func() (bool, error) {
		for _, pod := range s.pods(web) {
			if _, flagged := pod.Labels[v1alpha1.LabelHeld]; flagged {
				return false, nil
			}
		}
		return true, nil
	})
	alerts.fires("RBDRescueWebhookDown", "")
	s.must(s.lab.Rescue.StartWebhook(s.ctx))
	s.must(s.lab.Nodes["node-c"].Thaw())
	s.refused(web, "node-c")
	alerts.fires("RBDRescueNodeStillFenced", "node-c")
	s.must(s.lab.Nodes["node-c"].Reboot(s.ctx))
	s.reaches("node-c", v1alpha1.PhaseLifted)
	alerts.bothAreUp()
	alerts.allEnd()
	alerts.haveFired("RBDRescueWebhookDown", "RBDRescueNodeStillFenced")
	s.proveData(web)
}

// The node is rebooted: the fence is lifted, and the node can map images again.
func TestReboot(t *testing.T) {
	s := beginOnNode(t, v1alpha1.ModeRescue)
	db := s.workload("db", s.node, true, patience)
	planned := s.plan(s.node)
	s.must(s.lab.Nodes[s.node].Kill())
	s.notReady(s.node)
	s.runsElsewhere(db, s.node)
	s.reaches(s.node, v1alpha1.PhaseRecovered)
	s.asPlanned(planned)
	s.must(s.lab.Nodes[s.node].Reboot(s.ctx))
	nf := s.reaches(s.node, v1alpha1.PhaseLifted)
	if none, err := s.noClientListed(nf); err != nil || !none {
		t.Errorf("entries are left after the lift (%v)", err)
	}
	s.told(v1alpha1.ReasonFenceLifted, "Node", s.node)
	s.eventually(soon, "the taint is gone", func() (bool, error) {
		node, err := s.lab.Node(s.ctx, s.node)
		return err == nil && !hasTaint(node, v1alpha1.TaintFenced), err
	})
	again := s.workload("again", s.node, false, patience)
	s.wrote(again, "")
	s.proveData(db, again)
	s.deleteAndRestore(db, nf)
}

// A namespace that did not opt in stays as Kubernetes leaves it.
func TestNotOptedIn(t *testing.T) {
	s := beginOnNode(t, v1alpha1.ModeOff)
	db := s.workload("db", s.node, true, patience)
	planned := s.plan(s.node)
	s.must(s.lab.Nodes[s.node].Kill())
	s.notReady(s.node)
	s.eventually(soon, "its pod is Terminating", func() (bool, error) {
		pods := s.pods(db)
		return len(pods) == 1 && volume.Terminating(&pods[0]), nil
	})
	uid := s.pods(db)[0].UID
	s.never(10*time.Second, "fenced or deleted", func() (bool, error) {
		nf, err := s.fence(s.node)
		pods := s.pods(db)
		_, flagged := pods[0].Labels[v1alpha1.LabelHeld]
		return nf != nil || len(pods) != 1 || pods[0].UID != uid || flagged, err
	})
	s.asPlanned(planned)
	s.neverRefused(db)
	s.proveData(db)
}

// A pod's owner claims that a healthy node holds its volumes: nothing is fenced.
func TestForgedAnnotation(t *testing.T) {
	s := beginOnNode(t, v1alpha1.ModeRescue)
	db := s.workload("db", s.node, true, patience)
	pod := s.pods(db)[0]
	forged := pod.DeepCopy()
	forged.Labels[v1alpha1.LabelHeld] = "true"
	forged.Annotations = map[string]string{
		v1alpha1.AnnotationHeldVolumes: `[{"claim":"` + s.namespace + `/db","volume":"` + db.Volume + `","node":"` + s.node + `"}]`,
	}
	s.must(s.lab.Client.Update(s.ctx, forged))
	s.never(8*time.Second, "fenced", func() (bool, error) {
		nf, err := s.fence(s.node)
		return nf != nil, err
	})
	if node, err := db.RunsOn(s.ctx); err != nil || node != s.node {
		t.Errorf("runs on %q (%v)", node, err)
	}
	s.neverRefused(db)
	s.proveData(db)
}

// Ceph's monitor is down during the failure: nothing is released until it is back.
func TestMonitorDownDuringTheFailure(t *testing.T) {
	s := beginApart(t, "apart-a", v1alpha1.ModeRescue)
	db := s.workload("db", s.node, true, patience)
	s.must(s.ceph.StopMon(s.ctx))
	s.must(s.lab.Nodes[s.node].Kill())
	s.notReady(s.node)
	s.told(v1alpha1.ReasonCephUnreachable, "Node", s.node)
	s.told(v1alpha1.ReasonCephUnreachable, "NodeFence", s.node)
	nf, err := s.fence(s.node)
	s.must(err)
	if c := meta.FindStatusCondition(nf.Status.Conditions, v1alpha1.ConditionFenced); c == nil || c.Reason != v1alpha1.ReasonCephUnreachable {
		t.Errorf("the NodeFence does not say why nothing is released: %+v", nf.Status)
	}
	pods := s.pods(db)
	if len(pods) != 1 || !volume.Terminating(&pods[0]) {
		t.Errorf("released without a fence: %v", pods)
	}
	s.must(s.ceph.StartMon(s.ctx))
	s.runsElsewhere(db, s.node)
	s.wrote(db, s.node)
	s.reaches(s.node, v1alpha1.PhaseRecovered)
	s.proveData(db)
}

// A node that is Ready again before the fence starts: nothing happens.
func TestNodeBackBeforeTheFence(t *testing.T) {
	s := beginOnNode(t, v1alpha1.ModeRescue)
	db := s.workload("db", s.node, true, 5*time.Minute) // it is back long before
	s.must(s.lab.Network.Cut(s.ctx, s.node, network.API))
	s.notReady(s.node)
	s.must(s.lab.Network.Restore(s.ctx, s.node))
	s.eventually(soon, s.node+" is Ready again", func() (bool, error) {
		node, err := s.lab.Node(s.ctx, s.node)
		return err == nil && volume.Ready(node), err
	})
	if nf, err := s.fence(s.node); err != nil || nf != nil {
		t.Errorf("fenced without demand: %v (%v)", nf, err)
	}
	if node, err := db.RunsOn(s.ctx); err != nil || node != s.node {
		t.Errorf("runs on %q (%v)", node, err)
	}
	s.neverRefused(db)
	s.proveData(db)
}

// Demand is there, but Ceph is not, and the node comes back meanwhile: nothing was done, and that is told.
func TestNodeBackWhileCephIsUnreachable(t *testing.T) {
	s := beginApart(t, "apart-b", v1alpha1.ModeRescue)
	db := s.workload("db", s.node, true, patience)
	s.must(s.ceph.StopMon(s.ctx))
	s.must(s.lab.Network.Cut(s.ctx, s.node, network.API))
	s.notReady(s.node)
	s.told(v1alpha1.ReasonCephUnreachable, "Node", s.node)
	s.must(s.lab.Network.Restore(s.ctx, s.node))
	s.reaches(s.node, v1alpha1.PhaseCancelled)
	s.told(v1alpha1.ReasonFenceCancelled, "Node", s.node)
	s.must(s.ceph.StartMon(s.ctx))
	if listed, err := s.ceph.Blocklist(s.ctx); err != nil || len(listed) > 0 {
		t.Errorf("something is cut off: %v (%v)", listed, err)
	}
	s.proveData(db)
}

func hasTaint(node *corev1.Node, key string) bool {
	for _, taint := range node.Spec.Taints {
		if taint.Key == key {
			return true
		}
	}
	return false
}
