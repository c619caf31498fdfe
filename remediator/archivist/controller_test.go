package archivist

import (
	"context"
	"errors"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/tools/events"
	clocktesting "k8s.io/utils/clock/testing"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/rbd-rescue/rbd-rescue/api/v1alpha1"
	"github.com/rbd-rescue/rbd-rescue/ceph"
	"github.com/rbd-rescue/rbd-rescue/ceph/cephtest"
	"github.com/rbd-rescue/rbd-rescue/manifests"
	"github.com/rbd-rescue/rbd-rescue/remediator/announce"
)

var (
	image = ceph.Image{Pool: "rbd", Name: "img"}
	noon  = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
)

// archive is a volume of an opted-in namespace, and an archivist.
type archive struct {
	*testing.T
	namespace  *corev1.Namespace
	pv         *corev1.PersistentVolume
	claim      *corev1.PersistentVolumeClaim
	storage    *cephtest.Cluster
	told       *events.FakeRecorder
	api        client.Client
	controller *Controller
}

func begin(t *testing.T, change func(*archive)) *archive {
	t.Helper()
	clock := clocktesting.NewFakeClock(noon)
	a := &archive{
		T: t, storage: cephtest.New(clock), told: events.NewFakeRecorder(10),
		namespace: &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "shop", Annotations: map[string]string{v1alpha1.AnnotationMode: "rescue"}}},
		pv: &corev1.PersistentVolume{
			ObjectMeta: metav1.ObjectMeta{Name: "pv", UID: "uid-pv"},
			Spec: corev1.PersistentVolumeSpec{
				AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce}, ClaimRef: &corev1.ObjectReference{Namespace: "shop", Name: "data", UID: "uid-claim"},
				PersistentVolumeSource: corev1.PersistentVolumeSource{CSI: &corev1.CSIPersistentVolumeSource{
					Driver: "rbd.csi.ceph.com", VolumeHandle: "h",
					VolumeAttributes: map[string]string{"clusterID": "c1", "pool": image.Pool, "imageName": image.Name},
				}},
			},
		},
		claim: &corev1.PersistentVolumeClaim{
			ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "data", UID: "uid-claim"}, Spec: corev1.PersistentVolumeClaimSpec{VolumeName: "pv"},
		},
	}
	if change != nil {
		change(a)
	}
	scheme := runtime.NewScheme()
	if err := clientgoscheme.AddToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	a.api = fake.NewClientBuilder().WithScheme(scheme).WithObjects(a.namespace, a.pv, a.claim).Build()
	a.controller = &Controller{
		Client: a.api, Live: a.api, Announcer: announce.New(a.told, clock), Clock: clock, Namespace: "rbd-rescue",
		Clusters: ceph.NewClusters(map[string]ceph.Dial{"c1": func(context.Context) (ceph.Conn, error) { return a.storage, nil }}),
	}
	return a
}

func (a *archive) look() (reconcile.Result, error) {
	return a.controller.Reconcile(a.Context(), reconcile.Request{NamespacedName: client.ObjectKey{Name: "pv"}})
}

func (a *archive) mustLook() {
	a.Helper()
	if result, err := a.look(); err != nil || result.RequeueAfter != 0 {
		a.Fatalf("got %+v, %v", result, err)
	}
}

func (a *archive) writes() int {
	return len(slices.DeleteFunc(a.storage.Calls(), func(call string) bool { return call != "set image metadata" }))
}

func (a *archive) kept() *manifests.Manifests {
	a.Helper()
	text := a.storage.Metadata(image, manifests.Key)
	if text == "" {
		return nil
	}
	m, err := manifests.Decode(text)
	if err != nil {
		a.Fatal(err)
	}
	return &m
}

// events are what was told so far.
func (a *archive) events() []string {
	var list []string
	for {
		select {
		case event := <-a.told.Events:
			list = append(list, event)
		default:
			return list
		}
	}
}

func TestManifestsAreKeptWithTheImageAndWrittenOnlyWhenTheyHaveChanged(t *testing.T) {
	t.Parallel()
	a := begin(t, nil)
	a.mustLook()
	want := manifests.Of(a.pv, a.claim)
	if kept := a.kept(); kept == nil || !kept.Same(want) || !kept.SavedAt.Time.Equal(noon) {
		t.Fatalf("kept %+v", a.kept())
	}
	a.mustLook()
	if a.writes() != 1 {
		t.Errorf("written %d times", a.writes())
	}
	a.pv.Annotations = map[string]string{v1alpha1.AnnotationClients: `{"a":{"bootID":"boot-1","clients":["10.0.0.1:0/42"]}}`}
	if err := a.api.Update(t.Context(), a.pv); err != nil {
		t.Fatal(err)
	}
	a.mustLook()
	if diff := cmp.Diff([]string{"10.0.0.1:0/42"}, a.kept().Clients["a"].Clients); diff != "" || a.writes() != 2 {
		t.Errorf("written %d times; the record (-want +got):\n%s", a.writes(), diff)
	}
	if told := a.events(); len(told) > 0 {
		t.Errorf("told %v", told)
	}
}

func TestManifestsAreNotKept(t *testing.T) {
	t.Parallel()
	going := func(o client.Object) {
		o.SetDeletionTimestamp(&metav1.Time{Time: noon})
		o.SetFinalizers([]string{"kubernetes.io/pv-protection"})
	}
	for name, change := range map[string]func(*archive){
		"of a namespace that has not opted in":  func(a *archive) { a.namespace.Annotations = nil },
		"of a namespace whose mode is a typo":   func(a *archive) { a.namespace.Annotations[v1alpha1.AnnotationMode] = "rescu" },
		"of a volume that is no RBD image":      func(a *archive) { a.pv.Spec.CSI.Driver = "other" },
		"of a volume whose image can't be told": func(a *archive) { a.pv.Spec.CSI.VolumeAttributes = nil },
		"of an unknown cluster":                 func(a *archive) { a.pv.Spec.CSI.VolumeAttributes["clusterID"] = "c2" },
		"of a volume that is not bound":         func(a *archive) { a.pv.Spec.ClaimRef = nil },
		"of a volume whose claim is gone":       func(a *archive) { a.pv.Status.Phase = corev1.VolumeReleased },
		"of a volume that is being deleted":     func(a *archive) { going(a.pv) },
		"of a claim that is being deleted":      func(a *archive) { going(a.claim) },
		"of another claim of that name":         func(a *archive) { a.claim.UID = "uid-other" },
		"of a claim of another volume":          func(a *archive) { a.claim.Spec.VolumeName = "other" },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := begin(t, change)
			a.mustLook()
			if a.kept() != nil || len(a.events()) > 0 {
				t.Errorf("kept %+v", a.kept())
			}
		})
	}
}

func TestARightThatIsMissingIsToldOnceAndTriedAgainLater(t *testing.T) {
	t.Parallel()
	a := begin(t, nil)
	refused := &ceph.CommandError{Command: "set image metadata", Errno: syscall.EPERM}
	for range 2 {
		a.storage.FailNext("set image metadata", refused)
		if result, err := a.look(); err != nil || result.RequeueAfter != refusedAgain {
			t.Errorf("got %+v, %v", result, err)
		}
	}
	told := a.events()
	if len(told) != 1 || !strings.Contains(told[0], "Warning ManifestsNotKept") || !strings.Contains(told[0], "allow rwx pool=rbd object_prefix rbd_header.") {
		t.Errorf("told %v", told)
	}
	a.mustLook()
	if a.kept() == nil {
		t.Error("not kept once Ceph lets it")
	}
	a.storage.FailNext("set image metadata", refused)
	a.claim.Labels = map[string]string{"app": "db"}
	if err := a.api.Update(t.Context(), a.claim); err != nil {
		t.Fatal(err)
	}
	if _, err := a.look(); err != nil || len(a.events()) != 0 {
		// The announcer drops what it has told within the hour.
		t.Errorf("told again at once: %v", err)
	}
}

func TestManifestsThatAreTooLargeAreToldOnTheClaim(t *testing.T) {
	t.Parallel()
	a := begin(t, func(a *archive) { a.claim.Annotations = map[string]string{"note": strings.Repeat("x", 40<<10)} })
	for range 2 {
		if result, err := a.look(); err != nil || result.RequeueAfter != refusedAgain {
			t.Errorf("got %+v, %v", result, err)
		}
	}
	if told := a.events(); len(told) != 1 || !strings.Contains(told[0], "shop/data") || a.kept() != nil {
		t.Errorf("told %v", told)
	}
}

func TestCephThatDoesNotAnswerIsTriedAgain(t *testing.T) {
	t.Parallel()
	for _, call := range []string{"inspect", "set image metadata"} {
		t.Run(call, func(t *testing.T) {
			t.Parallel()
			a := begin(t, nil)
			a.storage.FailNext(call, ceph.ErrInDoubt)
			if _, err := a.look(); !errors.Is(err, ceph.ErrInDoubt) {
				t.Errorf("got %v", err)
			}
			a.mustLook()
			if a.kept() == nil {
				t.Error("not kept")
			}
		})
	}
}

func TestANamespaceThatOptsInHasItsVolumesLookedAt(t *testing.T) {
	t.Parallel()
	a := begin(t, nil)
	want := []reconcile.Request{{NamespacedName: client.ObjectKey{Name: "pv"}}}
	if diff := cmp.Diff(want, a.controller.ofNamespace(t.Context(), a.namespace)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	a.namespace.Annotations = nil
	if got := a.controller.ofNamespace(t.Context(), a.namespace); len(got) > 0 {
		t.Errorf("a namespace that has not: %v", got)
	}
}
