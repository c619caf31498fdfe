package plan

import (
	"errors"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/rbd-rescue/rbd-rescue/api/v1alpha1"
	"github.com/rbd-rescue/rbd-rescue/ceph"
)

// gateCase is a gated pod's volume, and what is so of all nodes: node-a has failed and holds it, node-b is well.
type gateCase struct {
	view   GateView
	volume SharedVolume
}

func gate(change ...func(*gateCase)) gateCase {
	s := incident()
	nodeB := nodeA()
	nodeB.Name, nodeB.Status.NodeInfo.BootID, nodeB.Status.VolumesInUse = "node-b", "boot-b", nil
	nodeB.Status.Conditions[0].Status = corev1.ConditionTrue
	nf := s.Fence
	nf.Status = Next(incident()).Status
	g := gateCase{
		view: GateView{
			Nodes:       map[string]*corev1.Node{"node-a": s.Node, "node-b": nodeB},
			Attachments: s.Volumes[0].Attachments,
			Fences:      []*v1alpha1.NodeFence{nf},
		},
		volume: SharedVolume{
			Volume: s.Volumes[0].Volume, Users: s.Volumes[0].Users, Record: v1alpha1.ClientRecord{"node-a": *s.Volumes[0].Record},
		},
	}
	for _, c := range change {
		c(&g)
	}
	return g
}

// isCutOff is what the rescuer writes with the proof at hand.
func isCutOff(g *gateCase) {
	nf := g.view.Fences[0]
	nf.Status.Phase = v1alpha1.PhaseReleasing
	nf.Status.Volumes[0].Phase = v1alpha1.VolumeReleasing
	nf.Status.Clients[0].Epoch = 10
}

func noNodeFence(g *gateCase)  { g.view.Fences = nil }
func noAttachment(g *gateCase) { g.view.Attachments = nil }
func noPod(g *gateCase)        { g.volume.Users = nil }
func notInUse(g *gateCase)     { g.view.Nodes["node-a"].Status.VolumesInUse = nil }
func nodeObjectGone(g *gateCase) {
	delete(g.view.Nodes, "node-a")
}

// noTrace: Kubernetes has forgotten that the node has the volume.
func noTrace(g *gateCase) {
	nodeObjectGone(g)
	noAttachment(g)
	noPod(g)
}

func ready(status corev1.ConditionStatus) func(*gateCase) {
	return func(g *gateCase) { g.view.Nodes["node-a"].Status.Conditions[0].Status = status }
}

func boot(id string) func(*gateCase) {
	return func(g *gateCase) { g.view.Nodes["node-a"].Status.NodeInfo.BootID = id }
}

func fencedBoot(id string) func(*gateCase) {
	return func(g *gateCase) { g.view.Fences[0].Spec.BootID = id }
}

func volumePhase(phase v1alpha1.FencedVolumePhase) func(*gateCase) {
	return func(g *gateCase) { g.view.Fences[0].Status.Volumes[0].Phase = phase }
}

// liftedByAPerson at the time of the failure, or later.
func liftedByAPerson(after time.Duration) func(*gateCase) {
	return func(g *gateCase) {
		nf := g.view.Fences[0]
		nf.Annotations = map[string]string{v1alpha1.AnnotationLift: nf.Spec.BootID}
		nf.Status.Phase = v1alpha1.PhaseLifted
		at := metav1.NewMicroTime(g.view.Nodes["node-a"].Status.Conditions[0].LastTransitionTime.Add(after))
		nf.Status.Times.LiftedAt = &at
	}
}

// bootTwoIsCutOff by a NodeFence of its own; that of boot-1 is left as it is.
func bootTwoIsCutOff(g *gateCase) {
	two := gate(fencedBoot("boot-2"), isCutOff).view.Fences[0]
	two.Name = "node-a-2"
	g.view.Fences = append(g.view.Fences, two)
}

func provenOver(g *gateCase) { g.view.Fences[0].Status.Times.OverAt = new(metav1.NewMicroTime(now)) }

func TestGateReason(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		gate  gateCase
		waits bool
	}{
		"S1: waits while the fence is not proven":                            {gate(), true},
		"S1: waits where there is no NodeFence":                              {gate(noNodeFence), true},
		"S1: waits while the node is not Ready by its kubelet's own word":    {gate(noNodeFence, ready(corev1.ConditionFalse)), true},
		"S1: waits for a node that is gone":                                  {gate(noNodeFence, nodeObjectGone), true},
		"S1: waits where the attachment was deleted by hand":                 {gate(noNodeFence, noAttachment, noPod), true},
		"S1: waits where only a pod tells":                                   {gate(noNodeFence, noAttachment, notInUse), true},
		"S1: waits where only the NodeFence tells":                           {gate(noTrace), true},
		"S1: waits where only a NodeFence that was refused tells":            {gate(noTrace, volumePhase(v1alpha1.VolumeRefused)), true},
		"S1: waits while the volume is not released, though entries are":     {gate(isCutOff, volumePhase(v1alpha1.VolumeHeld)), true},
		"S1: waits while an entry is not proven any more":                    {gate(isCutOff, func(g *gateCase) { g.view.Fences[0].Status.Clients[0].Epoch = 0 }), true},
		"S1: waits while another volume alone is cut off":                    {gate(isCutOff, func(g *gateCase) { g.view.Fences[0].Status.Volumes[0].PersistentVolume = "pv-2" }), true},
		"S1: waits where another boot of the node was fenced":                {gate(isCutOff, boot("boot-2")), true},
		"S1: waits where another boot of a node that is gone was fenced":     {gate(isCutOff, nodeObjectGone, fencedBoot("boot-0")), true},
		"S1: waits where the fence is lifted":                                {gate(isCutOff, func(g *gateCase) { g.view.Fences[0].Status.Phase = v1alpha1.PhaseLifted }), true},
		"S1: waits where a person lifted the fence of an earlier failure":    {gate(isCutOff, liftedByAPerson(-time.Minute)), true},
		"S1: waits for a machine that another took the name of":              {gate(ready(corev1.ConditionTrue), boot("boot-2"), func(g *gateCase) { g.view.Nodes["node-a"].Status.NodeInfo.MachineID = "other" }, noAttachment, notInUse, noPod), true},
		"S1: waits while one of two nodes is not cut off":                    {gate(isCutOff, secondHolder), true},
		"S1: waits where the node has the volume again since it was cut off": {gate(isCutOff, volumePhase(v1alpha1.VolumeRecovered)), true},
		"opens once the node is cut off":                                     {gate(isCutOff), false},
		"opens once a node that is gone is cut off":                          {gate(isCutOff, nodeObjectGone), false},
		"opens once it is cut off, whatever is left of it in Kubernetes":     {gate(isCutOff, noTrace), false},
		"S9: opens when no failed node holds the volume":                     {gate(noNodeFence, noAttachment, notInUse, noPod), false},
		"S9: opens when the node is Ready again":                             {gate(noNodeFence, ready(corev1.ConditionTrue)), false},
		"S9: opens when the fenced boot is Ready again":                      {gate(ready(corev1.ConditionTrue)), false},
		"S9: opens when the same machine is Ready with another boot":         {gate(ready(corev1.ConditionTrue), boot("boot-2")), false},
		"S1: waits where the same machine has failed in another boot":        {gate(boot("boot-2")), true},
		"S9: opens when that boot is cut off":                                {gate(boot("boot-2"), bootTwoIsCutOff), false},
		"S9: opens when that boot let go of it":                              {gate(boot("boot-2"), noAttachment, notInUse, noPod), false},
		"S9: opens when the fenced boot was proven over before":              {gate(noTrace, provenOver), false},
		"S9: opens when a person has said since then that the boot is over":  {gate(liftedByAPerson(time.Minute)), false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			holders := Holders(test.gate.view, test.gate.volume)
			reason, waits := GateReason(v1alpha1.Policy{Mode: v1alpha1.ModeRescue}, holders)
			if waits != test.waits || reason == "" {
				t.Errorf("waits: %v (%s), want %v", waits, reason, test.waits)
			}
			for _, mode := range []v1alpha1.Mode{v1alpha1.ModeObserve, v1alpha1.ModeOff} {
				if reason, waits := GateReason(v1alpha1.Policy{Mode: mode}, holders); waits {
					t.Errorf("S9: waits in mode %q: %s", mode, reason)
				}
			}
		})
	}
}

// secondHolder: node-c has failed, too.
func secondHolder(g *gateCase) {
	c := nodeA()
	c.Name = "node-c"
	g.view.Nodes["node-c"] = c
	g.view.Attachments = append([]*storagev1.VolumeAttachment{}, g.view.Attachments...)
	g.view.Attachments = append(g.view.Attachments, attachment("pv-1", "node-c"))
}

func TestUnprovenAsksCephAnew(t *testing.T) {
	t.Parallel()
	says := func(change ...func(*Cluster)) Cluster {
		c := Cluster{Known: true, Barrier: 10, Proven: map[string]uint32{"rbd": 10}, Map: ceph.OSDMap{
			Epoch: 10, Blocklist: map[ceph.Address]time.Time{ceph.MustParseAddress(deadClient): now.Add(entryTTL)},
		}}
		for _, f := range change {
			f(&c)
		}
		return c
	}
	for name, test := range map[string]struct {
		cluster Cluster
		missing string
	}{
		"proven":            {says(), ""},
		"the entry is gone": {says(func(c *Cluster) { c.Map.Blocklist = nil }), "not on the blocklist"},
		"the entry runs out": {says(func(c *Cluster) {
			c.Map.Blocklist = map[ceph.Address]time.Time{ceph.MustParseAddress(deadClient): now.Add(time.Minute)}
		}), "too soon to rely on"},
		"a placement group lags":    {says(func(c *Cluster) { c.Barrier, c.Proven, c.BarrierError = 0, nil, errors.New("pg 1.2 does not answer") }), "pg 1.2"},
		"Ceph does not answer":      {Cluster{Known: true, Error: errors.New("timed out")}, "timed out"},
		"no barrier was asked for":  {says(func(c *Cluster) { c.Barrier, c.Proven = 0, nil }), "not every OSD"},
		"another pool is confirmed": {says(func(c *Cluster) { c.Proven = map[string]uint32{"other": 10} }), "not every pool"},
		"the barrier is an old one": {says(func(c *Cluster) { c.Barrier, c.Proven = 9, map[string]uint32{"rbd": 9} }), "not every OSD"},
	} {
		t.Run("S1: "+name, func(t *testing.T) {
			t.Parallel()
			g := gate(isCutOff)
			missing := Unproven(now, Holders(g.view, g.volume)[0], g.view.Fences, test.cluster, []string{"rbd"})
			if (missing == "") != (test.missing == "") || !strings.Contains(missing, test.missing) {
				t.Errorf("missing is %q, want %q", missing, test.missing)
			}
		})
	}
}

func TestGated(t *testing.T) {
	t.Parallel()
	pod := &corev1.Pod{Spec: corev1.PodSpec{SchedulingGates: []corev1.PodSchedulingGate{{Name: "queue"}}}}
	if Gated(pod) {
		t.Error("another gate is taken for rbd-rescue's")
	}
	pod.Spec.SchedulingGates = append(pod.Spec.SchedulingGates, corev1.PodSchedulingGate{Name: v1alpha1.GateHeld})
	if !Gated(pod) {
		t.Error("the gate is not seen")
	}
}
