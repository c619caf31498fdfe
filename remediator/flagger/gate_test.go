package flagger

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rbd-rescue/rbd-rescue/api/v1alpha1"
	"github.com/rbd-rescue/rbd-rescue/ceph"
)

const deadClient = "10.0.0.1:0/42"

func gated(pod *corev1.Pod) {
	unscheduled(pod)
	pod.Spec.SchedulingGates = []corev1.PodSchedulingGate{{Name: "queue"}, {Name: v1alpha1.GateHeld}}
}

func unscheduled(pod *corev1.Pod) {
	pod.Spec.NodeName = ""
	pod.Status.Phase = corev1.PodPending
}

func running(pod *corev1.Pod) { pod.Status.Phase = corev1.PodRunning }

func readWriteMany(o *others) {
	o.pv.Spec.AccessModes = []corev1.PersistentVolumeAccessMode{corev1.ReadWriteMany}
}

func noAttachmentRequired() *storagev1.CSIDriver {
	return &storagev1.CSIDriver{ObjectMeta: metav1.ObjectMeta{Name: "rbd.csi.ceph.com"}, Spec: storagev1.CSIDriverSpec{AttachRequired: new(false)}}
}

func podOnNodeA() *corev1.Pod {
	return waitingPod(unflagged(), running, func(pod *corev1.Pod) { pod.Name, pod.UID, pod.Spec.NodeName = "db-old", "old", "node-a" })
}

// noTrace: nothing is attached.
func noTrace(o *others) { o.attachment = nil }

// fenced is what the rescuer writes with the proof at hand, and what Ceph then says.
func fenced(o *others) {
	readWriteMany(o)
	o.fence.Spec.NodeName = "node-a"
	o.fence.Status.Phase = v1alpha1.PhaseReleasing
	o.fence.Status.Volumes = []v1alpha1.FencedVolume{{PersistentVolume: "pv", Phase: v1alpha1.VolumeReleasing, Clients: []string{deadClient}}}
	o.fence.Status.Clients = []v1alpha1.FencedClient{{ClusterID: "c1", Address: deadClient, Epoch: 10}}
	o.ceph.Tamper(ceph.MustParseAddress(deadClient), clock.Now().Add(3650*24*time.Hour))
}

// fencedBut changes what is so after the rescuer's proof.
func fencedBut(change func(*others)) func(*others) {
	return func(o *others) {
		fenced(o)
		change(o)
	}
}

// refused: no fence could be begun, and then the last trace of what the node holds went.
func refused(o *others) {
	readWriteMany(o)
	noTrace(o)
	o.node = nil
	o.fence.Spec.NodeName = "node-a"
	o.fence.Status.Phase = v1alpha1.PhaseRefused
	o.fence.Status.Volumes = []v1alpha1.FencedVolume{{PersistentVolume: "pv", Phase: v1alpha1.VolumeRefused}}
}

// notBoundYet: claim and volume were made anew by hand.
func notBoundYet(o *others) {
	readWriteMany(o)
	o.claim.Spec.VolumeName = ""
}

func TestTheGateIsOpened(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		cluster cluster
		open    bool
	}{
		"S1: not while the node is not fenced":                    {cluster: cluster{change: readWriteMany}},
		"S1: not while the kubelet answers, but is not ready":     {cluster: cluster{ready: corev1.ConditionFalse, change: readWriteMany}},
		"S1: not when Kubernetes has forgotten what the node has": {cluster: cluster{change: refused}},
		"S1: not while the claim is not bound, but its volume is": {cluster: cluster{change: notBoundYet}},
		"S1: not by a proof that is over, since somebody removed the entry": {cluster: cluster{change: fencedBut(func(o *others) {
			o.ceph.Tamper(ceph.MustParseAddress(deadClient), time.Time{})
		})}},
		"S1: not while a placement group is behind": {cluster: cluster{change: fencedBut(func(o *others) {
			o.ceph.LagPlacementGroup("rbd", 3, true)
			o.ceph.Tamper(ceph.MustParseAddress(deadClient), clock.Now().Add(3649*24*time.Hour))
		})}},
		"S1: not while Ceph does not answer": {cluster: cluster{change: fencedBut(func(o *others) {
			o.ceph.FailWith(func(string) error { return errors.New("timed out") })
		})}},
		"S1: not for a volume that needs no attachment, while a pod uses it on the failed node": {
			cluster: cluster{change: noTrace, more: []client.Object{noAttachmentRequired(), podOnNodeA()}},
		},
		"once the fence is proven":                {cluster: cluster{change: fenced}, open: true},
		"once it is proven and no trace is left":  {cluster: cluster{change: fencedBut(noTrace)}, open: true},
		"S9: when the node is Ready again":        {cluster: cluster{ready: corev1.ConditionTrue, change: readWriteMany}, open: true},
		"S9: when the namespace opts out":         {cluster: cluster{mode: "off", change: readWriteMany}, open: true},
		"S9: when the namespace only observes":    {cluster: cluster{mode: "observe", change: readWriteMany}, open: true},
		"S9: of a pod whose volumes need none":    {open: true},
		"S9: when nobody holds the volume at all": {cluster: cluster{change: func(o *others) { readWriteMany(o); noTrace(o) }}, open: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			in := test.cluster
			in.pod = waitingPod(unflagged(), gated)
			if in.mode == "" {
				in.mode = "rescue"
			}
			if in.ready == "" {
				in.ready = corev1.ConditionUnknown
			}
			writes := 0
			c, recorder := in.controller(t, &writes, nil)
			again := time.Duration(0)
			for range 2 {
				result, err := c.Reconcile(t.Context(), allFlags)
				if err != nil {
					t.Fatal(err)
				}
				again = result.RequeueAfter
			}
			checkGate(t, c, test.open)
			if (again == 0) != test.open {
				t.Errorf("S9: looked at again after %s", again)
			}
			told := map[string]bool{}
			for len(recorder.Events) > 0 {
				told[strings.Fields(<-recorder.Events)[1]] = true
			}
			if told[v1alpha1.ReasonGateOpened] != test.open || told[v1alpha1.ReasonGateClosed] == test.open {
				t.Errorf("told %v", told)
			}
		})
	}
}

func checkGate(t *testing.T, c *Controller, open bool) {
	t.Helper()
	pod := &corev1.Pod{}
	if err := c.Client.Get(t.Context(), client.ObjectKey{Namespace: "shop", Name: "db-0"}, pod); err != nil {
		t.Fatal(err)
	}
	want := 2
	if open {
		want = 1
	}
	if gates := pod.Spec.SchedulingGates; len(gates) != want || gates[0].Name != "queue" {
		t.Errorf("the gates are %v, want %d", gates, want)
	}
}

// stale is a cache that has not heard yet that a node has failed, nor that a namespace opted in.
type stale struct{ client.Client }

func (s stale) List(ctx context.Context, list client.ObjectList, options ...client.ListOption) error {
	err := s.Client.List(ctx, list, options...)
	if nodes, ok := list.(*corev1.NodeList); ok {
		for i := range nodes.Items {
			nodes.Items[i].Status.Conditions[0].Status = corev1.ConditionTrue
		}
	}
	return err
}

func (s stale) Get(ctx context.Context, key client.ObjectKey, o client.Object, options ...client.GetOption) error {
	err := s.Client.Get(ctx, key, o, options...)
	if namespace, ok := o.(*corev1.Namespace); ok {
		namespace.Annotations = nil
	}
	return err
}

func TestAStaleCacheOpensNoGate(t *testing.T) {
	t.Parallel()
	writes := 0
	c, _ := cluster{
		mode: "rescue", ready: corev1.ConditionUnknown, pod: waitingPod(unflagged(), gated), change: readWriteMany,
	}.controller(t, &writes, nil)
	c.Client = stale{c.Client}
	if _, err := c.Reconcile(t.Context(), allFlags); err != nil {
		t.Fatal(err)
	}
	checkGate(t, c, false)
}

// unbound is a cache that has not heard yet that a claim was bound to another volume.
type unbound struct{ client.Reader }

func (u unbound) List(ctx context.Context, list client.ObjectList, options ...client.ListOption) error {
	err := u.Reader.List(ctx, list, options...)
	if volumes, ok := list.(*corev1.PersistentVolumeList); ok {
		volumes.Items = nil
	}
	return err
}

func (u unbound) Get(ctx context.Context, key client.ObjectKey, o client.Object, options ...client.GetOption) error {
	if _, ok := o.(*corev1.PersistentVolume); ok {
		return apierrors.NewNotFound(corev1.Resource("persistentvolumes"), key.Name)
	}
	err := u.Reader.Get(ctx, key, o, options...)
	if claim, ok := o.(*corev1.PersistentVolumeClaim); ok {
		claim.Spec.VolumeName = ""
	}
	return err
}

func TestACacheThatDoesNotKnowThePodsVolumeOpensNoGate(t *testing.T) {
	t.Parallel()
	writes := 0
	c, _ := cluster{
		mode: "rescue", ready: corev1.ConditionUnknown, pod: waitingPod(unflagged(), gated), change: readWriteMany,
	}.controller(t, &writes, nil)
	c.Observer.Reader = unbound{c.Observer.Reader}
	if _, err := c.Reconcile(t.Context(), allFlags); err == nil || !strings.Contains(err.Error(), "PersistentVolume pv is not in the cache yet") {
		t.Errorf("S1: %v", err)
	}
	checkGate(t, c, false)
}
