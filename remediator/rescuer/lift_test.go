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

// nodeIs is the API, in which node-a is this one, or gone.
type nodeIs struct {
	client.Reader
	node *corev1.Node
}

func (r nodeIs) Get(ctx context.Context, key client.ObjectKey, o client.Object, opts ...client.GetOption) error {
	node, is := o.(*corev1.Node)
	switch {
	case !is:
		return r.Reader.Get(ctx, key, o, opts...)
	case r.node == nil:
		return r.Reader.Get(ctx, client.ObjectKey{Name: "gone"}, o, opts...)
	}
	r.node.DeepCopyInto(node)
	return nil
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
		"the cache shows the boot before": {cached: booted("a", "boot-1", yes), live: booted("a", "boot-2", unknown)},
		"and a taint":                     {cached: booted("a", "boot-1", yes, v1alpha1.TaintFenced), live: booted("a", "boot-2", unknown, v1alpha1.TaintFenced), notListed: true},
		"and an entry is missing, so that nothing is to be done": {cached: booted("a", "boot-1", yes), live: booted("a", "boot-2", unknown), notListed: true},
		"the boot that is fenced is back":                        {cached: booted("a", "boot-1", yes), live: booted("a", "boot-2", yes)},
		"the node is gone meanwhile":                             {cached: booted("a", "boot-3", yes)},
		"another object has its name":                            {cached: booted("a", "boot-3", yes), live: booted("new", "boot-3", yes)},
		"it has failed meanwhile":                                {cached: booted("a", "boot-3", yes), live: booted("a", "boot-3", unknown)},
		"a later boot is Ready":                                  {cached: booted("a", "boot-3", yes), live: booted("a", "boot-3", yes), lifted: true},
		"a person says that it is over":                          {cached: booted("a", "boot-2", unknown), live: booted("a", "boot-2", unknown), annotation: "boot-2", lifted: true},
		"a person says so, and only the API shows the taint":     {cached: booted("a", "boot-2", unknown), live: booted("a", "boot-2", unknown, v1alpha1.TaintFenced), annotation: "boot-2", notListed: true},
		"a person says so of another boot":                       {cached: booted("a", "boot-1", yes), live: booted("a", "boot-2", unknown), annotation: "boot-1"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.refence(test.cached, func(nf *v1alpha1.NodeFence) {
				if test.annotation != "" {
					nf.Annotations = map[string]string{v1alpha1.AnnotationLift: test.annotation}
				}
			})
			if !test.notListed {
				w.ceph.Tamper(ceph.MustParseAddress(deadClient), now.Add(300*24*time.Hour))
			}
			c := w.controller()
			c.Live = nodeIs{w.client, test.live}
			if err := w.settle(c); err != nil {
				t.Fatal(err)
			}
			if got := w.fence().Status.Phase == v1alpha1.PhaseLifted; got != test.lifted {
				t.Errorf("lifted: %v, want %v", got, test.lifted)
			}
			listed := slices.Contains(w.ceph.Blocklist(), deadClient)
			if want := !test.lifted && !test.notListed; listed != want {
				t.Errorf("listed: %v, want %v", listed, want)
			}
			node := &corev1.Node{}
			if err := w.client.Get(t.Context(), client.ObjectKey{Name: "node-a"}, node); err != nil {
				t.Fatal(err)
			}
			if len(node.Spec.Taints) != len(test.cached.Spec.Taints) && !test.lifted {
				t.Errorf("taints are %v", node.Spec.Taints)
			}
		})
	}
}

// S3: the word is about boot-2, and an old cache shows the boot before it, Ready, so that boot-3 seems to be over, too.
func TestAPersonsWordAboutOneBootDoesNotLiftTheFenceOfAnother(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.refence(booted("a", "boot-1", corev1.ConditionTrue), func(nf *v1alpha1.NodeFence) {
		nf.Annotations = map[string]string{v1alpha1.AnnotationLift: "boot-2"}
	})
	other := &v1alpha1.NodeFence{
		ObjectMeta: metav1.ObjectMeta{Name: "other"},
		Spec:       v1alpha1.NodeFenceSpec{NodeName: "node-a", BootID: "boot-3", MachineID: "machine-a"},
		Status:     *w.fence().Status.DeepCopy(),
	}
	status := other.Status
	if err := w.client.Create(t.Context(), other); err != nil {
		t.Fatal(err)
	}
	other.Status = status
	if err := w.client.Status().Update(t.Context(), other); err != nil {
		t.Fatal(err)
	}
	w.ceph.Tamper(ceph.MustParseAddress(deadClient), now.Add(300*24*time.Hour))
	c := w.controller()
	c.Live = nodeIs{w.client, booted("a", "boot-3", corev1.ConditionUnknown)}
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
			w.refence(booted("a", "boot-2", corev1.ConditionTrue), func(nf *v1alpha1.NodeFence) {
				nf.Spec.Automatic = true
				nf.Status.Phase, nf.Status.Times.FencedAt, nf.Status.Clients[0].Epoch = v1alpha1.PhaseFencing, nil, 0
			})
			c := w.controller()
			c.Live = nodeIs{w.client, booted("a", "boot-2", test.live)}
			if err := w.settle(c); err != nil {
				t.Fatal(err)
			}
			if got := w.fence().Status.Phase == v1alpha1.PhaseCancelled; got != test.cancelled {
				t.Errorf("cancelled: %v, want %v", got, test.cancelled)
			}
		})
	}
}

// refence gives the world another node-a, and a NodeFence of its boot-2 that has long recovered.
func (w *world) refence(node *corev1.Node, with func(*v1alpha1.NodeFence)) {
	w.Helper()
	ctx := context.Background()
	if err := w.client.Delete(ctx, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "node-a"}}); err != nil {
		w.Fatal(err)
	}
	if err := w.client.Create(ctx, node.DeepCopy()); err != nil {
		w.Fatal(err)
	}
	long := metav1.NewMicroTime(now.Add(-time.Hour))
	nf := w.fence()
	nf.Spec.BootID, nf.Spec.MachineID = "boot-2", "machine-a"
	nf.Status = v1alpha1.NodeFenceStatus{
		Phase:   v1alpha1.PhaseRecovered,
		Clients: []v1alpha1.FencedClient{{ClusterID: "c1", Address: deadClient, Scope: v1alpha1.ScopeClient, Epoch: 11}},
		Times:   v1alpha1.IncidentTimes{DetectedAt: &long, FencingAt: &long, FencedAt: &long, RecoveredAt: &long},
	}
	with(nf)
	judged := nf.DeepCopy()
	if err := w.client.Update(ctx, nf); err != nil {
		w.Fatal(err)
	}
	nf.Status = judged.Status
	if err := w.client.Status().Update(ctx, nf); err != nil {
		w.Fatal(err)
	}
	w.writes = 0
}
