package e2e

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rbd-rescue/rbd-rescue/api/v1alpha1"
	"github.com/rbd-rescue/rbd-rescue/e2e/lab"
	"github.com/rbd-rescue/rbd-rescue/e2e/lab/network"
	"github.com/rbd-rescue/rbd-rescue/volume"
)

// Nothing tells the client (as when rbd-rescue is installed after the failure), but the clients of other nodes lie on their
// nodes' addresses: the whole host is fenced, and what else that cuts off is told.
func TestNoRecordAtAll(t *testing.T) {
	s := beginOnNode(t, v1alpha1.ModeRescue)
	s.workload("located", "spare-a", false, patience)
	web := s.anotherNamespace("web", v1alpha1.ModeOff)
	neighbour := s.workloadOf(lab.WorkloadOptions{Namespace: web, Name: "files", On: s.node, StatefulSet: true, Patience: 5 * time.Minute})
	db := s.workload("db", s.node, true, outlivesWatch)
	s.freezeUnrecorded(s.node, db)
	s.runsElsewhere(db, s.node)
	nf := s.reaches(s.node, v1alpha1.PhaseRecovered)
	if len(nf.Status.Clients) != 1 || nf.Status.Clients[0].Scope != v1alpha1.ScopeHost {
		t.Errorf("fenced %+v", nf.Status.Clients)
	}
	if len(nf.Status.Neighbours) != 1 || nf.Status.Neighbours[0].Claim != web+"/files" {
		t.Errorf("neighbours are %+v", nf.Status.Neighbours)
	}
	s.told(v1alpha1.ReasonNeighboursCutOff, "Node", s.node)
	s.wrote(db, s.node)
	s.must(s.lab.Nodes[s.node].Thaw())
	s.refused(db, s.node)
	s.refused(neighbour, s.node)
	if pods := s.pods(neighbour); len(pods) != 1 || pods[0].Spec.NodeName != s.node {
		t.Errorf("the neighbour's pods are %v", pods)
	}
	s.proveData(db, neighbour)
}

// Two images share a client, and one of the two namespaces opted in: the fence cuts off both, which is told, and moves one.
func TestNeighbourOfTheSameClient(t *testing.T) {
	s := beginOnNode(t, v1alpha1.ModeRescue)
	other := s.anotherNamespace("other", v1alpha1.ModeOff)
	neighbour := s.workloadOf(lab.WorkloadOptions{Namespace: other, Name: "files", On: s.node, StatefulSet: true, Patience: patience})
	db := s.workload("db", s.node, true, patience)
	shared, err := db.Recorded(s.ctx, s.node)
	s.must(err)
	if recorded, err := neighbour.Recorded(s.ctx, s.node); err != nil || !slices.Equal(recorded, shared) {
		t.Fatalf("not one client: %v and %v (%v)", recorded, shared, err)
	}
	planned := s.plan(s.node)
	s.must(s.lab.Nodes[s.node].KillKubelet()) // its writers go on
	s.movesAway(s.node, db)
	nf := s.reaches(s.node, v1alpha1.PhaseRecovered)
	s.asPlanned(planned)
	if len(nf.Status.Clients) != 1 || nf.Status.Clients[0].Scope != v1alpha1.ScopeClient {
		t.Errorf("fenced %+v", nf.Status.Clients)
	}
	if len(nf.Status.Neighbours) != 1 || nf.Status.Neighbours[0].Claim != other+"/files" {
		t.Errorf("neighbours are %+v", nf.Status.Neighbours)
	}
	s.told(v1alpha1.ReasonNeighboursCutOff, "Node", s.node)
	s.refused(db, s.node)
	s.refused(neighbour, s.node)
	if pods := s.pods(neighbour); len(pods) != 1 || pods[0].Spec.NodeName != s.node {
		t.Errorf("the neighbour's pods are %v", pods)
	}
	s.proveData(db, neighbour)
}

// freezeUnrecorded freezes a node, takes its record away, and waits until the watch of its client is gone, too.
func (s *scenario) freezeUnrecorded(node string, w *lab.Workload) (client string) {
	s.Helper()
	recorded, err := w.Recorded(s.ctx, node)
	s.must(err)
	s.must(s.lab.Nodes[node].Freeze())
	s.notReady(node)
	s.must(s.lab.Client.Patch(s.ctx, &corev1.PersistentVolume{ObjectMeta: metav1.ObjectMeta{Name: w.Volume}},
		clientPatch(`{"metadata":{"annotations":{"`+v1alpha1.AnnotationClients+`":null}}}`)))
	s.eventually(soon, "rbd status shows no watcher", func() (bool, error) {
		watchers, err := s.lab.Ceph.Watchers(s.ctx, lab.Pool, w.Image)
		return len(watchers) == 0, err
	})
	return recorded[0]
}

// The whole host would have to be fenced, and a Ceph daemon lives on it: refused, until the daemon has moved away.
func TestCephDaemonOnTheNodeIsNotFenced(t *testing.T) {
	s := beginOnNode(t, v1alpha1.ModeRescue)
	s.workload("located", "spare-a", false, patience)
	db := s.workload("db", s.node, true, outlivesWatch)
	host := s.lab.Nodes[s.node].Host()
	manager, err := s.lab.Ceph.StartManagerIn(s.ctx, host.NetNS, host.IP)
	s.must(err)
	t.Cleanup(func() { _ = manager.Kill() })
	s.freezeUnrecorded(s.node, db)
	nf := s.reaches(s.node, v1alpha1.PhaseRefused)
	if v := nf.Status.Volumes[0]; v.Reason != v1alpha1.ReasonCephDaemonHost {
		t.Errorf("refused because of %s: %s", v.Reason, v.Message)
	}
	s.told(v1alpha1.ReasonVolumeRefused, "PersistentVolumeClaim", "db")
	if pods := s.pods(db); len(pods) != 1 || pods[0].Spec.NodeName != s.node {
		t.Errorf("released without a fence: %v", pods)
	}
	listed, err := s.lab.Ceph.Blocklist(s.ctx)
	if err != nil || slices.ContainsFunc(listed, func(entry string) bool { return strings.HasPrefix(entry, host.IP.String()+":") }) {
		t.Errorf("something is cut off: %v (%v)", listed, err)
	}
	s.must(manager.Stop(s.ctx))
	s.runsElsewhere(db, s.node)
	s.wrote(db, s.node)
	s.must(s.lab.Nodes[s.node].Thaw())
	s.refused(db, s.node)
	s.proveData(db)
}

func clientPatch(text string) client.Patch {
	return client.RawPatch(types.MergePatchType, []byte(text))
}

// The whole host would have to be fenced, and ceph-csi saw another node at its address: refused, until a person names the
// client.
func TestSharedAddressIsRefusedUntilAPersonDecides(t *testing.T) {
	s := beginOnNode(t, v1alpha1.ModeRescue)
	s.workload("located", "spare-a", false, patience)
	db := s.workload("db", s.node, true, outlivesWatch)
	node, err := s.lab.Node(s.ctx, s.node)
	s.must(err)
	_, err = s.lab.Ceph.RBD(s.ctx, "image-meta", "set", lab.Pool+"/"+db.Image,
		".rbd.csi.ceph.com/clientaddress/0001-x/"+spares[0], volume.Addresses(node)[0].String())
	s.must(err)
	address := s.freezeUnrecorded(s.node, db)
	nf := s.reaches(s.node, v1alpha1.PhaseRefused)
	if v := nf.Status.Volumes[0]; v.Reason != v1alpha1.ReasonSharedAddress {
		t.Errorf("refused because of %s: %s", v.Reason, v.Message)
	}
	s.told(v1alpha1.ReasonFenceRefused, "Node", s.node)
	s.told(v1alpha1.ReasonVolumeRefused, "PersistentVolumeClaim", "db")
	pods := s.pods(db)
	if len(pods) != 1 || !volume.Terminating(&pods[0]) {
		t.Errorf("released without a fence: %v", pods)
	}
	byHand := &v1alpha1.NodeFence{
		ObjectMeta: metav1.ObjectMeta{GenerateName: "by-hand-"},
		Spec:       v1alpha1.NodeFenceSpec{NodeName: s.node, Clients: []string{address}},
	}
	if err := s.lab.Client.Create(s.ctx, byHand); !apierrors.IsInvalid(err) {
		t.Errorf("clients without their boot are taken: %v", err)
	}
	byHand.Spec.BootID = volume.BootID(node)
	s.must(s.lab.Client.Create(s.ctx, byHand))
	s.runsElsewhere(db, s.node)
	s.wrote(db, s.node)
	s.must(s.lab.Nodes[s.node].Thaw())
	s.refused(db, s.node)
	s.proveData(db)
}

// The image is unmapped and mapped again in one boot: the new client is on record when the node fails.
func TestRemapWithinOneBoot(t *testing.T) {
	s := beginOnNode(t, v1alpha1.ModeRescue)
	db := s.workload("db", s.node, true, patience)
	before, err := db.Recorded(s.ctx, s.node)
	s.must(err)
	old := s.pods(db)[0]
	s.must(s.lab.Client.Delete(s.ctx, &old))
	s.eventually(soon, "its next pod runs there through another client, which is on record", func() (bool, error) {
		node, err := db.RunsOn(s.ctx)
		if err != nil || node != s.node || s.pods(db)[0].UID == old.UID {
			return false, err
		}
		clients, err := db.Recorded(s.ctx, s.node)
		return slices.ContainsFunc(clients, func(c string) bool { return !slices.Contains(before, c) }), err
	})
	s.must(s.lab.Nodes[s.node].KillKubelet())
	s.movesAway(s.node, db)
	s.refused(db, s.node)
	s.proveData(db)
}

// Entries are removed and shortened behind rbd-rescue's back: they are written again.
func TestEntriesAreRestored(t *testing.T) {
	s := beginOnNode(t, v1alpha1.ModeRescue)
	db := s.workload("db", s.node, true, patience)
	s.must(s.lab.Nodes[s.node].Kill())
	s.movesAway(s.node, db)
	nf := s.reaches(s.node, v1alpha1.PhaseRecovered)
	address := nf.Status.Clients[0].Address
	remove := []string{"osd", "blocklist", "rm", address}
	for what, commands := range map[string][][]string{
		"removed":   {remove},
		"shortened": {remove, {"osd", "blocklist", "add", address, "15"}}, // one that stands keeps its end
	} {
		for _, command := range commands {
			_, err := s.lab.Ceph.Ceph(s.ctx, command...)
			s.must(err)
		}
		s.eventually(atLast, "the entry that was "+what+" is there for a long time again", func() (bool, error) {
			until, err := s.lab.Ceph.BlockedUntil(s.ctx, address)
			return until.After(time.Now().Add(9 * 365 * 24 * time.Hour)), err
		})
	}
	s.told(v1alpha1.ReasonFenceRenewed, "NodeFence", nf.Name)
	s.proveData(db)
}

// csi-attacher is down during the release, and a kubelet that comes back writes its entry in again: the volume moves once
// the attacher is back.
func TestAttacherDownDuringTheRelease(t *testing.T) {
	s := begin(t, v1alpha1.ModeRescue)
	db := s.workload("db", "node-a", true, patience)
	before, err := s.lab.Node(s.ctx, "node-a")
	s.must(err)
	s.must(s.lab.Kube.StopAttacher(s.ctx))
	s.must(s.lab.Nodes["node-a"].Kill())
	s.notReady("node-a")
	s.reaches("node-a", v1alpha1.PhaseReleasing)
	inUse := func() bool {
		node, err := s.lab.Node(s.ctx, "node-a")
		s.must(err)
		return len(node.Status.VolumesInUse) > 0
	}
	s.eventually(soon, "its entry in volumesInUse is gone", func() (bool, error) { return !inUse(), nil })
	text, err := json.Marshal(map[string]any{"status": map[string]any{"volumesInUse": before.Status.VolumesInUse}})
	s.must(err)
	s.must(s.lab.Client.Status().Patch(s.ctx, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "node-a"}}, clientPatch(string(text))))
	s.eventually(soon, "it is gone again", func() (bool, error) { return !inUse(), nil })
	s.must(s.lab.Kube.StartAttacher(s.ctx))
	s.runsElsewhere(db, "node-a")
	s.wrote(db, "node-a")
	s.proveData(db)
}

// The Node object is deleted: the records tell which boot of which machine it was. The next pod of a ReadWriteMany volume is
// gated all the same.
func TestNodeObjectDeleted(t *testing.T) {
	s := beginOnNode(t, v1alpha1.ModeRescue)
	s.workload("located", "spare-a", false, patience)
	db := s.workload("db", s.node, true, 5*time.Minute)
	vm := s.workloadOf(lab.WorkloadOptions{Namespace: s.namespace, Name: "vm", On: s.node, Patience: 5 * time.Minute, ReadWriteMany: true})
	s.must(s.lab.Nodes[s.node].Freeze())
	s.notReady(s.node)
	s.must(s.lab.Client.Delete(s.ctx, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: s.node}}))
	s.eventually(atLast, "db runs elsewhere", func() (bool, error) { // podgc waits for 40 to 60 s
		node, err := db.RunsOn(s.ctx)
		return node != "" && node != s.node, err
	})
	s.wrote(db, s.node)
	s.runsElsewhere(vm, s.node)
	s.told(v1alpha1.ReasonGateOpened, "Pod", vm.Name)
	s.wrote(vm, s.node)
	s.must(s.lab.Nodes[s.node].Thaw())
	s.refused(db, s.node)
	s.refused(vm, s.node)
	s.must(s.lab.Nodes[s.node].Reboot(s.ctx))
	s.reaches(s.node, v1alpha1.PhaseLifted)
	s.proveData(db, vm)
}

// Three quarters of the nodes are gone at once, and back: nothing is fenced.
func TestBreakerOpensAndCloses(t *testing.T) {
	s := begin(t, v1alpha1.ModeRescue)
	db := s.workload("db", "node-a", true, 5*time.Minute)
	s.must(s.lab.Rescue.Configure(s.ctx, map[string]any{"maxFailedNodes": "50%"}))
	lost := slices.Concat(nodes, apart, spares[:len(spares)/2])
	for _, node := range lost {
		s.must(s.lab.Network.Cut(s.ctx, node, network.API))
	}
	for _, node := range lost {
		s.notReady(node)
	}
	s.must(s.lab.Client.Delete(s.ctx, &s.pods(db)[0])) // so that there is demand
	s.told(v1alpha1.ReasonBreakerOpen, "Node", "node-a")
	s.never(5*time.Second, "fenced", func() (bool, error) {
		nf, err := s.fence("node-a")
		return nf != nil, err
	})
	for _, node := range lost {
		s.must(s.lab.Network.Restore(s.ctx, node))
	}
	s.eventually(soon, "db runs again", func() (bool, error) {
		node, err := db.RunsOn(s.ctx)
		return node != "", err
	})
	if listed, err := s.lab.Ceph.Blocklist(s.ctx); err != nil || len(listed) > 0 {
		t.Errorf("something is cut off: %v (%v)", listed, err)
	}
	s.proveData(db)
}

// A person fences a healthy node: its pods are asked to go, and it stays fenced until it is rebooted.
func TestPersonFencesAHealthyNode(t *testing.T) {
	s := beginOnNode(t, v1alpha1.ModeRescue)
	db := s.workload("db", s.node, true, patience)
	if out, code := s.plugin("no\n", "fence", s.node, "--reason=smoke in the rack"); code != 1 || !strings.Contains(out, s.namespace+"/db") {
		t.Errorf("shown before it is confirmed, with code %d: %s", code, out)
	}
	if out, code := s.plugin(s.node+"\n", "fence", s.node, "--reason=smoke in the rack"); code != 0 {
		t.Fatalf("fence ended with code %d: %s", code, out)
	}
	s.runsElsewhere(db, s.node)
	s.wrote(db, s.node)
	s.told(v1alpha1.ReasonPodDeleted, "Pod", "db-0")
	nf := s.reaches(s.node, v1alpha1.PhaseRecovered)
	if nf.Spec.BootID != s.lab.Nodes[s.node].BootID() {
		t.Errorf("fenced boot %q", nf.Spec.BootID)
	}
	s.must(s.lab.Nodes[s.node].Reboot(s.ctx))
	s.reaches(s.node, v1alpha1.PhaseLifted)
	s.proveData(db)
}

// A person says that the boot is over: the fence is lifted, that is on record, and the same failure is not fenced again.
func TestPersonLifts(t *testing.T) {
	s := beginOnNode(t, v1alpha1.ModeRescue)
	db := s.workload("db", s.node, true, patience)
	s.must(s.lab.Nodes[s.node].Kill())
	s.movesAway(s.node, db)
	nf := s.reaches(s.node, v1alpha1.PhaseRecovered)
	if out, code := s.plugin(s.node+"\n", "lift", nf.Name, "--reason=its plug is pulled"); code != 0 {
		t.Fatalf("lift ended with code %d: %s", code, out)
	}
	lifted := s.reaches(s.node, v1alpha1.PhaseLifted)
	s.told(v1alpha1.ReasonFenceOverridden, "Node", s.node)
	if none, err := s.noClientListed(lifted); err != nil || !none {
		t.Errorf("entries are left after the lift (%v)", err)
	}
	s.proveData(db)
}

// The kubelet answers, but says that it is not ready and ends no pod: once a pod is stuck, the node has failed.
func TestKubeletNotReadyAndPodStuck(t *testing.T) {
	s := beginOnNode(t, v1alpha1.ModeRescue)
	db := s.workload("db", s.node, true, patience)
	s.must(s.lab.Nodes[s.node].KillRuntime())
	s.eventually(soon, s.node+" says that it is not ready", func() (bool, error) {
		node, err := s.lab.Node(s.ctx, s.node)
		if err != nil {
			return false, err
		}
		_, notReady := volume.NotReady(node)
		return notReady, nil
	})
	s.runsElsewhere(db, s.node)
	s.wrote(db, s.node)
	s.refused(db, s.node)
	s.proveData(db)
}

// The image has an exclusive lock, which outlives its owner's watch.
func TestExclusiveLock(t *testing.T) {
	s := beginOnNode(t, v1alpha1.ModeRescue)
	db := s.workloadOf(lab.WorkloadOptions{
		Namespace: s.namespace, Name: "db", On: s.node, StatefulSet: true, Patience: patience, Features: []string{"layering", "exclusive-lock"},
	})
	planned := s.plan(s.node)
	s.must(s.lab.Nodes[s.node].Freeze())
	s.movesAway(s.node, db)
	s.must(s.lab.Nodes[s.node].Thaw())
	s.refused(db, s.node)
	s.reaches(s.node, v1alpha1.PhaseRecovered)
	s.asPlanned(planned)
	s.proveData(db)
}
