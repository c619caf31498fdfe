package rescuer

import (
	"context"
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rbd-rescue/rbd-rescue/api/v1alpha1"
	"github.com/rbd-rescue/rbd-rescue/ceph"
)

// booted is node-a as it reports itself, or, silent, as it did last.
func booted(uid types.UID, boot string, ready corev1.ConditionStatus, taints ...string) *corev1.Node {
	node := &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: "node-a", UID: uid},
		Status: corev1.NodeStatus{
			Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: ready, LastTransitionTime: metav1.NewTime(now.Add(-time.Hour))}},
			NodeInfo:   corev1.NodeSystemInfo{BootID: boot, MachineID: "machine-a"},
		},
	}
	for _, key := range taints {
		node.Spec.Taints = append(node.Spec.Taints, corev1.Taint{Key: key, Effect: corev1.TaintEffectNoSchedule})
	}
	return node
}

// nodeIs is a cache that shows this node-a.
type nodeIs struct {
	client.Reader
	node *corev1.Node
}

func (r nodeIs) Get(ctx context.Context, key client.ObjectKey, o client.Object, opts ...client.GetOption) error {
	if node, is := o.(*corev1.Node); is && key.Name == r.node.Name {
		r.node.DeepCopyInto(node)
		return nil
	}
	return r.Reader.Get(ctx, key, o, opts...)
}

// S3: after a change of leaders the cache may show the boot before the one that is fenced. boot-2 of node-a is fenced here.
func TestAFenceIsLiftedOnlyIfTheAPIItselfShowsThatTheBootIsOver(t *testing.T) {
	t.Parallel()
	const yes, unknown = corev1.ConditionTrue, corev1.ConditionUnknown
	for name, test := range map[string]struct {
		cached, live *corev1.Node
		annotation   string
		notListed    bool // somebody has removed the entry
		lifted       bool
	}{
		"the cache shows the boot before":                {cached: booted("a", "boot-1", yes), live: booted("a", "boot-2", unknown, v1alpha1.TaintFenced)},
		"and its taint":                                  {cached: booted("a", "boot-1", yes, v1alpha1.TaintFenced), live: booted("a", "boot-2", unknown, v1alpha1.TaintFenced), notListed: true},
		"and nothing is listed that were to be removed":  {cached: booted("a", "boot-1", yes), live: booted("a", "boot-2", unknown, v1alpha1.TaintFenced), notListed: true},
		"the boot that is fenced is back":                {cached: booted("a", "boot-1", yes), live: booted("a", "boot-2", yes, v1alpha1.TaintFenced)},
		"the node is gone meanwhile":                     {cached: booted("a", "boot-3", yes)},
		"another machine has taken its name":             {cached: booted("a", "boot-3", yes), live: another(booted("new", "boot-4", yes, v1alpha1.TaintFenced))},
		"a later boot is not Ready any more":             {cached: booted("a", "boot-3", yes), live: booted("a", "boot-3", unknown, v1alpha1.TaintFenced)},
		"a later boot is Ready":                          {cached: booted("a", "boot-3", yes), live: booted("a", "boot-3", yes, v1alpha1.TaintFenced), lifted: true},
		"a later boot is Ready, as a new Node object":    {cached: booted("a", "boot-3", yes), live: booted("new", "boot-3", yes, v1alpha1.TaintFenced), lifted: true},
		"a person says that it is over":                  {cached: booted("a", "boot-2", unknown), live: booted("a", "boot-2", unknown, v1alpha1.TaintFenced), annotation: "boot-2", lifted: true},
		"a person says so, and there is no entry to see": {cached: booted("a", "boot-2", unknown), live: booted("a", "boot-2", unknown, v1alpha1.TaintFenced), annotation: "boot-2", notListed: true, lifted: true},
		"a person says so of another boot":               {cached: booted("a", "boot-1", yes), live: booted("a", "boot-2", unknown, v1alpha1.TaintFenced), annotation: "boot-1"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.refence(test.live, func(nf *v1alpha1.NodeFence) {
				if test.annotation != "" {
					nf.Annotations = map[string]string{v1alpha1.AnnotationLift: test.annotation}
				}
			})
			if !test.notListed {
				w.ceph.Tamper(ceph.MustParseAddress(deadClient), now.Add(300*24*time.Hour))
			}
			c := w.controller()
			c.Observer.Reader = nodeIs{w.client, test.cached}
			if err := w.settle(c); err != nil {
				t.Fatal(err)
			}
			if got := w.fence().Status.Phase == v1alpha1.PhaseLifted; got != test.lifted {
				t.Errorf("lifted: %v, want %v", got, test.lifted)
			}
			if listed := slices.Contains(w.ceph.Blocklist(), deadClient); listed == test.lifted {
				t.Errorf("S4: listed: %v, want %v", listed, !test.lifted)
			}
			if node := (&corev1.Node{}); test.live != nil {
				if err := w.client.Get(t.Context(), client.ObjectKey{Name: "node-a"}, node); err != nil {
					t.Fatal(err)
				}
				if tainted := len(node.Spec.Taints) > 0; tainted == test.lifted {
					t.Errorf("tainted: %v, want %v", tainted, !test.lifted)
				}
			}
		})
	}
}

// another is a machine that is not the one that is fenced.
func another(node *corev1.Node) *corev1.Node {
	node.Status.NodeInfo.MachineID = "machine-b"
	return node
}

// S3: the word is about boot-2, and an old cache shows the boot before it, Ready, so that boot-3 seems to be over, too.
func TestAPersonsWordAboutOneBootDoesNotLiftTheFenceOfAnother(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.refence(booted("a", "boot-3", corev1.ConditionUnknown), func(nf *v1alpha1.NodeFence) {
		nf.Annotations = map[string]string{v1alpha1.AnnotationLift: "boot-2"}
	})
	other := &v1alpha1.NodeFence{
		ObjectMeta: metav1.ObjectMeta{Name: "other"},
		Spec:       v1alpha1.NodeFenceSpec{NodeName: "node-a", BootID: "boot-3", MachineID: "machine-a"},
	}
	if err := w.client.Create(t.Context(), other); err != nil {
		t.Fatal(err)
	}
	other.Status = w.fence().Status
	if err := w.client.Status().Update(t.Context(), other); err != nil {
		t.Fatal(err)
	}
	w.ceph.Tamper(ceph.MustParseAddress(deadClient), now.Add(300*24*time.Hour))
	c := w.controller()
	c.Observer.Reader = nodeIs{w.client, booted("a", "boot-1", corev1.ConditionTrue)}
	if err := w.settle(c); err != nil {
		t.Fatal(err)
	}
	if !slices.Contains(w.ceph.Blocklist(), deadClient) {
		t.Error("S3: the entry that boot-3 is cut off by is gone")
	}
}

// S2, S9: a fence that never reached Ceph is given up only if the API itself shows that the node is back: it must not stay tainted.
func TestAFenceIsCancelledOnlyIfTheAPIItselfShowsThatTheNodeIsBack(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		live      corev1.ConditionStatus
		cancelled bool
	}{
		"it is":                   {live: corev1.ConditionTrue, cancelled: true},
		"only the cache shows it": {live: corev1.ConditionUnknown},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.refence(booted("a", "boot-2", test.live), func(nf *v1alpha1.NodeFence) {
				nf.Status.Phase, nf.Status.Times.FencedAt = v1alpha1.PhaseFencing, nil
				nf.Status.Clients[0].Epoch, nf.Status.Clients[0].Kept = 0, false
			})
			c := w.controller()
			c.Observer.Reader = nodeIs{w.client, booted("a", "boot-2", corev1.ConditionTrue)}
			if err := w.settle(c); err != nil {
				t.Fatal(err)
			}
			if got := w.fence().Status.Phase == v1alpha1.PhaseCancelled; got != test.cancelled {
				t.Errorf("cancelled: %v, want %v", got, test.cancelled)
			}
		})
	}
}

// A person fences the boot that the node runs, not the one that an old cache shows.
func TestANodeFenceByHandMeansTheBootThatTheAPIItselfShows(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.refence(booted("a", "boot-2", corev1.ConditionTrue), func(nf *v1alpha1.NodeFence) {
		nf.Spec, nf.Status = v1alpha1.NodeFenceSpec{NodeName: "node-a"}, v1alpha1.NodeFenceStatus{}
	})
	c := w.controller()
	c.Observer.Reader = nodeIs{w.client, booted("a", "boot-1", corev1.ConditionTrue)}
	if err := w.settle(c); err != nil {
		t.Fatal(err)
	}
	if got := w.fence().Spec.BootID; got != "boot-2" {
		t.Errorf("it is %s that is fenced", got)
	}
}

// refence gives the world another node-a, or none, and makes its NodeFence one of boot-2 that has long recovered.
func (w *world) refence(node *corev1.Node, with func(*v1alpha1.NodeFence)) {
	w.Helper()
	ctx := context.Background()
	if err := w.client.Delete(ctx, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "node-a"}}); err != nil {
		w.Fatal(err)
	}
	if node != nil {
		if err := w.client.Create(ctx, node.DeepCopy()); err != nil {
			w.Fatal(err)
		}
	}
	long := metav1.NewMicroTime(now.Add(-time.Hour))
	nf := w.fence()
	nf.Spec.BootID, nf.Spec.MachineID = "boot-2", "machine-a"
	nf.Status = v1alpha1.NodeFenceStatus{
		Phase:   v1alpha1.PhaseRecovered,
		Clients: []v1alpha1.FencedClient{{ClusterID: "c1", Address: deadClient, Scope: v1alpha1.ScopeClient, Epoch: 11, Kept: true}},
		Times:   v1alpha1.IncidentTimes{DetectedAt: &long, FencingAt: &long, FencedAt: &long, RecoveredAt: &long},
	}
	with(nf)
	status := nf.Status
	if err := w.client.Update(ctx, nf); err != nil {
		w.Fatal(err)
	}
	nf.Status = status
	if err := w.client.Status().Update(ctx, nf); err != nil {
		w.Fatal(err)
	}
	w.writes = 0
}
