package policies

import (
	"context"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rbd-rescue/rbd-rescue/api/v1alpha1"
)

func node(name string, ready corev1.ConditionStatus, taints ...corev1.Taint) *corev1.Node {
	return &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"a": "b"}},
		Spec:       corev1.NodeSpec{Taints: taints},
		Status: corev1.NodeStatus{
			Conditions:   []corev1.NodeCondition{{Type: corev1.NodeMemoryPressure, Status: corev1.ConditionTrue}, {Type: corev1.NodeReady, Status: ready}},
			VolumesInUse: []corev1.UniqueVolumeName{"kubernetes.io/csi/rbd.csi.ceph.com^one", "kubernetes.io/csi/other.example.com^two", "kubernetes.io/csi/rook.rbd.csi.ceph.com^three"},
			NodeInfo:     corev1.NodeSystemInfo{BootID: "boot"},
		},
	}
}

var fenced = corev1.Taint{Key: "rbd-rescue.io/fenced", Effect: corev1.TaintEffectNoSchedule}

func persistentVolume(name string, annotations map[string]string) *corev1.PersistentVolume {
	return &corev1.PersistentVolume{
		ObjectMeta: metav1.ObjectMeta{Name: name, Annotations: annotations},
		Spec: corev1.PersistentVolumeSpec{
			Capacity:    corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("1Gi")},
			AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce},
			PersistentVolumeSource: corev1.PersistentVolumeSource{CSI: &corev1.CSIPersistentVolumeSource{
				Driver: "rbd.csi.ceph.com", VolumeHandle: name,
			}},
		},
	}
}

var recorded = map[string]string{"rbd-rescue.io/clients": `{"node-a":{}}`, "x": "y"}

func TestTheTaintIsRBDRescues(t *testing.T) {
	t.Parallel()
	other := corev1.Taint{Key: "other", Effect: corev1.TaintEffectNoSchedule}
	plain, tainted := node("taint-plain", corev1.ConditionTrue, other), node("taint-fenced", corev1.ConditionTrue, other, fenced)
	bare := node("taint-bare", corev1.ConditionTrue)
	made(t, plain, tainted, bare)
	const (
		ours      = "taint rbd-rescue.io/fenced is rbd-rescue's"
		fence     = `{"spec":{"taints":[{"key":"other","effect":"NoSchedule"},{"key":"rbd-rescue.io/fenced","effect":"NoSchedule"}]}}`
		unfence   = `{"spec":{"taints":[{"key":"other","effect":"NoSchedule"}]}}`
		fenceBare = `{"spec":{"taints":[{"key":"rbd-rescue.io/fenced","effect":"NoSchedule"}]}}`
	)
	try(t, by([]string{"operator", "overrider"}, map[string]attempt{
		"may cordon a fenced node":                  {do: merge(tainted, `{"spec":{"unschedulable":true}}`)},
		"may cordon a node without taints":          {do: merge(bare, `{"spec":{"unschedulable":true}}`)},
		"may label a fenced node":                   {do: merge(tainted, `{"metadata":{"labels":{"c":"d"}}}`)},
		"may write the status of a fenced node":     {do: mergeStatus(tainted, `{"status":{"phase":"Running"}}`)},
		"may take another taint from a fenced node": {do: merge(tainted, fenceBare)},
		"may give a fenced node another taint":      {do: merge(tainted, `{"spec":{"taints":[{"key":"third","effect":"NoSchedule"},{"key":"rbd-rescue.io/fenced","effect":"NoSchedule"}]}}`)},
		"may delete a fenced node":                  {do: remove(tainted)},
		"may make a node":                           {do: create(node("taint-new", corev1.ConditionTrue))},
	}))
	try(t, map[string]attempt{
		"no other may fence a node by its taint":           {as: "operator", do: merge(plain, fence), refused: ours},
		"no other may take the taint away":                 {as: "operator", do: merge(tainted, unfence), refused: ours},
		"no other may take all taints away":                {as: "operator", do: merge(tainted, `{"spec":{"taints":null}}`), refused: ours},
		"no other may change the taint":                    {as: "operator", do: merge(tainted, `{"spec":{"taints":[{"key":"rbd-rescue.io/fenced","effect":"NoExecute"}]}}`), refused: ours},
		"a status writes no taint":                         {as: "operator", do: mergeStatus(tainted, `{"spec":{"taints":null}}`)}, // the API server leaves the spec as it is
		"who may override takes the taint away":            {as: "overrider", do: merge(tainted, unfence)},
		"who has every right takes the taint away":         {as: "admin", do: merge(tainted, unfence)},
		"the remediator taints":                            {as: "remediator", do: merge(plain, fence)},
		"the remediator gives a bare node its first taint": {as: "remediator", do: merge(bare, fenceBare)},
		"the remediator takes the taint away":              {as: "remediator", do: merge(tainted, unfence)},
	})
}

func TestTheRecordIsRBDRescues(t *testing.T) {
	t.Parallel()
	plain, with := persistentVolume("record-plain", nil), persistentVolume("record-with", recorded)
	made(t, plain, with)
	const ours = "annotation rbd-rescue.io/clients is rbd-rescue's record"
	try(t, by([]string{"operator", "overrider"}, map[string]attempt{
		"may make a volume":                   {do: create(persistentVolume("record-new", nil))},
		"may annotate a volume with a record": {do: merge(with, `{"metadata":{"annotations":{"a":"b"}}}`)},
		"may take another annotation away":    {do: merge(with, `{"metadata":{"annotations":{"x":null}}}`)},
		"may annotate a volume without":       {do: merge(plain, `{"metadata":{"annotations":{"a":"b"}}}`)},
		"may change the spec of a volume":     {do: merge(with, `{"spec":{"persistentVolumeReclaimPolicy":"Retain"}}`)},
		"may write the status of a volume":    {do: mergeStatus(with, `{"status":{"phase":"Released"}}`)},
		"may delete a volume with its record": {do: remove(with)},
	}))
	try(t, map[string]attempt{
		"no other may make a volume with a record":                {as: "operator", do: create(persistentVolume("record-new", recorded)), refused: ours},
		"no other may write a record":                             {as: "operator", do: merge(plain, `{"metadata":{"annotations":{"rbd-rescue.io/clients":"{}"}}}`), refused: ours},
		"no other may change a record":                            {as: "operator", do: merge(with, `{"metadata":{"annotations":{"rbd-rescue.io/clients":"{}"}}}`), refused: ours},
		"no other may take a record away":                         {as: "operator", do: merge(with, `{"metadata":{"annotations":{"rbd-rescue.io/clients":null}}}`), refused: ours},
		"no other may take all annotations away":                  {as: "operator", do: merge(with, `{"metadata":{"annotations":null}}`), refused: ours},
		"no other may write a record by a status":                 {as: "operator", do: mergeStatus(plain, `{"metadata":{"annotations":{"rbd-rescue.io/clients":"{}"}}}`), refused: ours},
		"who may override takes a record that can't be read away": {as: "overrider", do: merge(with, `{"metadata":{"annotations":{"rbd-rescue.io/clients":null}}}`)},
		"who may override restores a volume with its record":      {as: "overrider", do: create(persistentVolume("record-new", recorded))},
		"the remediator writes a record":                          {as: "remediator", do: merge(plain, `{"metadata":{"annotations":{"rbd-rescue.io/clients":"{}"}}}`)},
		"the remediator changes a record":                         {as: "remediator", do: merge(with, `{"metadata":{"annotations":{"rbd-rescue.io/clients":"{}"}}}`)},
	})
}

func nodeFence(name string, change func(*v1alpha1.NodeFence)) *v1alpha1.NodeFence {
	nf := &v1alpha1.NodeFence{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: v1alpha1.NodeFenceSpec{NodeName: "node-a"}}
	if change != nil {
		change(nf)
	}
	return nf
}

func TestWhatANodeFenceSaysIsRBDRescues(t *testing.T) {
	t.Parallel()
	nf := nodeFence("status", func(nf *v1alpha1.NodeFence) {
		nf.Finalizers = []string{"rbd-rescue.io/fence"}
		nf.Annotations = map[string]string{"a": "b"}
	})
	fresh := nodeFence("status-fresh", nil)
	made(t, nf, fresh)
	const (
		status    = "the status of a NodeFence is rbd-rescue's alone"
		finalizer = "finalizer rbd-rescue.io/fence is rbd-rescue's"
	)
	try(t, by([]string{"operator", "overrider"}, map[string]attempt{
		"may make a NodeFence":                   {do: create(nodeFence("status-new", nil))},
		"may say that a boot is over":            {do: merge(nf, `{"metadata":{"annotations":{"rbd-rescue.io/lift":"boot"}}}`)},
		"may delete a NodeFence":                 {do: remove(nf)},
		"may give a NodeFence another finalizer": {do: merge(nf, `{"metadata":{"finalizers":["rbd-rescue.io/fence","example.com/x"]}}`)},
		"may not write the status":               {do: mergeStatus(nf, `{"status":{"phase":"Lifted"}}`), refused: status},
	}))
	try(t, map[string]attempt{
		"not even who has every right writes the status": {as: "admin", do: mergeStatus(nf, `{"status":{"phase":"Lifted"}}`), refused: status},
		"no other may let a NodeFence go":                {as: "operator", do: merge(nf, `{"metadata":{"finalizers":null}}`), refused: finalizer},
		"no other may keep a NodeFence":                  {as: "operator", do: merge(fresh, `{"metadata":{"finalizers":["rbd-rescue.io/fence"]}}`), refused: finalizer},
		"who may override lets a NodeFence go":           {as: "overrider", do: merge(nf, `{"metadata":{"finalizers":null}}`)},
		"the remediator writes the status": {as: "remediator", do: func(ctx context.Context, c client.Client) error {
			u := nf.DeepCopy()
			u.Status.Phase = v1alpha1.PhaseFencing
			return c.Status().Update(ctx, u)
		}},
		"the remediator keeps a NodeFence":   {as: "remediator", do: merge(fresh, `{"metadata":{"finalizers":["rbd-rescue.io/fence"]}}`)},
		"the remediator lets a NodeFence go": {as: "remediator", do: merge(nf, `{"metadata":{"finalizers":null}}`)},
	})
}
