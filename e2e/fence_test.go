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
	s := beginOn(t, "node-a", v1alpha1.ModeRescue)
	s.workload("located", "spare-a", false, patience)
	web := s.anotherNamespace("web", v1alpha1.ModeOff)
	neighbour := s.workloadOf(lab.WorkloadOptions{Namespace: web, Name: "files", On: "node-a", StatefulSet: true, Patience: 5 * time.Minute})
	db := s.workload("db", "node-a", true, 45*time.Second)
	s.freezeUnrecorded("node-a", db)
	s.runsElsewhere(db, "node-a")
	nf := s.reaches("node-a", v1alpha1.PhaseRecovered)
	if len(nf.Status.Clients) != 1 || nf.Status.Clients[0].Scope != v1alpha1.ScopeHost {
		t.Errorf("fenced %+v", nf.Status.Clients)
	}
	if len(nf.Status.Neighbours) != 1 || nf.Status.Neighbours[0].Claim != web+"/files" {
		t.Errorf("neighbours are %+v", nf.Status.Neighbours)
	}
	s.told(v1alpha1.ReasonNeighboursCutOff, "Node", "node-a")
	s.wrote(db, "node-a")
	s.must(s.lab.Nodes["node-a"].Thaw())
	s.refused(db, "node-a")
	s.refused(neighbour, "node-a")
	if pods := s.pods(neighbour); len(pods) != 1 || pods[0].Spec.NodeName != "node-a" {
		t.Errorf("the neighbour's pods are %v", pods)
	}
	s.proveData(db, neighbour)
}

// Two images share a client, and one of the two namespaces opted in: the fence cuts off both, which is told, and moves one.
func TestNeighbourOfTheSameClient(t *testing.T) {
	s := beginOn(t, "node-b", v1alpha1.ModeRescue)
	other := s.anotherNamespace("other", v1alpha1.ModeOff)
	neighbour := s.workloadOf(lab.WorkloadOptions{Namespace: other, Name: "files", On: "node-b", StatefulSet: true, Patience: patience})
	db := s.workload("db", "node-b", true, patience)
	shared, err := db.Recorded(s.ctx, "node-b")
	s.must(err)
	if recorded, err := neighbour.Recorded(s.ctx, "node-b"); err != nil || !slices.Equal(recorded, shared) {
		t.Fatalf("not one client: %v and %v (%v)", recorded, shared, err)
	}
	s.must(s.lab.Nodes["node-b"].KillKubelet()) // its writers go on
	s.movesAway("node-b", db)
	nf := s.reaches("node-b", v1alpha1.PhaseRecovered)
	if len(nf.Status.Clients) != 1 || nf.Status.Clients[0].Scope != v1alpha1.ScopeClient {
		t.Errorf("fenced %+v", nf.Status.Clients)
	}
	if len(nf.Status.Neighbours) != 1 || nf.Status.Neighbours[0].Claim != other+"/files" {
		t.Errorf("neighbours are %+v", nf.Status.Neighbours)
	}
	s.told(v1alpha1.ReasonNeighboursCutOff, "Node", "node-b")
	s.refused(db, "node-b")
	s.refused(neighbour, "node-b")
	if pods := s.pods(neighbour); len(pods) != 1 || pods[0].Spec.NodeName != "node-b" {
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
	s.eventually(45*time.Second, "rbd status shows no watcher", func() (bool, error) {
		watchers, err := s.lab.Ceph.Watchers(s.ctx, lab.Pool, w.Image)
		return len(watchers) == 0, err
	})
	return recorded[0]
}

// The whole host would have to be fenced, and a Ceph daemon lives on it: refused, until the daemon has moved away.
func TestCephDaemonOnTheNodeIsNotFenced(t *testing.T) {
	s := beginOn(t, "node-c", v1alpha1.ModeRescue)
	s.workload("located", "spare-a", false, patience)
	db := s.workload("db", "node-c", true, 45*time.Second)
	host := s.lab.Nodes["node-c"].Host()
	manager, err := s.lab.Ceph.StartManagerIn(s.ctx, host.NetNS, host.IP)
	s.must(err)
	t.Cleanup(func() { _ = manager.Kill() })
	s.freezeUnrecorded("node-c", db)
	nf := s.reaches("node-c", v1alpha1.PhaseRefused)
	if v := nf.Status.Volumes[0]; v.Reason != v1alpha1.ReasonCephDaemonHost {
		t.Errorf("refused because of %s: %s", v.Reason, v.Message)
	}
	s.told(v1alpha1.ReasonVolumeRefused, "PersistentVolumeClaim", "db")
	if pods := s.pods(db); len(pods) != 1 || pods[0].Spec.NodeName != "node-c" {
		t.Errorf("released without a fence: %v", pods)
	}
	listed, err := s.lab.Ceph.Blocklist(s.ctx)
	if err != nil || slices.ContainsFunc(listed, func(entry string) bool { return strings.HasPrefix(entry, host.IP.String()+":") }) {
		t.Errorf("something is cut off: %v (%v)", listed, err)
	}
	s.must(manager.Stop(s.ctx))
	s.runsElsewhere(db, "node-c")
	s.wrote(db, "node-c")
	s.must(s.lab.Nodes["node-c"].Thaw())
	s.refused(db, "node-c")
	s.proveData(db)
}

func clientPatch(text string) client.Patch {
	return client.RawPatch(types.MergePatchType, []byte(text))
}

// The whole host would have to be fenced, and ceph-csi saw another node at its address: refused, until a person names the
// client.
func TestSharedAddressIsRefusedUntilAPersonDecides(t *testing.T) {
	s := beginOn(t, "node-b", v1alpha1.ModeRescue)
	s.workload("located", "spare-a", false, patience)
	db := s.workload("db", "node-b", true, 45*time.Second)
	node, err := s.lab.Node(s.ctx, "node-b")
	s.must(err)
	_, err = s.lab.Ceph.RBD(s.ctx, "image-meta", "set", lab.Pool+"/"+db.Image,
		".rbd.csi.ceph.com/clientaddress/0001-x/node-d", volume.Addresses(node)[0].String())
	s.must(err)
	address := s.freezeUnrecorded("node-b", db)
	nf := s.reaches("node-b", v1alpha1.PhaseRefused)
	if v := nf.Status.Volumes[0]; v.Reason != v1alpha1.ReasonSharedAddress {
		t.Errorf("refused because of %s: %s", v.Reason, v.Message)
	}
	s.told(v1alpha1.ReasonFenceRefused, "Node", "node-b")
	s.told(v1alpha1.ReasonVolumeRefused, "PersistentVolumeClaim", "db")
	pods := s.pods(db)
	if len(pods) != 1 || !volume.Terminating(&pods[0]) {
		t.Errorf("released without a fence: %v", pods)
	}
	byHand := &v1alpha1.NodeFence{
		ObjectMeta: metav1.ObjectMeta{GenerateName: "by-hand-"},
		Spec:       v1alpha1.NodeFenceSpec{NodeName: "node-b", Clients: []string{address}},
	}
	if err := s.lab.Client.Create(s.ctx, byHand); !apierrors.IsInvalid(err) {
		t.Errorf("clients without their boot are taken: %v", err)
	}
	byHand.Spec.BootID = volume.BootID(node)
	s.must(s.lab.Client.Create(s.ctx, byHand))
	s.runsElsewhere(db, "node-b")
	s.wrote(db, "node-b")
	s.must(s.lab.Nodes["node-b"].Thaw())
	s.refused(db, "node-b")
	s.proveData(db)
}

// The image is unmapped and mapped again in one boot: the new client is on record when the node fails.
func TestRemapWithinOneBoot(t *testing.T) {
	s := beginOn(t, "node-c", v1alpha1.ModeRescue)
	db := s.workload("db", "node-c", true, patience)
	before, err := db.Recorded(s.ctx, "node-c")
	s.must(err)
	old := s.pods(db)[0]
	s.must(s.lab.Client.Delete(s.ctx, &old))
	s.eventually(60*time.Second, "its next pod runs there through another client, which is on record", func() (bool, error) {
		node, err := db.RunsOn(s.ctx)
		if err != nil || node != "node-c" || s.pods(db)[0].UID == old.UID {
			return false, err
		}
		clients, err := db.Recorded(s.ctx, "node-c")
		return slices.ContainsFunc(clients, func(c string) bool { return !slices.Contains(before, c) }), err
	})
	s.must(s.lab.Nodes["node-c"].KillKubelet())
	s.movesAway("node-c", db)
	s.refused(db, "node-c")
	s.proveData(db)
}

// Entries are removed and shortened behind rbd-rescue's back: they are written again.
func TestEntriesAreRestored(t *testing.T) {
	s := beginOn(t, "node-d", v1alpha1.ModeRescue)
	db := s.workload("db", "node-d", true, patience)
	s.must(s.lab.Nodes["node-d"].Kill())
	s.movesAway("node-d", db)
	nf := s.reaches("node-d", v1alpha1.PhaseRecovered)
	address := nf.Status.Clients[0].Address
	for what, command := range map[string][]string{
		"removed":   {"osd", "blocklist", "rm", address},
		"shortened": {"osd", "blocklist", "add", address, "90"},
	} {
		_, err := s.lab.Ceph.Ceph(s.ctx, command...)
		s.must(err)
		s.eventually(80*time.Second, "the entry that was "+what+" is there for a long time again", func() (bool, error) {
			until, err := s.lab.Ceph.BlockedUntil(s.ctx, address)
			return until.After(time.Now().Add(300 * 24 * time.Hour)), err
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
	s.eventually(20*time.Second, "its entry in volumesInUse is gone", func() (bool, error) { return !inUse(), nil })
	text, err := json.Marshal(map[string]any{"status": map[string]any{"volumesInUse": before.Status.VolumesInUse}})
	s.must(err)
	s.must(s.lab.Client.Status().Patch(s.ctx, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "node-a"}}, clientPatch(string(text))))
	s.eventually(20*time.Second, "it is gone again", func() (bool, error) { return !inUse(), nil })
	s.must(s.lab.Kube.StartAttacher(s.ctx))
	s.runsElsewhere(db, "node-a")
	s.wrote(db, "node-a")
	s.proveData(db)
}

// The Node object is deleted: the records tell which boot of which machine it was. The next pod of a ReadWriteMany volume is
// gated all the same.
func TestNodeObjectDeleted(t *testing.T) {
	s := beginOn(t, "node-b", v1alpha1.ModeRescue)
	s.workload("located", "spare-a", false, patience)
	db := s.workload("db", "node-b", true, 5*time.Minute)
	vm := s.workloadOf(lab.WorkloadOptions{Namespace: s.namespace, Name: "vm", On: "node-b", Patience: 5 * time.Minute, ReadWriteMany: true})
	s.must(s.lab.Nodes["node-b"].Freeze())
	s.notReady("node-b")
	s.must(s.lab.Client.Delete(s.ctx, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "node-b"}}))
	s.eventually(150*time.Second, "db runs elsewhere", func() (bool, error) { // podgc waits for 40 to 60 s
		node, err := db.RunsOn(s.ctx)
		return node != "" && node != "node-b", err
	})
	s.wrote(db, "node-b")
	s.runsElsewhere(vm, "node-b")
	s.told(v1alpha1.ReasonGateOpened, "Pod", vm.Name)
	s.wrote(vm, "node-b")
	s.must(s.lab.Nodes["node-b"].Thaw())
	s.refused(db, "node-b")
	s.refused(vm, "node-b")
	s.must(s.lab.Nodes["node-b"].Reboot(s.ctx))
	s.reaches("node-b", v1alpha1.PhaseLifted)
	s.proveData(db, vm)
}

// Three quarters of the nodes are gone at once, and back: nothing is fenced.
func TestBreakerOpensAndCloses(t *testing.T) {
	s := begin(t, v1alpha1.ModeRescue)
	db := s.workload("db", "node-a", true, 5*time.Minute)
	s.must(s.lab.Rescue.Configure(s.ctx, map[string]any{"maxFailedNodes": "50%"}))
	lost := slices.Concat(nodes, spares[:len(spares)/2])
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
	s.eventually(60*time.Second, "db runs again", func() (bool, error) {
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
	s := beginOn(t, "node-d", v1alpha1.ModeRescue)
	db := s.workload("db", "node-d", true, patience)
	s.must(s.lab.Client.Create(s.ctx, &v1alpha1.NodeFence{
		ObjectMeta: metav1.ObjectMeta{GenerateName: "by-hand-"}, Spec: v1alpha1.NodeFenceSpec{NodeName: "node-d", Reason: "smoke in the rack"},
	}))
	s.runsElsewhere(db, "node-d")
	s.wrote(db, "node-d")
	s.told(v1alpha1.ReasonPodDeleted, "Pod", "db-0")
	nf := s.reaches("node-d", v1alpha1.PhaseRecovered)
	if nf.Spec.BootID != s.lab.Nodes["node-d"].BootID() {
		t.Errorf("fenced boot %q", nf.Spec.BootID)
	}
	s.must(s.lab.Nodes["node-d"].Reboot(s.ctx))
	s.reaches("node-d", v1alpha1.PhaseLifted)
	s.proveData(db)
}

// A person says that the boot is over: the fence is lifted, that is on record, and the same failure is not fenced again.
func TestPersonLifts(t *testing.T) {
	s := beginOn(t, "node-a", v1alpha1.ModeRescue)
	db := s.workload("db", "node-a", true, patience)
	s.must(s.lab.Nodes["node-a"].Kill())
	s.movesAway("node-a", db)
	nf := s.reaches("node-a", v1alpha1.PhaseRecovered)
	s.must(s.lab.Client.Patch(s.ctx, nf.DeepCopy(), clientPatch(`{"metadata":{"annotations":{"`+v1alpha1.AnnotationLift+`":"`+nf.Spec.BootID+`"}}}`)))
	lifted := s.reaches("node-a", v1alpha1.PhaseLifted)
	s.told(v1alpha1.ReasonFenceOverridden, "Node", "node-a")
	if none, err := s.noClientListed(lifted); err != nil || !none {
		t.Errorf("entries are left after the lift (%v)", err)
	}
	s.proveData(db)
}

// The kubelet answers, but says that it is not ready and ends no pod: once a pod is stuck, the node has failed.
func TestKubeletNotReadyAndPodStuck(t *testing.T) {
	s := beginOn(t, "node-c", v1alpha1.ModeRescue)
	db := s.workload("db", "node-c", true, patience)
	s.must(s.lab.Nodes["node-c"].KillRuntime())
	s.eventually(90*time.Second, "node-c says that it is not ready", func() (bool, error) {
		node, err := s.lab.Node(s.ctx, "node-c")
		if err != nil {
			return false, err
		}
		_, notReady := volume.NotReady(node)
		return notReady, nil
	})
	s.runsElsewhere(db, "node-c")
	s.wrote(db, "node-c")
	s.refused(db, "node-c")
	s.proveData(db)
}

// The image has an exclusive lock, which outlives its owner's watch.
func TestExclusiveLock(t *testing.T) {
	s := beginOn(t, "node-d", v1alpha1.ModeRescue)
	db := s.workloadOf(lab.WorkloadOptions{
		Namespace: s.namespace, Name: "db", On: "node-d", StatefulSet: true, Patience: patience, Features: []string{"layering", "exclusive-lock"},
	})
	s.must(s.lab.Nodes["node-d"].Freeze())
	s.movesAway("node-d", db)
	s.must(s.lab.Nodes["node-d"].Thaw())
	s.refused(db, "node-d")
	s.proveData(db)
}
