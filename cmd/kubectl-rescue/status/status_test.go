package status

import (
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	clocktesting "k8s.io/utils/clock/testing"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/rbd-rescue/rbd-rescue/api/v1alpha1"
)

var now = time.Date(2026, 11, 23, 3, 0, 0, 0, time.UTC)

// node is one whose Ready condition turned an hour ago.
func node(name string, ready corev1.ConditionStatus) *corev1.Node {
	return &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: name, UID: types.UID(name)},
		Status: corev1.NodeStatus{
			Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: ready, Reason: "NodeStatusUnknown", LastTransitionTime: metav1.NewTime(now.Add(-time.Hour))}},
			NodeInfo:   corev1.NodeSystemInfo{BootID: "boot-" + name, MachineID: name},
		},
	}
}

// attached is a volume of a pod on a node, with this record on its PersistentVolume.
func attached(namespace, claim, on, record string) []client.Object {
	name := "pv-" + namespace + "-" + claim
	return []client.Object{
		&corev1.PersistentVolume{
			ObjectMeta: metav1.ObjectMeta{Name: name, Annotations: map[string]string{v1alpha1.AnnotationClients: record}},
			Spec: corev1.PersistentVolumeSpec{
				AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce},
				ClaimRef:    &corev1.ObjectReference{Namespace: namespace, Name: claim},
				PersistentVolumeSource: corev1.PersistentVolumeSource{CSI: &corev1.CSIPersistentVolumeSource{
					Driver: "rbd.csi.ceph.com", VolumeHandle: name,
					VolumeAttributes: map[string]string{"clusterID": "c1", "pool": "rbd", "imageName": "img-" + claim},
				}},
			},
		},
		&corev1.PersistentVolumeClaim{
			ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: claim}, Spec: corev1.PersistentVolumeClaimSpec{VolumeName: name},
		},
		&storagev1.VolumeAttachment{
			ObjectMeta: metav1.ObjectMeta{Name: "va-" + name},
			Spec:       storagev1.VolumeAttachmentSpec{Attacher: "rbd.csi.ceph.com", NodeName: on, Source: storagev1.VolumeAttachmentSource{PersistentVolumeName: &name}},
			Status:     storagev1.VolumeAttachmentStatus{Attached: true},
		},
		&corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: claim + "-0", UID: types.UID("pod-" + claim)},
			Spec: corev1.PodSpec{NodeName: on, Volumes: []corev1.Volume{{Name: "data", VolumeSource: corev1.VolumeSource{
				PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: claim},
			}}}},
			Status: corev1.PodStatus{Phase: corev1.PodRunning},
		},
	}
}

func namespace(name string, annotations map[string]string) *corev1.Namespace {
	return &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name, Annotations: annotations}}
}

func lookAt(t *testing.T, objects ...client.Object) Status {
	t.Helper()
	kinds := runtime.NewScheme()
	if err := clientgoscheme.AddToScheme(kinds); err != nil {
		t.Fatal(err)
	}
	if err := v1alpha1.AddToScheme(kinds); err != nil {
		t.Fatal(err)
	}
	s, err := Look(t.Context(), fake.NewClientBuilder().WithScheme(kinds).WithObjects(objects...).Build(), "rbd-rescue", clocktesting.NewFakePassiveClock(now))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func record(on, boot, claim string) string {
	return `{"` + on + `":{"bootID":"` + boot + `","clients":["10.0.0.1:0/42"],"pods":["pod-` + claim + `"]}}`
}

// world has a node that is well, one that has failed, one that is fenced and one that is paused.
func world() []client.Object {
	paused := node("node-p", corev1.ConditionTrue)
	paused.Annotations = map[string]string{v1alpha1.AnnotationPaused: "true", v1alpha1.AnnotationPausedBy: "anna", v1alpha1.AnnotationPausedReason: "new disk"}
	waits := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{
		Namespace: "shop", Name: "next", Labels: map[string]string{v1alpha1.LabelHeld: "true"},
		Annotations: map[string]string{v1alpha1.AnnotationHeldVolumes: `[{"claim":"shop/failed","volume":"pv","node":"node-f"}]`},
	}}
	objects := []client.Object{
		node("node-a", corev1.ConditionTrue), node("node-f", corev1.ConditionUnknown), node("node-x", corev1.ConditionUnknown), paused, waits,
		namespace("rbd-rescue", map[string]string{v1alpha1.AnnotationPaused: "true"}),
		namespace("shop", map[string]string{v1alpha1.AnnotationMode: "rescue"}), namespace("web", nil),
		&corev1.ConfigMap{
			ObjectMeta: metav1.ObjectMeta{Namespace: "rbd-rescue", Name: "rbd-rescue-remediator"},
			Data: map[string]string{"config.yaml": `{apiVersion: config.rbd-rescue.io/v1alpha1, kind: RemediatorConfiguration, maxFailedNodes: 1,
				cephClusters: [{clusterID: c1, user: u, keyFile: /k, monitors: ["10.0.0.9:6789"]}]}`},
		},
		&v1alpha1.NodeFence{
			ObjectMeta: metav1.ObjectMeta{Name: "node-x-1"}, Spec: v1alpha1.NodeFenceSpec{NodeName: "node-x", BootID: "boot-node-x"},
			Status: v1alpha1.NodeFenceStatus{
				Phase: v1alpha1.PhaseReleasing, Progress: "0/1", Message: "moving", Clients: []v1alpha1.FencedClient{{ClusterID: "c1", Address: "10.0.0.3:0/7"}},
				Volumes:    []v1alpha1.FencedVolume{{PersistentVolume: "pv-x", Claim: "shop/x", Image: "rbd/x", Phase: v1alpha1.VolumeReleasing}},
				Neighbours: []v1alpha1.Neighbour{{PersistentVolume: "pv-y", Claim: "web/y"}},
			},
		},
	}
	for _, more := range [][]client.Object{
		attached("shop", "fresh", "node-a", record("node-a", "boot-node-a", "fresh")),
		attached("shop", "stale", "node-a", record("node-a", "boot-before", "stale")),
		attached("shop", "none", "node-a", ""),
		attached("shop", "older", "node-a", record("node-a", "boot-node-a", "another")),
		attached("web", "files", "node-a", record("node-a", "boot-node-a", "files")),
		attached("shop", "failed", "node-f", record("node-f", "boot-node-f", "failed")),
	} {
		objects = append(objects, more...)
	}
	return objects
}

func TestStatusTellsWhatIsSo(t *testing.T) {
	t.Parallel()
	s := lookAt(t, world()...)
	since := new(metav1.NewTime(now.Add(-time.Hour)))
	want := Status{
		At: now, Namespace: "rbd-rescue", Paused: &Pause{},
		Breaker: Breaker{Open: true, Nodes: 4, Failed: 2, MaxFailedNodes: "1"},
		Nodes: []Node{
			{
				Name: "node-f", State: "Failed", Since: since, Next: "no held volume is wanted elsewhere by a namespace in mode rescue",
				Volumes: []Volume{{
					Claim: "shop/failed", PersistentVolume: "pv-shop-failed", Image: "rbd/img-failed", Phase: "Held",
					WaitsFor: "pod shop/failed-0 uses it on node node-f and is not being deleted",
				}},
			},
			{Name: "node-p", State: "Ready", Since: since, Paused: &Pause{By: "anna", Reason: "new disk"}, Next: "the node has not failed"},
			{
				Name: "node-x", State: "Failed", Since: since, Next: "moving",
				Fence: &Fence{Name: "node-x-1", Phase: "Releasing", Progress: "0/1", Clients: []string{"10.0.0.3:0/7"}},
				Volumes: []Volume{
					{Claim: "shop/x", PersistentVolume: "pv-x", Image: "rbd/x", Phase: "Releasing"},
					{Claim: "web/y", PersistentVolume: "pv-y", Phase: "Neighbour", WaitsFor: "cut off as well; stays on the node"},
				},
			},
		},
		Waiting: []Pod{{Namespace: "shop", Name: "next", WaitsFor: []string{"claim shop/failed on node node-f"}}},
		Protection: Protection{
			Attached: 6, Recorded: 2,
			Unrecorded: []Unprotected{
				{Claim: "shop/none", PersistentVolume: "pv-shop-none", Node: "node-a", Why: "no Ceph client is on record"},
				{Claim: "shop/older", PersistentVolume: "pv-shop-older", Node: "node-a", Why: "the record is older than pod shop/older-0"},
				{Claim: "shop/stale", PersistentVolume: "pv-shop-stale", Node: "node-a", Why: "the record is of an earlier boot"},
			},
			NotOptedIn: []Unprotected{{Claim: "web/files", PersistentVolume: "pv-web-files", Node: "node-a", Why: "namespace web is in no mode"}},
		},
	}
	if diff := cmp.Diff(want, s, cmpopts.EquateEmpty()); diff != "" {
		t.Error(diff)
	}
}

func TestStatusTellsWhatANodeFenceThatNobodyBeganIsAbout(t *testing.T) {
	t.Parallel()
	objects := append(attached("shop", "failed", "node-f", record("node-f", "boot-node-f", "failed")),
		node("node-f", corev1.ConditionUnknown), namespace("shop", map[string]string{v1alpha1.AnnotationMode: "rescue"}),
		&v1alpha1.NodeFence{
			ObjectMeta: metav1.ObjectMeta{Name: "node-f-1"}, Spec: v1alpha1.NodeFenceSpec{NodeName: "node-f", BootID: "boot-node-f"},
		})
	s := lookAt(t, objects...)
	if len(s.Nodes) != 1 || !strings.Contains(s.Nodes[0].Next, "no remediator has begun with NodeFence node-f-1") {
		t.Fatalf("nodes %+v", s.Nodes)
	}
	if volumes := s.Nodes[0].Volumes; len(volumes) != 1 || volumes[0].Claim != "shop/failed" || volumes[0].Phase != "Held" {
		t.Errorf("volumes %+v", volumes)
	}
}

func TestStatusTextNamesEverything(t *testing.T) {
	t.Parallel()
	s := lookAt(t, world()...)
	var text, wide strings.Builder
	if err := s.Text(&text, false); err != nil {
		t.Fatal(err)
	}
	if err := s.Text(&wide, true); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"OPEN, nothing new is fenced", "Paused:  yes", "yes, by anna: new disk", "node-x-1", "shop/next", "shop/stale"} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("does not say %q:\n%s", want, text.String())
		}
	}
	for _, want := range []string{"10.0.0.3:0/7", "web/files", "rbd/img-failed"} {
		if !strings.Contains(wide.String(), want) || strings.Contains(text.String(), want) {
			t.Errorf("%q is not for wide alone:\n%s", want, wide.String())
		}
	}
}

func TestStatusSaysWhatItCannotTell(t *testing.T) {
	t.Parallel()
	s := lookAt(t, node("node-a", corev1.ConditionTrue))
	if len(s.Notes) != 2 || !strings.Contains(s.Notes[0], "defaults are assumed") || !strings.Contains(s.Notes[1], "--rescue-namespace") {
		t.Errorf("notes %q", s.Notes)
	}
}
