package e2e

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rbd-rescue/rbd-rescue/api/v1alpha1"
	"github.com/rbd-rescue/rbd-rescue/e2e/lab"
	"github.com/rbd-rescue/rbd-rescue/e2e/lab/kube"
	"github.com/rbd-rescue/rbd-rescue/e2e/workload"
	"github.com/rbd-rescue/rbd-rescue/volume"
)

// patience of the workloads: how long after the NoExecute taint they are evicted.
const patience = 2 * time.Second

// A busy machine of two cores takes many times what is usual. Nobody waits for as long as this where nothing is wrong.
const (
	soon   = 90 * time.Second // for what usually takes a moment
	atLast = 4 * time.Minute  // for what Kubernetes, Ceph or TCP take their time to do
)

// outlivesWatch is the patience of a workload whose frozen node has to lose its watch, after about 30 s, before anything moves.
const outlivesWatch = 45 * time.Second

// scenario is one test's part of the lab.
type scenario struct {
	*testing.T
	ctx context.Context
	lab *lab.Lab
	// node that the scenario fails; empty if it has the whole lab.
	node string
	// ceph holds its volumes.
	ceph      *lab.Site
	namespace string
	began     time.Time
	// others are further namespaces of the scenario.
	others []string
}

// anotherNamespace makes one more, which ends with the scenario.
func (s *scenario) anotherNamespace(suffix string, mode v1alpha1.Mode) string {
	s.Helper()
	name := s.namespace + "-" + suffix
	s.must(s.lab.MakeNamespace(s.ctx, name, mode))
	s.others = append(s.others, name)
	return name
}

// broken names the scenario after which the lab, or one of its nodes, did not heal: those after it would each run into their
// deadlines. Keys are nodes; empty for the whole lab.
var broken sync.Map

// free are the nodes that no scenario fails. One that did not heal does not come back; it is closed when none is left.
var (
	free = func() chan string {
		free := make(chan string, len(nodes))
		for _, node := range nodes {
			free <- node
		}
		return free
	}()
	left = func() *atomic.Int32 {
		left := &atomic.Int32{}
		left.Store(int32(len(nodes)))
		return left
	}()
)

// apartInUse keeps scenarios from each other that take Ceph away.
var apartInUse sync.Mutex

// begin makes a namespace of its own for a scenario that has the lab to itself. At the end every part is brought back and every
// fence lifted, so that the next scenario starts on a healthy cluster.
func begin(t *testing.T, mode v1alpha1.Mode) *scenario {
	t.Helper()
	only(t, alone)
	return beginWith(t, mode, "")
}

// beginOnNode is for a scenario that fails one node and no other part of the lab: it runs beside those on other nodes.
func beginOnNode(t *testing.T, mode v1alpha1.Mode) *scenario {
	t.Helper()
	only(t, beside)
	t.Parallel()
	node, ok := <-free
	if !ok {
		t.Fatal("not tried: no node healed after the scenarios before")
	}
	t.Cleanup(func() {
		if _, is := broken.Load(node); !is {
			free <- node
		} else if left.Add(-1) == 0 {
			close(free)
		}
	})
	return beginWith(t, mode, node)
}

// beginApart is for a scenario that fails this node and the second Ceph cluster, which holds its volumes. That Ceph cannot be
// reached is told once an hour of a node: a scenario that waits for it needs a node of its own.
func beginApart(t *testing.T, node string, mode v1alpha1.Mode) *scenario {
	t.Helper()
	only(t, beside)
	t.Parallel()
	apartInUse.Lock()
	t.Cleanup(apartInUse.Unlock)
	s := beginWith(t, mode, node)
	s.ceph = s.lab.SecondCeph
	return s
}

func beginWith(t *testing.T, mode v1alpha1.Mode, node string) *scenario {
	t.Helper()
	for _, part := range []string{"", node} {
		if by, is := broken.Load(part); is {
			t.Fatalf("not tried: the lab did not heal after %s", by)
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), 15*time.Minute)
	s := &scenario{T: t, ctx: ctx, lab: shared, node: node, ceph: shared.Ceph, began: time.Now()}
	s.namespace = strings.ToLower(strings.ReplaceAll(strings.TrimPrefix(t.Name(), "Test"), "/", "-"))
	s.namespace = s.namespace[:min(len(s.namespace), 40)]
	t.Cleanup(func() {
		defer cancel()
		if t.Failed() {
			s.tellState()
		}
		s.heal()
	})
	s.must(s.lab.MakeNamespace(ctx, s.namespace, mode))
	return s
}

func (s *scenario) must(err error) {
	s.Helper()
	if err != nil {
		s.Fatalf("%v (logs are in %s)", err, s.lab.Supervisor.Logs())
	}
}

// eventually waits until a fact holds; what is the fact in words.
func (s *scenario) eventually(within time.Duration, what string, holds func() (bool, error)) {
	s.Helper()
	start := time.Now()
	var last error
	err := wait.PollUntilContextTimeout(s.ctx, 100*time.Millisecond, within, true, func(context.Context) (bool, error) {
		ok, err := holds()
		last = err
		return ok && err == nil, nil
	})
	if err != nil {
		s.Fatalf("not within %s: %s (last error: %v; logs are in %s)", within, what, last, s.lab.Supervisor.Logs())
	}
	s.Logf("%6.1f s  %s (took %.1f s)", time.Since(s.began).Seconds(), what, time.Since(start).Seconds())
}

// never fails if a fact comes to hold within a time.
func (s *scenario) never(within time.Duration, what string, holds func() (bool, error)) {
	s.Helper()
	err := wait.PollUntilContextTimeout(s.ctx, 200*time.Millisecond, within, true, func(context.Context) (bool, error) { return holds() })
	if !wait.Interrupted(err) {
		s.Fatalf("%s (error: %v; logs are in %s)", what, err, s.lab.Supervisor.Logs())
	}
	s.Logf("%6.1f s  for %s: not %s", time.Since(s.began).Seconds(), within, what)
}

// workload makes an application on a node, and waits until it runs and writes there and its client is on record.
func (s *scenario) workload(name, on string, statefulSet bool, wait time.Duration) *lab.Workload {
	s.Helper()
	return s.workloadOf(lab.WorkloadOptions{Namespace: s.namespace, Name: name, StatefulSet: statefulSet, On: on, Patience: wait})
}

func (s *scenario) workloadOf(options lab.WorkloadOptions) *lab.Workload {
	s.Helper()
	options.Ceph = cmp.Or(options.Ceph, s.ceph)
	w, err := s.lab.MakeWorkload(s.ctx, options)
	s.must(err)
	name, on := options.Name, options.On
	s.eventually(atLast, name+" runs on "+on+", its client is on record", func() (bool, error) {
		node, err := w.RunsOn(s.ctx)
		if err != nil || node != on {
			return false, err
		}
		clients, err := w.Recorded(s.ctx, on)
		return len(clients) > 0, err
	})
	s.writer(soon, w, name+" writes there", func(w workload.WriterReport) bool { return w.Node == on && w.Acknowledged > 0 })
	return w
}

func (s *scenario) notReady(node string) {
	s.Helper()
	s.eventually(soon, node+" is NotReady", func() (bool, error) {
		n, err := s.lab.Node(s.ctx, node)
		if err != nil {
			return false, err
		}
		_, failed := volume.Failed(n)
		return failed, nil
	})
}

// movesAway waits until Kubernetes sees the node fail, and its applications run and write elsewhere.
func (s *scenario) movesAway(node string, workloads ...*lab.Workload) {
	s.Helper()
	s.notReady(node)
	for _, w := range workloads {
		s.runsElsewhere(w, node)
	}
	for _, w := range workloads {
		s.wrote(w, node)
	}
}

func (s *scenario) runsElsewhere(w *lab.Workload, than string) {
	s.Helper()
	s.eventually(atLast, w.Name+" runs elsewhere", func() (bool, error) {
		node, err := w.RunsOn(s.ctx)
		return node != "" && node != than, err
	})
}

// wrote waits until a writer of the application on another node has acknowledged records.
func (s *scenario) wrote(w *lab.Workload, notOn string) {
	s.Helper()
	s.writer(soon, w, w.Name+" writes there", func(w workload.WriterReport) bool { return w.Node != notOn && w.Acknowledged > 0 })
}

// writer waits until one of the application's writers is so.
func (s *scenario) writer(within time.Duration, w *lab.Workload, what string, is func(workload.WriterReport) bool) {
	s.Helper()
	s.eventually(within, what, func() (bool, error) {
		report, err := w.Check(s.ctx)
		return err == nil && slices.ContainsFunc(report.Writers, is), err
	})
}

// refused waits until Ceph has refused a write of the application's writer on the fenced node. Where its links were cut, TCP
// sends again only after as long as they were, and up to two minutes.
func (s *scenario) refused(w *lab.Workload, on string) {
	s.Helper()
	s.writer(atLast, w, "Ceph refuses the writes of "+on, func(w workload.WriterReport) bool { return w.Node == on && w.Refused != "" })
}

// neverRefused fails the scenario if Ceph has refused a write of the application.
func (s *scenario) neverRefused(w *lab.Workload) {
	s.Helper()
	report, err := w.Check(s.ctx)
	s.must(err)
	if slices.ContainsFunc(report.Writers, func(w workload.WriterReport) bool { return w.Refused != "" }) {
		s.Errorf("a writer was refused:\n%s", report)
	}
}

// attachedTo are the nodes that Kubernetes has an application's volume attached to.
func (s *scenario) attachedTo(w *lab.Workload) []string {
	s.Helper()
	var list storagev1.VolumeAttachmentList
	s.must(s.lab.Client.List(s.ctx, &list))
	var nodes []string
	for _, va := range list.Items {
		if name, _ := volume.Attached(&va); name == w.Volume && va.Status.Attached {
			nodes = append(nodes, va.Spec.NodeName)
		}
	}
	return nodes
}

// proveData reads the image back: nothing acknowledged is missing, nothing of the old writer lies after the new one's first.
func (s *scenario) proveData(workloads ...*lab.Workload) {
	s.Helper()
	for _, w := range workloads {
		report, err := w.Check(s.ctx)
		s.must(err)
		written := slices.ContainsFunc(report.Writers, func(w workload.WriterReport) bool { return w.Acknowledged > 0 })
		if !report.OK || !written {
			s.Errorf("the data of %s does not hold, or nothing was written:\n%s", w.Image, report)
			continue
		}
		s.Logf("%6.1f s  the data of %s holds:\n%s", time.Since(s.began).Seconds(), w.Image, report)
	}
}

// fence is the newest NodeFence of a node; nil for none.
func (s *scenario) fence(node string) (*v1alpha1.NodeFence, error) {
	var fences v1alpha1.NodeFenceList
	if err := s.lab.Client.List(s.ctx, &fences); err != nil {
		return nil, err
	}
	var newest *v1alpha1.NodeFence
	for i := range fences.Items {
		nf := &fences.Items[i]
		if nf.Spec.NodeName == node && nf.CreationTimestamp.After(s.began.Add(-time.Second)) &&
			(newest == nil || newest.CreationTimestamp.Before(&nf.CreationTimestamp)) {
			newest = nf
		}
	}
	return newest, nil
}

func (s *scenario) reaches(node string, phase v1alpha1.NodeFencePhase) *v1alpha1.NodeFence {
	s.Helper()
	var reached *v1alpha1.NodeFence
	s.eventually(atLast, fmt.Sprintf("the NodeFence of %s is %s", node, phase), func() (bool, error) {
		nf, err := s.fence(node)
		reached = nf
		return nf != nil && nf.Status.Phase == phase, err
	})
	return reached
}

// told waits for an event with this reason on an object. Ceph may have been given 10 s to answer before, and a node that is back
// has to be Ready.
func (s *scenario) told(reason, kind, name string) {
	s.Helper()
	s.eventually(soon, fmt.Sprintf("event %s on %s %s", reason, kind, name), func() (bool, error) {
		var list eventsv1.EventList
		if err := s.lab.Client.List(s.ctx, &list); err != nil {
			return false, err
		}
		return slices.ContainsFunc(list.Items, func(e eventsv1.Event) bool {
			return e.Reason == reason && e.Regarding.Kind == kind && strings.HasPrefix(e.Regarding.Name, name) &&
				(e.Regarding.Namespace == "" || e.Regarding.Namespace == s.namespace) &&
				!e.CreationTimestamp.Time.Before(s.began.Truncate(time.Second))
		}), nil
	})
}

// noClientListed tells whether none of the entries of a NodeFence is on the blocklist.
func (s *scenario) noClientListed(nf *v1alpha1.NodeFence) (bool, error) {
	listed, err := s.lab.Ceph.Blocklist(s.ctx)
	if err != nil {
		return false, err
	}
	return !slices.ContainsFunc(nf.Status.Clients, func(c v1alpha1.FencedClient) bool { return slices.Contains(listed, c.Address) }), nil
}

// heal brings back what the scenario may have harmed, reboots its nodes that are not healthy or still fenced, and ends its
// applications.
func (s *scenario) heal() {
	ctx, cancel := context.WithTimeout(context.Background(), 8*time.Minute)
	defer cancel()
	s.ctx = ctx
	broken.Store(s.node, s.Name())
	if s.node == "" {
		if err := s.lab.Heal(ctx); err != nil {
			s.Errorf("healing the lab: %v", err)
		}
	} else if s.ceph != s.lab.Ceph {
		if err := s.ceph.Heal(ctx); err != nil {
			s.Errorf("healing the second Ceph cluster: %v", err)
		}
	}
	for _, name := range s.namespaces() {
		if err := s.lab.Client.Delete(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}); err != nil {
			s.Logf("deleting namespace %s: %v", name, err)
		}
	}
	fenced, err := s.fencedNodes()
	if err != nil {
		s.Errorf("listing NodeFences: %v", err)
	}
	for name, node := range s.nodes() {
		if err := s.lab.Network.Restore(ctx, name); err != nil {
			s.Errorf("restoring the network of %s: %v", name, err)
		}
		if object, err := s.lab.Node(ctx, name); err == nil && volume.Ready(object) && !slices.Contains(fenced, name) {
			continue
		}
		if err := node.Reboot(ctx); err != nil {
			s.Errorf("rebooting %s: %v", name, err)
		}
	}
	s.eventually(atLast, "every node of it is healthy, no fence and no pod is left", s.healed)
	if s.node == "" {
		if err := s.lab.Rescue.Reset(ctx); err != nil {
			s.Fatalf("resetting the remediator: %v", err)
		}
	}
	broken.Delete(s.node)
}

func (s *scenario) namespaces() []string { return append([]string{s.namespace}, s.others...) }

// nodes are those that the scenario may have harmed.
func (s *scenario) nodes() map[string]*kube.Node {
	if s.node == "" {
		return s.lab.Nodes
	}
	return map[string]*kube.Node{s.node: s.lab.Nodes[s.node]}
}

func (s *scenario) fencedNodes() ([]string, error) {
	var fences v1alpha1.NodeFenceList
	if err := s.lab.Client.List(s.ctx, &fences); err != nil {
		return nil, err
	}
	var names []string
	for i := range fences.Items {
		if nf := &fences.Items[i]; nf.Active() {
			names = append(names, nf.Spec.NodeName)
		}
	}
	return names, nil
}

func (s *scenario) healed() (bool, error) {
	for _, name := range s.namespaces() {
		var pods corev1.PodList
		if err := s.lab.Client.List(s.ctx, &pods, client.InNamespace(name)); err != nil || len(pods.Items) > 0 {
			return false, err
		}
	}
	fenced, err := s.fencedNodes()
	if err != nil {
		return false, err
	}
	for name := range s.nodes() {
		node, err := s.lab.Node(s.ctx, name)
		if err != nil || !volume.Ready(node) || len(node.Spec.Taints) > 0 || slices.Contains(fenced, name) {
			return false, err
		}
	}
	return true, nil
}

// tellState writes what an administrator would look at first.
func (s *scenario) tellState() {
	for _, args := range [][]string{
		{"get", "nodes", "-o", "custom-columns=NAME:.metadata.name,READY:.status.conditions[?(@.type==\"Ready\")].status,TAINTS:.spec.taints,INUSE:.status.volumesInUse"},
		{"get", "nodefences", "-o", "yaml"},
		{"get", "pods,pvc", "-n", s.namespace, "-o", "wide"},
		{"get", "volumeattachments"},
		{"get", "events", "-A", "--sort-by=.metadata.creationTimestamp"},
	} {
		out, err := s.lab.Kube.Kubectl(s.ctx, args...)
		if err != nil {
			out = err.Error()
		}
		s.Logf("kubectl %s\n%s", strings.Join(args, " "), out)
	}
}

func (s *scenario) pods(w *lab.Workload) []corev1.Pod {
	s.Helper()
	pods, err := w.Pods(s.ctx)
	s.must(err)
	return pods
}
