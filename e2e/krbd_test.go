package e2e

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	eventsv1 "k8s.io/api/events/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rbd-rescue/rbd-rescue/api/v1alpha1"
	"github.com/rbd-rescue/rbd-rescue/e2e/lab"
	"github.com/rbd-rescue/rbd-rescue/e2e/lab/network"
	"github.com/rbd-rescue/rbd-rescue/e2e/lab/skip"
	"github.com/rbd-rescue/rbd-rescue/e2e/workload"
	"github.com/rbd-rescue/rbd-rescue/volume"
)

// kernelNode has a real kernel's RBD client in a microVM; the nodes that its applications move to open images by librbd.
const kernelNode = "node-k"

// The client that users have in production. The node is there for these scenarios alone, which follow each other on it, beside
// those on other nodes.
func TestKernelClient(t *testing.T) {
	only(t, beside)
	if reason := shared.NoKernelNodes(); reason != "" {
		skip.Loudly(t, "THE KERNEL'S RBD CLIENT IS NOT TESTED: %s", reason)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	if err := shared.AddKernelNode(ctx, kernelNode); err != nil { // not beside others: they read the list of nodes
		t.Fatal(err)
	}
	t.Parallel()
	t.Run("FreezeAndThaw", kernelFreezesAndThaws)
	t.Run("ReturnWithoutReboot", kernelReturnsWithoutReboot)
	t.Run("NeighbourImage", kernelSharesItsClient)
}

// The host is frozen until its watch is gone. What the kernel had still to write when it thaws is refused.
func kernelFreezesAndThaws(t *testing.T) {
	s := beginWith(t, v1alpha1.ModeRescue, kernelNode)
	db := s.writesByKernel(s.namespace, "db", outlivesWatch)
	address := s.kernelClient(db)
	s.must(s.lab.Nodes[kernelNode].Freeze())
	s.notReady(kernelNode)
	s.eventually(soon, "rbd status shows no watcher", func() (bool, error) {
		watchers, err := s.lab.Ceph.Watchers(s.ctx, lab.Pool, db.Image)
		return len(watchers) == 0, err
	})
	if nf, err := s.fence(kernelNode); err != nil || nf != nil {
		t.Fatalf("fenced before Kubernetes wanted anything moved: %v, %v", nf, err)
	}
	s.runsElsewhere(db, kernelNode)
	s.wrote(db, kernelNode)
	s.fencedAlone(address)
	s.must(s.lab.Nodes[kernelNode].Thaw())
	s.shutDown(db)
	s.told(v1alpha1.ReasonNodeStillFenced, "Node", kernelNode)
	s.proveData(db)
}

// The host loses all links and comes back with the same boot. Its kubelet lets go what was moved away, but for a mapping that the CSI plugin
// leaves: the agent clears that. The neighbour's stays, since its pod is still wanted there, and with it the kernel maps nothing
// (facts/krbd.md). Once that pod is deleted the node itself proves that nothing is left, and needs no reboot.
func kernelReturnsWithoutReboot(t *testing.T) {
	s := beginWith(t, v1alpha1.ModeRescue, kernelNode)
	web := s.anotherNamespace("web", v1alpha1.ModeOff)
	files := s.writesByKernel(web, "files", 5*time.Minute)
	db := s.writesByKernel(s.namespace, "db", patience)
	boot := s.lab.Nodes[kernelNode].BootID()
	s.must(s.lab.StartAgent(s.ctx, kernelNode))
	s.must(s.lab.LeaveMapped(kernelNode, true))
	s.must(s.lab.Network.Cut(s.ctx, kernelNode, network.All))
	s.movesAway(kernelNode, db)
	s.must(s.lab.Network.Restore(s.ctx, kernelNode))
	s.eventually(soon, kernelNode+" is Ready again", func() (bool, error) {
		node, err := s.lab.Node(s.ctx, kernelNode)
		return err == nil && volume.Ready(node), err
	})
	s.told(v1alpha1.ReasonNodeStillFenced, "Node", kernelNode)
	s.shutDown(files)
	again, err := s.lab.MakeWorkload(s.ctx, lab.WorkloadOptions{
		Namespace: web, Name: "again", StatefulSet: true, On: kernelNode, Patience: patience, IgnoresFence: true,
	})
	s.must(err)
	s.toldThat("FailedMount", "rbd: map failed: (108)", "Pod", web, again.Name)
	s.left(kernelNode, files.Image)
	node, err := s.lab.Node(s.ctx, kernelNode)
	s.must(err)
	if !hasTaint(node, v1alpha1.TaintFenced) {
		t.Error("the taint is gone although a mapping of the fenced client is left")
	}
	nf := s.reaches(kernelNode, v1alpha1.PhaseRecovered)
	if none, err := s.noClientListed(nf); err != nil || none {
		t.Errorf("the entries are gone although a mapping of the fenced client is left (%v)", err)
	}

	s.must(s.lab.LeaveMapped(kernelNode, false))
	s.must(s.lab.Client.Delete(s.ctx, &s.pods(files)[0]))
	nf = s.reaches(kernelNode, v1alpha1.PhaseLifted)
	if none, err := s.noClientListed(nf); err != nil || !none || nf.Status.Times.ClearedAt == nil {
		t.Errorf("entries are left after the lift (%v), which was by the node's proof at %v", err, nf.Status.Times.ClearedAt)
	}
	if now := s.lab.Nodes[kernelNode].BootID(); now != boot {
		t.Errorf("the node was rebooted: %s, then %s", boot, now)
	}
	s.eventually(90*time.Second, "again runs on "+kernelNode+", through a new client", func() (bool, error) {
		on, err := again.RunsOn(s.ctx)
		return on == kernelNode, err
	})
	s.wrote(again, "")
	s.proveData(db, files, again)
}

// left waits until the node says that this image alone is left of what is fenced.
func (s *scenario) left(node, image string) {
	s.Helper()
	s.eventually(90*time.Second, node+" has only "+image+" left", func() (bool, error) {
		nf, err := s.fence(node)
		if err != nil || nf == nil {
			return false, err
		}
		cleared, err := v1alpha1.ParseCleared(nf.Annotations[v1alpha1.AnnotationCleared])
		return len(cleared.Left) == 1 && cleared.Left[0].Image == lab.Pool+"/"+image && strings.Contains(nf.Status.Message, image), err
	})
}

// Two images of one host have one client: the fence for the one cuts off the other, whose namespace did not opt in.
func kernelSharesItsClient(t *testing.T) {
	s := beginWith(t, v1alpha1.ModeRescue, kernelNode)
	web := s.anotherNamespace("web", v1alpha1.ModeOff)
	files := s.writesByKernel(web, "files", 5*time.Minute)
	db := s.writesByKernel(s.namespace, "db", patience)
	address := s.kernelClient(db)
	if other := s.kernelClient(files); other != address {
		t.Fatalf("the images have two clients: %s and %s", address, other)
	}
	before := s.pods(files)[0].UID
	s.must(s.lab.Nodes[kernelNode].KillKubelet()) // the applications go on
	s.movesAway(kernelNode, db)
	nf := s.fencedAlone(address)
	if n := nf.Status.Neighbours; len(n) != 1 || n[0].Claim != web+"/"+files.Name {
		t.Errorf("neighbours are %+v", n)
	}
	s.told(v1alpha1.ReasonNeighboursCutOff, "Node", kernelNode)
	s.shutDown(db)
	s.shutDown(files)
	if pods := s.pods(files); len(pods) != 1 || pods[0].UID != before || volume.Terminating(&pods[0]) {
		t.Errorf("the neighbour's pods are %v", pods)
	}
	s.proveData(db, files)
}

// writesByKernel makes an application, and waits until the kernel writes for it: a writer reads its whole image first.
func (s *scenario) writesByKernel(namespace, name string, wait time.Duration) *lab.Workload {
	s.Helper()
	w := s.workloadOf(lab.WorkloadOptions{Namespace: namespace, Name: name, StatefulSet: true, On: kernelNode, Patience: wait})
	s.wrote(w, "")
	return w
}

// kernelClient is the one watcher of an application's image. It lies on the node's own address, VM or not.
func (s *scenario) kernelClient(w *lab.Workload) string {
	s.Helper()
	watchers, err := s.lab.Ceph.Watchers(s.ctx, lab.Pool, w.Image)
	s.must(err)
	if own := s.lab.Nodes[kernelNode].Host().IP.String() + ":0/"; len(watchers) != 1 || !strings.HasPrefix(watchers[0], own) {
		s.Fatalf("the watchers of %s are %v, not one at %s", w.Image, watchers, own)
	}
	return watchers[0]
}

// fencedAlone checks that the kernel's client is fenced, and nothing else of the host.
func (s *scenario) fencedAlone(address string) *v1alpha1.NodeFence {
	s.Helper()
	nf := s.reaches(kernelNode, v1alpha1.PhaseRecovered)
	if c := nf.Status.Clients; len(c) != 1 || c[0].Scope != v1alpha1.ScopeClient || c[0].Address != address {
		s.Errorf("fenced %+v, not %s alone", c, address)
	}
	return nf
}

// shutDown waits until the kernel was told that its client is on the blocklist.
func (s *scenario) shutDown(w *lab.Workload) {
	s.Helper()
	s.refused(w, kernelNode)
	report, err := w.Check(s.ctx)
	s.must(err)
	if !slices.ContainsFunc(report.Writers, func(w workload.WriterReport) bool {
		return w.Node == kernelNode && strings.Contains(w.Refused, "result -108")
	}) {
		s.Errorf("refused, but not with ESHUTDOWN:\n%s", report)
	}
}

// toldThat waits for an event with a reason and a text on an object.
func (s *scenario) toldThat(reason, text, kind, namespace, name string) {
	s.Helper()
	s.eventually(soon, "event "+reason+" says "+text, func() (bool, error) {
		var list eventsv1.EventList
		if err := s.lab.Client.List(s.ctx, &list, client.InNamespace(namespace)); err != nil {
			return false, err
		}
		return slices.ContainsFunc(list.Items, func(e eventsv1.Event) bool {
			return e.Reason == reason && strings.Contains(e.Note, text) && e.Regarding.Kind == kind && strings.HasPrefix(e.Regarding.Name, name)
		}), nil
	})
}
