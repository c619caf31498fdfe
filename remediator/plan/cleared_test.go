package plan

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/rbd-rescue/rbd-rescue/api/v1alpha1"
)

// says is what the node's agent has written: of the boot and the client that are fenced, that nothing is left, but for the changes.
func says(changes ...func(*v1alpha1.Cleared)) option {
	return func(s *Snapshot) {
		c := v1alpha1.Cleared{BootID: "boot-1", Clients: []string{"10.0.0.1:0/42"}, Left: []v1alpha1.LeftMapping{}}
		for _, change := range changes {
			change(&c)
		}
		text, err := json.Marshal(c)
		if err != nil {
			panic(err)
		}
		s.Fence.Annotations = map[string]string{v1alpha1.AnnotationCleared: string(text)}
	}
}

func TestANodesOwnProofLiftsItsFence(t *testing.T) {
	t.Parallel()
	left := v1alpha1.LeftMapping{Device: "/dev/rbd0", Image: "rbd/files", Client: "10.0.0.1:0/42", Pods: []string{"pod web/files-0"}}
	for name, test := range map[string]struct {
		options []option
		lifts   bool
		message string
	}{
		"S3: no mapping of the fenced client is left in this very boot": {[]option{nodeReady("boot-1"), says()}, true, ""},
		"S3: its agent says nothing":                                    {[]option{nodeReady("boot-1")}, false, "stays fenced: reboot it"},
		"S3: a mapping is left, and whose it is": {[]option{nodeReady("boot-1"), says(func(c *v1alpha1.Cleared) { c.Left = append(c.Left, left) })}, false,
			"/dev/rbd0 (image rbd/files) is used by pod web/files-0, which has to be deleted"},
		"S3: what is left is not said": {[]option{nodeReady("boot-1"), says(func(c *v1alpha1.Cleared) { c.Left = nil })}, false, "does not say what is left"},
		"S3: the client was not looked for": {[]option{nodeReady("boot-1"), says(func(c *v1alpha1.Cleared) { c.Clients = nil })}, false,
			"has not looked for client 10.0.0.1:0/42 yet"},
		"S3: it is of another boot": {[]option{nodeReady("boot-1"), says(func(c *v1alpha1.Cleared) { c.BootID = "boot-0" })}, false, "not of this boot and machine"},
		"S3: another machine has the name": {[]option{nodeReady("boot-1"), says(), func(s *Snapshot) {
			s.Node.Status.NodeInfo.MachineID = "another"
		}}, false, "not of this boot and machine"},
		"S3: the node is not Ready": {[]option{says()}, false, ""},
		"S3: its kubelet answers, and is not Ready": {[]option{nodeReady("boot-1"), says(), func(s *Snapshot) {
			s.Node.Status.Conditions[0].Status = corev1.ConditionFalse
		}}, false, ""},
		"S3: the annotation is no JSON": {[]option{nodeReady("boot-1"), func(s *Snapshot) {
			s.Fence.Annotations = map[string]string{v1alpha1.AnnotationCleared: "yes"}
		}}, false, "decoding annotation"},
		"S3: a process maps the images": {[]option{nodeReady("boot-1"), says(), func(s *Snapshot) { s.Volumes[0].Userspace = true }}, false,
			"is mapped by a process"},
		"a fence that a person wanted stays": {[]option{nodeReady("boot-1"), says(), func(s *Snapshot) { s.Fence.Spec.Automatic = false }}, false, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := Next(incident(append([]option{seen}, test.options...)...))
			if got := slices.Contains(steps(d.Steps), unfence); got != test.lifts || test.lifts != (d.Status.Times.ClearedAt != nil) {
				t.Errorf("lifts: %v, steps %v, cleared at %v", got, steps(d.Steps), d.Status.Times.ClearedAt)
			}
			if !strings.Contains(d.Status.Message, test.message) {
				t.Errorf("the message is %q, without %q", d.Status.Message, test.message)
			}
		})
	}
}

// A fenced client without a mapping has ended for good: what the node does later changes nothing of it, and says so to the end.
func TestALiftByTheNodesProofGoesOnWhateverTheNodeDoes(t *testing.T) {
	t.Parallel()
	d := Next(incident(seen, nodeReady("boot-1"), says()))
	s := incident(notReadyIn("boot-1"), noEntry, func(s *Snapshot) { s.Fence.Status = d.Status; s.Now = s.Now.Add(time.Second) })
	for range 3 {
		d = Next(s)
		if got := steps(d.Steps); slices.Contains(got, fence) {
			t.Fatalf("what is lifted is fenced again: %v", got)
		}
		s.Fence.Status = d.Status
		s.Node.Spec.Taints = nil
	}
	if s.Fence.Status.Phase != v1alpha1.PhaseLifted {
		t.Errorf("S9: the phase is %s: %s", s.Fence.Status.Phase, s.Fence.Status.Message)
	}
	if got := reasons(d.Events); !slices.Contains(got, "FenceLifted") && s.Fence.Status.Times.LiftedAt == nil {
		t.Errorf("told %v", got)
	}
}
