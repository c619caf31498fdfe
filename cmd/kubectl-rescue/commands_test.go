package main

import (
	"context"
	"encoding/json"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/rbd-rescue/rbd-rescue/api/v1alpha1"
	"github.com/rbd-rescue/rbd-rescue/cmd/exit"
	"github.com/rbd-rescue/rbd-rescue/cmd/kubectl-rescue/remote"
	"github.com/rbd-rescue/rbd-rescue/remediator/plan"
)

func nodeA() *corev1.Node {
	return &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: "node-a", UID: "node-a"},
		Status:     corev1.NodeStatus{NodeInfo: corev1.NodeSystemInfo{BootID: "boot-1"}},
	}
}

func fenceOfNodeA(phase v1alpha1.NodeFencePhase) *v1alpha1.NodeFence {
	return &v1alpha1.NodeFence{
		ObjectMeta: metav1.ObjectMeta{Name: "node-a-1", UID: "nf"},
		Spec:       v1alpha1.NodeFenceSpec{NodeName: "node-a", BootID: "boot-1", Automatic: true},
		Status: v1alpha1.NodeFenceStatus{
			Phase: phase, Clients: []v1alpha1.FencedClient{{ClusterID: "c1", Address: "10.0.0.1:0/42"}},
			Volumes: []v1alpha1.FencedVolume{{PersistentVolume: "pv-1", Claim: "shop/data", Image: "rbd/img", RecoveredOn: "node-b"}},
		},
	}
}

// cluster is an API with these objects, to which the user is "anna", and a plugin that talks to it.
func cluster(t *testing.T, objects ...client.Object) (client.Client, *plugin) {
	t.Helper()
	kinds, err := scheme()
	if err != nil {
		t.Fatal(err)
	}
	c := fake.NewClientBuilder().WithScheme(kinds).WithObjects(objects...).WithInterceptorFuncs(interceptor.Funcs{
		Create: func(ctx context.Context, c client.WithWatch, o client.Object, options ...client.CreateOption) error {
			if review, is := o.(*authenticationv1.SelfSubjectReview); is {
				review.Status.UserInfo.Username = "anna"
				return ctx.Err()
			}
			if err := ctx.Err(); err != nil { // which a fake client does not look at
				return err
			}
			return c.Create(ctx, o, options...)
		},
		Patch: func(ctx context.Context, c client.WithWatch, o client.Object, patch client.Patch, options ...client.PatchOption) error {
			if err := ctx.Err(); err != nil {
				return err
			}
			return c.Patch(ctx, o, patch, options...)
		},
	}).Build()
	p := untouched(t)
	p.connect = func() (client.Client, error) { return c, nil }
	return c, p
}

func fences(t *testing.T, c client.Client) []v1alpha1.NodeFence {
	t.Helper()
	var list v1alpha1.NodeFenceList
	if err := c.List(t.Context(), &list); err != nil {
		t.Fatal(err)
	}
	return list.Items
}

func TestFenceShowsThePlanAndWantsTheNodesName(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		typed string
		args  []string
		made  bool
		shown bool
	}{
		"the name":         {typed: "node-a\n", made: true, shown: true},
		"another name":     {typed: "node-b\n", shown: true},
		"nothing":          {typed: "\n", shown: true},
		"no terminal":      {shown: true},
		"--yes of scripts": {args: []string{"--yes"}, made: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, p := cluster(t, nodeA())
			var asked []string
			p.run = runner(func(_ context.Context, streams remote.Streams, args ...string) error {
				asked = args
				return json.NewEncoder(streams.Out).Encode(plan.Rehearsal{Node: "node-a", Neighbours: []v1alpha1.Neighbour{{Claim: "web/files"}}})
			})
			got := call(t.Context(), p, test.typed, append([]string{"fence", "node-a", "--reason", "it hangs"}, test.args...)...)
			made := fences(t, c)
			if (got.code == exit.Fine) != test.made || (len(made) == 1) != test.made {
				t.Fatalf("code %d, made %v: %s", got.code, made, got.errOut)
			}
			if shown := strings.Contains(got.errOut, "web/files"); shown != test.shown {
				t.Errorf("the plan was shown: %v: %s", shown, got.errOut)
			}
			if test.shown && strings.Join(asked, " ") != "plan --output=json node-a --by-hand --boot-id=boot-1" {
				t.Errorf("asked for %v", asked)
			}
			if !test.made {
				return
			}
			if spec := made[0].Spec; spec.NodeName != "node-a" || spec.BootID != "boot-1" || spec.Automatic || spec.Reason != "it hangs" {
				t.Errorf("made %+v", spec)
			}
		})
	}
}

// thoughtful reads a plan at night before they type.
type thoughtful struct {
	io.Reader
	// meanwhile is what happens before they have.
	meanwhile func()
}

func (r thoughtful) Read(p []byte) (int, error) {
	time.Sleep(10 * time.Minute) // of the bubble's time
	r.meanwhile()
	return r.Reader.Read(p)
}

func TestWhatHasChangedWhileAPersonReadIsNotDone(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		args   []string
		change func(client.Client) error
		want   string
	}{
		"a volume runs elsewhere by now": {[]string{"lift", "node-a", "--reason", "it is off"}, func(c client.Client) error {
			nf := fenceOfNodeA(v1alpha1.PhaseRecovered)
			nf.Status.Volumes[0].RecoveredOn = "node-c"
			return c.Patch(context.Background(), nf, client.Merge)
		}, "has changed since it was shown"},
		"the fence is over": {[]string{"lift", "node-a", "--reason", "it is off"}, func(c client.Client) error {
			return c.Patch(context.Background(), fenceOfNodeA(v1alpha1.PhaseLifted), client.Merge)
		}, "is over"},
		"the node was rebooted": {[]string{"fence", "node-a", "--reason", "it hangs"}, func(c client.Client) error {
			node := nodeA()
			node.Status.NodeInfo.BootID = "boot-2"
			return c.Status().Patch(context.Background(), node, client.Merge)
		}, "was rebooted meanwhile (boot boot-1, then boot-2)"},
		"it is fenced by now": {[]string{"fence", "node-a", "--reason", "it hangs"}, func(c client.Client) error {
			return c.Create(context.Background(), fenceOfNodeA(v1alpha1.PhaseFencing))
		}, "is under way already"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				objects := []client.Object{nodeA()}
				if test.args[0] == "lift" {
					objects = append(objects, fenceOfNodeA(v1alpha1.PhaseRecovered))
				}
				c, p := cluster(t, objects...)
				p.run = runner(func(_ context.Context, streams remote.Streams, _ ...string) error {
					return json.NewEncoder(streams.Out).Encode(plan.Rehearsal{Node: "node-a"})
				})
				in := thoughtful{strings.NewReader("node-a\n"), func() {
					if err := test.change(c); err != nil {
						t.Error(err)
					}
				}}
				before := len(fences(t, c))
				got := callReading(t.Context(), p, in, test.args...)
				if got.code != exit.Failed || !strings.Contains(got.errOut, test.want) {
					t.Errorf("code %d: %s", got.code, got.errOut)
				}
				for _, nf := range fences(t, c)[before:] {
					if !nf.Spec.Automatic {
						t.Errorf("made %s", nf.Name)
					}
				}
				for _, nf := range fences(t, c) {
					if nf.Annotations[v1alpha1.AnnotationLift] != "" {
						t.Errorf("lifted %s", nf.Name)
					}
				}
			})
		})
	}
}

func TestATimeOutDoesNotCountWhatAPersonTakesToConfirm(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{{"fence", "node-a", "--reason", "it hangs"}, {"lift", "node-a", "--reason", "it is off"}} {
		synctest.Test(t, func(t *testing.T) {
			objects := []client.Object{nodeA()}
			if args[0] == "lift" {
				objects = append(objects, fenceOfNodeA(v1alpha1.PhaseRecovered))
			}
			_, p := cluster(t, objects...)
			p.run = runner(func(_ context.Context, streams remote.Streams, _ ...string) error {
				return json.NewEncoder(streams.Out).Encode(plan.Rehearsal{Node: "node-a"})
			})
			if got := callReading(t.Context(), p, thoughtful{strings.NewReader("node-a\n"), func() {}}, args...); got.code != exit.Fine {
				t.Errorf("%s: code %d: %s", args[0], got.code, got.errOut)
			}
		})
	}
}

func TestFenceDoesNothingWhereThePlanCannotBeShown(t *testing.T) {
	t.Parallel()
	c, p := cluster(t, nodeA())
	p.run = runner(func(context.Context, remote.Streams, ...string) error { return remote.ErrInDoubt })
	got := call(t.Context(), p, "node-a\n", "fence", "node-a", "--reason", "it hangs")
	if got.code != exit.Failed || len(fences(t, c)) > 0 || !strings.Contains(got.errOut, "--yes") {
		t.Errorf("code %d: %s", got.code, got.errOut)
	}
}

func TestFenceNamesTheOneThatIsUnderWay(t *testing.T) {
	t.Parallel()
	c, p := cluster(t, nodeA(), fenceOfNodeA(v1alpha1.PhaseRecovered))
	got := call(t.Context(), p, "", "fence", "node-a", "--reason", "x", "--yes")
	if got.code != exit.Failed || len(fences(t, c)) != 1 || !strings.Contains(got.errOut, "node-a-1") {
		t.Errorf("code %d: %s", got.code, got.errOut)
	}
	got = call(t.Context(), p, "", "fence", "node-a", "--reason", "x", "--yes", "--client", "10.0.0.1:0/7")
	if got.code != exit.Fine || len(fences(t, c)) != 2 {
		t.Errorf("with a client that is not known: code %d: %s", got.code, got.errOut)
	}
}

func TestLiftSaysWhatItRisksAndWantsTheNodesName(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"node-a", "node-a-1"} {
		c, p := cluster(t, nodeA(), fenceOfNodeA(v1alpha1.PhaseRecovered))
		got := call(t.Context(), p, "yes\n", "lift", name, "--reason", "it is off")
		if got.code != exit.Failed || fences(t, c)[0].Annotations != nil {
			t.Errorf("%s: lifted without its name: code %d, %v", name, got.code, fences(t, c)[0].Annotations)
		}
		for _, want := range []string{"two writers", "claim shop/data", "node-b", "10.0.0.1:0/42", "boot-1"} {
			if !strings.Contains(got.errOut, want) {
				t.Errorf("%s: does not say %q: %s", name, want, got.errOut)
			}
		}
		got = call(t.Context(), p, "node-a\n", "lift", name, "--reason", "it is off")
		annotations := fences(t, c)[0].Annotations
		if got.code != exit.Fine || annotations[v1alpha1.AnnotationLift] != "boot-1" || annotations[v1alpha1.AnnotationLiftReason] != "anna: it is off" {
			t.Errorf("%s: code %d, %v: %s", name, got.code, annotations, got.errOut)
		}
	}
}

func TestLiftNamesWhatThereIsToLift(t *testing.T) {
	t.Parallel()
	second := fenceOfNodeA(v1alpha1.PhaseFencing)
	second.Name = "node-a-2"
	for name, test := range map[string]struct {
		objects []client.Object
		want    string
	}{
		"nothing":  {nil, "there is no NodeFence node-a"},
		"over":     {[]client.Object{fenceOfNodeA(v1alpha1.PhaseLifted)}, "there is no NodeFence node-a"},
		"two ones": {[]client.Object{fenceOfNodeA(v1alpha1.PhaseFencing), second}, "node-a-1, node-a-2"},
	} {
		_, p := cluster(t, test.objects...)
		got := call(t.Context(), p, "", "lift", "node-a", "--reason", "x", "--yes")
		if got.code != exit.Failed || !strings.Contains(got.errOut, test.want) {
			t.Errorf("%s: code %d: %s", name, got.code, got.errOut)
		}
	}
}

func TestPauseAndResumeKeepWhoAndWhy(t *testing.T) {
	t.Parallel()
	for name, args := range map[string][]string{"rbd-rescue": nil, "node-a": {"node-a"}} {
		c, p := cluster(t, nodeA(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "rbd-rescue", UID: "ns"}})
		annotations := func() map[string]string {
			var o client.Object = &corev1.Namespace{}
			if args != nil {
				o = &corev1.Node{}
			}
			if err := c.Get(t.Context(), client.ObjectKey{Name: name}, o); err != nil {
				t.Fatal(err)
			}
			return o.GetAnnotations()
		}
		got := call(t.Context(), p, "", append([]string{"pause", "--reason", "a switch is replaced"}, args...)...)
		a := annotations()
		if got.code != exit.Fine || a[v1alpha1.AnnotationPaused] != "true" || a[v1alpha1.AnnotationPausedBy] != "anna" || a[v1alpha1.AnnotationPausedReason] != "a switch is replaced" {
			t.Errorf("%s: code %d, %v: %s", name, got.code, a, got.errOut)
		}
		for range 2 { // what is not paused need not be resumed
			got = call(t.Context(), p, "", append([]string{"resume"}, args...)...)
			if got.code != exit.Fine || len(annotations()) > 0 {
				t.Errorf("%s: code %d, %v: %s", name, got.code, annotations(), got.errOut)
			}
		}
	}
}

func TestPlanIsShownAndItsCodeTellsWhatItFound(t *testing.T) {
	t.Parallel()
	moves := plan.Rehearsal{
		Node: "node-a", BootID: "boot-1", Clients: []v1alpha1.FencedClient{{ClusterID: "c1", Address: "10.0.0.1:0/42", Scope: v1alpha1.ScopeClient, Source: "record"}},
		Volumes:     []v1alpha1.FencedVolume{{PersistentVolume: "pv-1", Claim: "shop/data", Image: "rbd/img", Phase: v1alpha1.VolumeReleased}},
		DeletedPods: []string{"shop/db-0"}, Tainted: true, Steps: []string{"taint node node-a"},
	}
	refused, held := moves, moves
	refused.Volumes = []v1alpha1.FencedVolume{{Claim: "shop/data", Phase: v1alpha1.VolumeRefused, Reason: v1alpha1.ReasonBarePod, Message: "nobody makes it again"}}
	held.Reason, held.Why = v1alpha1.ReasonBreakerOpen, "too many"
	for name, test := range map[string]struct {
		rehearsal plan.Rehearsal
		code      int
		says      []string
	}{
		"it moves":        {moves, exit.Fine, []string{"would be fenced", "10.0.0.1:0/42", "shop/data", "Released", "shop/db-0", "rbd-rescue.io/fenced"}},
		"one is refused":  {refused, exit.Failed, []string{"BarePod", "nobody makes it again"}},
		"the breaker":     {held, exit.Failed, []string{"Nothing of node node-a would be fenced now (BreakerOpen): too many", "Without that:"}},
		"it is in doubt":  {plan.Rehearsal{Node: "in doubt"}, exit.Failed, nil},
		"it ended with 2": {plan.Rehearsal{Node: "misused"}, exit.Misused, nil},
	} {
		p := untouched(t)
		p.run = runner(func(_ context.Context, streams remote.Streams, _ ...string) error {
			switch test.rehearsal.Node {
			case "in doubt":
				return remote.ErrInDoubt
			case "misused":
				return exit.Coded(exit.Misused)
			}
			return json.NewEncoder(streams.Out).Encode(test.rehearsal)
		})
		got := call(t.Context(), p, "", "plan", "node-a")
		for _, want := range test.says {
			if !strings.Contains(got.out, want) {
				t.Errorf("%s: does not say %q: %s", name, want, got.out)
			}
		}
		if got.code != test.code {
			t.Errorf("%s: code %d: %s", name, got.code, got.errOut)
		}
	}
}

func TestTimelineOfANodeIsThatOfItsNewestIncidentBeItOver(t *testing.T) {
	t.Parallel()
	before, last := fenceOfNodeA(v1alpha1.PhaseLifted), fenceOfNodeA(v1alpha1.PhaseLifted)
	last.Name, last.CreationTimestamp = "node-a-2", metav1.NewTime(before.CreationTimestamp.Add(time.Hour))
	_, p := cluster(t, before, last)
	if got := call(t.Context(), p, "", "timeline", "node-a"); got.code != exit.Fine || !strings.Contains(got.out, "NodeFence node-a-2") {
		t.Errorf("code %d: %s%s", got.code, got.out, got.errOut)
	}
	if got := call(t.Context(), p, "", "timeline", "node-b"); got.code != exit.Failed || !strings.Contains(got.errOut, "none of a node of that name") {
		t.Errorf("code %d: %s", got.code, got.errOut)
	}
}

func TestTimelineOfAnIncidentIsWrittenInEveryFormat(t *testing.T) {
	t.Parallel()
	for format, want := range map[string]string{"": "NodeFence node-a-1", "json": `"nodeFence": "node-a-1"`, "yaml": "nodeFence: node-a-1", "svg": "<svg", "html": "<!DOCTYPE html>"} {
		_, p := cluster(t, fenceOfNodeA(v1alpha1.PhaseRecovered))
		got := call(t.Context(), p, "", "timeline", "node-a", "--output="+format)
		if got.code != exit.Fine || !strings.Contains(got.out, want) {
			t.Errorf("%q: code %d: %s%s", format, got.code, got.out, got.errOut)
		}
	}
}
