package e2e

import (
	"encoding/json"
	"slices"
	"strings"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rbd-rescue/rbd-rescue/api/v1alpha1"
	"github.com/rbd-rescue/rbd-rescue/remediator/plan"
)

// planned is what kubectl rescue plan said before a failure, and the pods that were there then.
type planned struct {
	plan.Rehearsal
	pods map[types.UID]string
}

// plugin runs kubectl rescue.
func (s *scenario) plugin(typed string, args ...string) (out string, code int) {
	s.Helper()
	out, code, err := s.lab.Plugin(s.ctx, typed, args...)
	s.must(err)
	return out, code
}

// tells has the plugin tell something, in which a text must be.
func (s *scenario) tells(what, text string, args ...string) {
	s.Helper()
	if out, code := s.plugin("", args...); code != 0 || !strings.Contains(out, text) {
		s.Errorf("kubectl rescue %s does not tell %s, with code %d: %s", args[0], what, code, out)
	}
}

// plan asks what would happen if a node failed now.
func (s *scenario) plan(node string) planned {
	s.Helper()
	began := time.Now()
	out, code := s.plugin("", "plan", node, "-o", "json")
	p := planned{pods: map[types.UID]string{}}
	if err := json.Unmarshal([]byte(out), &p.Rehearsal); err != nil || code > 1 {
		s.Fatalf("kubectl rescue plan %s ended with code %d (%v): %s", node, code, err, out)
	}
	var pods corev1.PodList
	s.must(s.lab.Client.List(s.ctx, &pods))
	for _, pod := range pods.Items {
		if pod.Spec.NodeName == node {
			p.pods[pod.UID] = pod.Namespace + "/" + pod.Name
		}
	}
	s.Logf("%6.1f s  planned the failure of %s (took %.1f s)", time.Since(s.began).Seconds(), node, time.Since(began).Seconds())
	return p
}

// outcome is what a plan and an incident are compared by.
type outcome struct {
	Clients, Volumes, Neighbours, DeletedPods []string
	Tainted                                   bool
}

func outcomeOf(clients []v1alpha1.FencedClient, volumes []v1alpha1.FencedVolume, neighbours []v1alpha1.Neighbour) outcome {
	var o outcome
	for _, c := range clients {
		o.Clients = append(o.Clients, strings.Join([]string{c.ClusterID, c.Address, string(c.Scope)}, " "))
	}
	for _, v := range volumes {
		phase := v.Phase
		if phase == v1alpha1.VolumeRecovered { // the other node's part of it
			phase = v1alpha1.VolumeReleased
		}
		o.Volumes = append(o.Volumes, strings.Join(append([]string{v.PersistentVolume, v.Claim, v.Image, string(phase), v.Reason}, v.Clients...), " "))
	}
	for _, n := range neighbours {
		o.Neighbours = append(o.Neighbours, n.PersistentVolume+" "+n.Claim)
	}
	for _, list := range [][]string{o.Clients, o.Volumes, o.Neighbours} {
		slices.Sort(list)
	}
	return o
}

// asPlanned compares what has happened with what was planned, field by field.
func (s *scenario) asPlanned(p planned) {
	s.Helper()
	want := outcomeOf(p.Clients, p.Volumes, p.Neighbours)
	want.DeletedPods, want.Tainted = p.DeletedPods, p.Tainted
	nf, err := s.fence(p.Node)
	s.must(err)
	var got outcome
	if nf != nil {
		got = outcomeOf(nf.Status.Clients, nf.Status.Volumes, nf.Status.Neighbours)
	}
	for uid, name := range p.pods {
		var pods corev1.PodList
		namespace, _, _ := strings.Cut(name, "/")
		s.must(s.lab.Client.List(s.ctx, &pods, client.InNamespace(namespace)))
		if !slices.ContainsFunc(pods.Items, func(pod corev1.Pod) bool { return pod.UID == uid }) {
			got.DeletedPods = append(got.DeletedPods, name)
		}
	}
	slices.Sort(got.DeletedPods)
	node, err := s.lab.Node(s.ctx, p.Node)
	s.must(err)
	got.Tainted = hasTaint(node, v1alpha1.TaintFenced)
	if len(want.DeletedPods) == 0 {
		want.DeletedPods = nil
	}
	if diff := cmp.Diff(want, got); diff != "" {
		s.Errorf("what was planned (-) is not what happened (+), why: %q\n%s", p.Why, diff)
	}
	if (nf == nil) != (p.Why != "") {
		s.Errorf("planned %q, and the NodeFence is %v", p.Why, nf)
	}
}
