package e2e

import (
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/rbd-rescue/rbd-rescue/api/v1alpha1"
	"github.com/rbd-rescue/rbd-rescue/e2e/lab"
	"github.com/rbd-rescue/rbd-rescue/e2e/lab/network"
	"github.com/rbd-rescue/rbd-rescue/volume"
)

// A ReadWriteMany block volume: Kubernetes would start the new pod beside the old writer. It is gated until the fence is
// proven, which takes until Ceph's monitor is back.
func TestReadWriteManyBlockIsGatedUntilTheFence(t *testing.T) {
	s := beginApart(t, "apart-c", v1alpha1.ModeRescue)
	vm := s.sharedDisk(s.node)
	s.must(s.ceph.StopMon(s.ctx))
	s.must(s.lab.Nodes[s.node].KillKubelet()) // its writer goes on
	s.gated(vm)
	s.told(v1alpha1.ReasonGateClosed, "Pod", vm.Name)
	s.never(5*time.Second, "scheduled", func() (bool, error) { return s.gatedPod(vm) == nil, nil })
	s.must(s.ceph.StartMon(s.ctx))
	s.runsElsewhere(vm, s.node)
	s.told(v1alpha1.ReasonGateOpened, "Pod", vm.Name)
	s.wrote(vm, s.node)
	s.refused(vm, s.node)
	s.reaches(s.node, v1alpha1.PhaseRecovered)
	s.proveData(vm)
}

// The node is Ready again before anything was fenced: the gate has no reason any more (S9).
func TestGateIsOpenedWhenTheNodeIsBack(t *testing.T) {
	s := beginApart(t, "apart-c", v1alpha1.ModeRescue)
	vm := s.sharedDisk(s.node)
	s.must(s.ceph.StopMon(s.ctx))
	s.must(s.lab.Network.Cut(s.ctx, s.node, network.API))
	s.gated(vm)
	s.must(s.lab.Network.Restore(s.ctx, s.node))
	s.eventually(soon, "the gate is open", func() (bool, error) { return s.gatedPod(vm) == nil, nil })
	node, err := s.lab.Node(s.ctx, s.node)
	s.must(err)
	if !volume.Ready(node) {
		t.Errorf("opened while %s is not Ready and nothing is fenced", s.node)
	}
	s.must(s.ceph.StartMon(s.ctx))
	s.eventually(soon, "vm runs", func() (bool, error) {
		node, err := vm.RunsOn(s.ctx)
		return node != "", err
	})
	// No data check: where all is well Kubernetes lets an old and a new pod of a ReadWriteMany volume overlap, and so may this.
}

func (s *scenario) sharedDisk(on string) *lab.Workload {
	s.Helper()
	return s.workloadOf(lab.WorkloadOptions{Namespace: s.namespace, Name: "vm", On: on, Patience: patience, ReadWriteMany: true})
}

// gatedPod is the application's pod that waits behind the gate; nil for none.
func (s *scenario) gatedPod(w *lab.Workload) *corev1.Pod {
	s.Helper()
	for _, pod := range s.pods(w) {
		if len(pod.Spec.SchedulingGates) > 0 {
			return &pod
		}
	}
	return nil
}

func (s *scenario) gated(w *lab.Workload) {
	s.Helper()
	s.eventually(soon, w.Name+" waits behind the gate", func() (bool, error) { return s.gatedPod(w) != nil, nil })
	s.told(v1alpha1.ReasonVolumeHeld, "Pod", w.Name)
}
