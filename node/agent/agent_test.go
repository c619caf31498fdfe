package agent

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	testclock "k8s.io/utils/clock/testing"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/rbd-rescue/rbd-rescue/api/v1alpha1"
	"github.com/rbd-rescue/rbd-rescue/node"
)

var now = time.Date(2026, 11, 23, 3, 0, 0, 0, time.UTC)

// machine has mappings, and lets go those that it is asked to.
type machine struct {
	survey   node.Survey
	broken   error
	released []int
	fails    error
}

func (m *machine) Survey(context.Context) (node.Survey, error) { return m.survey, m.broken }

func (m *machine) Release(_ context.Context, wanted node.Wanted) error {
	chosen, _ := wanted(m.survey)
	for _, c := range chosen {
		m.released = append(m.released, c.ID)
		if m.fails == nil {
			m.survey.Mappings = slices.DeleteFunc(slices.Clone(m.survey.Mappings), func(m node.Mapping) bool { return m.ID == c.ID })
		}
	}
	return m.fails
}

func moved() node.Mapping {
	return node.Mapping{ID: 0, Device: "/dev/rbd0", Pool: "rbd", Image: "db", Client: "10.0.0.1:0/42", Pods: []node.Pod{{UID: "u", Namespace: "shop", Name: "db-0"}}}
}

func nodeFence(change func(*v1alpha1.NodeFence)) *v1alpha1.NodeFence {
	nf := &v1alpha1.NodeFence{
		ObjectMeta: metav1.ObjectMeta{Name: "node-a-1"},
		Spec:       v1alpha1.NodeFenceSpec{NodeName: "node-a", BootID: "boot-1", Automatic: true},
		Status: v1alpha1.NodeFenceStatus{
			Phase:   v1alpha1.PhaseRecovered,
			Clients: []v1alpha1.FencedClient{{ClusterID: "c1", Address: "10.0.0.1:0/42"}},
			Volumes: []v1alpha1.FencedVolume{{PersistentVolume: "pv-db", Image: "rbd/db", Phase: v1alpha1.VolumeRecovered}},
		},
	}
	if change != nil {
		change(nf)
	}
	return nf
}

// agentOf has one NodeFence in its API.
func agentOf(t *testing.T, m *machine, nf *v1alpha1.NodeFence) (*Controller, *testclock.FakeClock) {
	t.Helper()
	scheme := runtime.NewScheme()
	if err := v1alpha1.AddToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	clock := testclock.NewFakeClock(now)
	return &Controller{
		Options: Options{NodeName: "node-a", ClearAfter: 30 * time.Second}, Machine: m, Clock: clock,
		Client: fake.NewClientBuilder().WithScheme(scheme).WithObjects(nf).Build(),
	}, clock
}

// look has it reconcile, and gives what the NodeFence says then.
func look(t *testing.T, c *Controller) string {
	t.Helper()
	if _, err := c.Reconcile(t.Context(), reconcile.Request{NamespacedName: client.ObjectKey{Name: "node-a-1"}}); err != nil {
		t.Fatal(err)
	}
	nf := &v1alpha1.NodeFence{}
	if err := c.Client.Get(t.Context(), client.ObjectKey{Name: "node-a-1"}, nf); err != nil {
		t.Fatal(err)
	}
	return nf.Annotations[v1alpha1.AnnotationCleared]
}

const nothingLeft = `{"bootID":"boot-1","at":"2026-11-23T03:00:30Z","clients":["10.0.0.1:0/42"],"left":[]}`

func TestWhatTheKubeletLeavesIsClearedAndProven(t *testing.T) {
	t.Parallel()
	m := &machine{survey: node.Survey{BootID: "boot-1", Mappings: []node.Mapping{moved()}}}
	c, clock := agentOf(t, m, nodeFence(nil))
	if said := look(t, c); len(m.released) > 0 || !strings.Contains(said, `"left":[{"device":"/dev/rbd0","image":"rbd/db"`) {
		t.Fatalf("released %v at once; said %s", m.released, said)
	}
	clock.Step(30 * time.Second)
	if said := look(t, c); !slices.Equal(m.released, []int{0}) || said != nothingLeft {
		t.Errorf("released %v, said %s", m.released, said)
	}
	clock.Step(time.Minute)
	if said := look(t, c); said != nothingLeft {
		t.Errorf("written again without need: %s", said)
	}
}

func TestOnlyThisBootAndThisNodeAreLookedAt(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*v1alpha1.NodeFence){
		"another node":             func(nf *v1alpha1.NodeFence) { nf.Spec.NodeName = "node-b" },
		"another boot":             func(nf *v1alpha1.NodeFence) { nf.Spec.BootID = "boot-0" },
		"it is over":               func(nf *v1alpha1.NodeFence) { nf.Status.Phase = v1alpha1.PhaseLifted },
		"nothing is cut off (yet)": func(nf *v1alpha1.NodeFence) { nf.Status.Clients = nil },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := &machine{survey: node.Survey{BootID: "boot-1", Mappings: []node.Mapping{moved()}}}
			c, clock := agentOf(t, m, nodeFence(change))
			for range 2 {
				if said := look(t, c); said != "" || len(m.released) > 0 {
					t.Errorf("said %q, released %v", said, m.released)
				}
				clock.Step(time.Minute)
			}
		})
	}
}

func TestAMappingOfAWantedVolumeStaysAndIsTold(t *testing.T) {
	t.Parallel()
	m := &machine{survey: node.Survey{BootID: "boot-1", Mappings: []node.Mapping{moved()}}}
	c, clock := agentOf(t, m, nodeFence(func(nf *v1alpha1.NodeFence) { nf.Status.Volumes[0].Phase = v1alpha1.VolumeReleasing }))
	look(t, c)
	clock.Step(time.Minute)
	if said := look(t, c); len(m.released) > 0 || !strings.Contains(said, "pod shop/db-0") {
		t.Errorf("released %v, said %s", m.released, said)
	}
}

func TestS3NothingIsProvenByWhatCannotBeReadOrCleared(t *testing.T) {
	t.Parallel()
	m := &machine{broken: errors.New("is no sysfs")}
	c, clock := agentOf(t, m, nodeFence(nil))
	if _, err := c.Reconcile(t.Context(), reconcile.Request{NamespacedName: client.ObjectKey{Name: "node-a-1"}}); err == nil {
		t.Error("no error")
	}
	m.broken, m.fails = nil, errors.New("it hangs in the kernel")
	m.survey = node.Survey{BootID: "boot-1", Mappings: []node.Mapping{moved()}}
	look(t, c)
	clock.Step(time.Minute)
	if said := look(t, c); len(m.released) == 0 || strings.Contains(said, `"left":[]`) {
		t.Errorf("released %v, said %s", m.released, said)
	}
}

func TestANodeThatIsCutOffLetsGoOnlyWhatOptedIn(t *testing.T) {
	t.Parallel()
	other := moved()
	other.ID, other.Pods = 1, []node.Pod{{UID: "v", Namespace: "web", Name: "files-0"}}
	unknown := moved()
	unknown.ID, unknown.Pods = 2, []node.Pod{{UID: "w"}}
	m := &machine{survey: node.Survey{Mappings: []node.Mapping{moved(), other, unknown}}}
	c := &CutOff{After: time.Minute, Machine: m, Clock: testclock.NewFakeClock(now)}
	if err := c.release(t.Context(), map[string]bool{"shop": true}); err != nil || !slices.Equal(m.released, []int{0}) {
		t.Errorf("%v, released %v", err, m.released)
	}
}

func TestWhenANodeIsCutOff(t *testing.T) {
	t.Parallel()
	all := map[string]bool{"shop": true}
	for name, test := range map[string]struct {
		contact contact
		want    bool
	}{
		"not heard of for the time, by several asks": {contact{last: now.Add(-time.Minute), failures: 3, namespaces: all}, true},
		"not for long enough":                        {contact{last: now.Add(-59 * time.Second), failures: 9, namespaces: all}, false},
		"it was frozen, and has asked once":          {contact{last: now.Add(-time.Hour), failures: 1, namespaces: all}, false},
		"it has never heard of the API":              {contact{failures: 9}, false},
		"it is done":                                 {contact{last: now.Add(-time.Hour), failures: 9, namespaces: all, released: true}, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := test.contact.due(now, time.Minute); got != test.want {
				t.Errorf("due: %v", got)
			}
		})
	}
	c := &CutOff{Clock: testclock.NewFakeClock(now), Rescued: func(context.Context) (map[string]bool, error) { return nil, errors.New("no route") }}
	before := contact{last: now.Add(-time.Minute), namespaces: all}
	if got := c.ask(t.Context(), before); got.failures != 1 || !got.last.Equal(before.last) || !got.namespaces["shop"] {
		t.Errorf("%+v", got)
	}
	c.Rescued = func(context.Context) (map[string]bool, error) { return all, nil }
	if got := c.ask(t.Context(), contact{failures: 5, released: true}); got.failures != 0 || got.released || !got.last.Equal(now) {
		t.Errorf("%+v", got)
	}
}
