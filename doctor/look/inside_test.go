package look

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/rbd-rescue/rbd-rescue/api/v1alpha1"
	"github.com/rbd-rescue/rbd-rescue/ceph"
	"github.com/rbd-rescue/rbd-rescue/ceph/cephtest"
	"github.com/rbd-rescue/rbd-rescue/doctor"
)

func attached() []client.Object {
	volume := func(name string, attributes map[string]string) *corev1.PersistentVolume {
		return &corev1.PersistentVolume{
			ObjectMeta: metav1.ObjectMeta{Name: name, Annotations: map[string]string{
				v1alpha1.AnnotationClients: `{"a":{"bootID":"boot","clients":["10.0.0.1:0/11"],"pods":["pod"]}}`,
			}},
			Spec: corev1.PersistentVolumeSpec{
				AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce},
				ClaimRef:    &corev1.ObjectReference{Namespace: "shop", Name: name},
				PersistentVolumeSource: corev1.PersistentVolumeSource{CSI: &corev1.CSIPersistentVolumeSource{
					Driver: "rbd.csi.ceph.com", VolumeHandle: name, VolumeAttributes: attributes,
				}},
			},
		}
	}
	return []client.Object{
		&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "a"}, Status: corev1.NodeStatus{
			Addresses:  []corev1.NodeAddress{{Address: "10.0.0.1"}},
			Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}}, NodeInfo: corev1.NodeSystemInfo{BootID: "boot"},
		}},
		volume("db", map[string]string{"clusterID": "main", "pool": "rbd", "imageName": "db", "dataPool": "data"}),
		volume("idle", map[string]string{"clusterID": "main", "pool": "rbd", "imageName": "idle"}),
		&corev1.PersistentVolume{ObjectMeta: metav1.ObjectMeta{Name: "nfs"}, Spec: corev1.PersistentVolumeSpec{PersistentVolumeSource: corev1.PersistentVolumeSource{NFS: &corev1.NFSVolumeSource{}}}},
		&storagev1.VolumeAttachment{
			ObjectMeta: metav1.ObjectMeta{Name: "va"},
			Spec:       storagev1.VolumeAttachmentSpec{Attacher: "rbd.csi.ceph.com", NodeName: "a", Source: storagev1.VolumeAttachmentSource{PersistentVolumeName: new("db")}},
			Status:     storagev1.VolumeAttachmentStatus{Attached: true},
		},
		&corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "db-0", UID: "pod"},
			Spec: corev1.PodSpec{NodeName: "a", Volumes: []corev1.Volume{{Name: "data", VolumeSource: corev1.VolumeSource{
				PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: "db"},
			}}}},
			Status: corev1.PodStatus{Phase: corev1.PodRunning},
		},
		&storagev1.CSIDriver{ObjectMeta: metav1.ObjectMeta{Name: "rbd.csi.ceph.com"}},
		&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "shop"}},
	}
}

// pod is a look at these objects and this Ceph, beside a remediator whose caches have heard up to a resourceVersion.
func pod(t *testing.T, objects []client.Object, conn ceph.Conn, heard int) Pod {
	t.Helper()
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{clientgoscheme.AddToScheme, v1alpha1.AddToScheme} {
		if err := add(scheme); err != nil {
			t.Fatal(err)
		}
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/metrics" {
			return // Go's server tells the time by itself
		}
		fmt.Fprintf(w, "# TYPE %s gauge\n", CacheMetric)
		for _, kind := range []string{"Node", "PersistentVolume", "VolumeAttachment", "CSIDriver", "Pod", "PersistentVolumeClaim", "Namespace", "NodeFence"} {
			fmt.Fprintf(w, "%s{kind=%q} %d\n", CacheMetric, kind, heard)
		}
	}))
	t.Cleanup(server.Close)
	return Pod{
		Reader:   fake.NewClientBuilder().WithScheme(scheme).WithObjects(objects...).Build(),
		REST:     &rest.Config{Host: server.URL},
		Clusters: ceph.NewClusters(map[string]ceph.Dial{"main": func(context.Context) (ceph.Conn, error) { return conn, nil }}),
		IDs:      []string{"main"}, Users: map[string]string{"main": "rbd-rescue"}, Namespace: "rbd-rescue", Metrics: server.URL + "/metrics",
	}
}

func cluster() *cephtest.Cluster {
	c := cephtest.New(clock.RealClock{})
	c.AddPool("data", 4)
	return c
}

func wrong(findings []doctor.Finding) (texts []string) {
	for _, f := range findings {
		if f.Severity != doctor.OK {
			texts = append(texts, fmt.Sprintf("%s %s: %s", f.Severity, f.Check, f.Message))
		}
	}
	return texts
}

func TestALookFromThePodFindsNothingWhereAllIsWell(t *testing.T) {
	t.Parallel()
	f := pod(t, attached(), cluster(), 1000).Look(t.Context())
	if texts := wrong(f.Findings()); len(texts) > 0 {
		t.Errorf("found %q", texts)
	}
	want := []doctor.Pool{
		{PoolRef: ceph.PoolRef{Pool: "data"}, Volumes: 1},
		{PoolRef: ceph.PoolRef{Pool: "rbd"}, Volumes: 2, Image: "db"}, // the one that is in use
	}
	if diff := cmp.Diff(want, f.Clusters[0].Pools); diff != "" {
		t.Error(diff)
	}
	if len(f.Volumes) != 2 || len(f.Volumes[0].Nodes) != 1 || f.Volumes[0].Nodes[0].Node != "a" || len(f.Volumes[0].Nodes[0].Pods) != 1 || len(f.Volumes[1].Nodes) != 0 {
		t.Errorf("volumes %+v", f.Volumes)
	}
}

func TestADataPoolThatOnlyTheImageNamesIsTriedToo(t *testing.T) {
	t.Parallel()
	c := cluster()
	c.AddPool("hidden", 4)
	c.SetDataPool(ceph.Image{Pool: "rbd", Name: "db"}, "hidden")
	c.LagPlacementGroup("hidden", 0, true)
	want := []string{"error pools: A fence could not be proven on pool hidden of Ceph cluster main now: proving OSD map 13 on the 4 placement groups of pool hidden: " +
		"asking for an object in placement group 0 of pool hidden: it is not known whether Ceph did it."}
	if diff := cmp.Diff(want, wrong(pod(t, attached(), c, 1000).Look(t.Context()).Findings())); diff != "" {
		t.Error(diff)
	}
}

func TestWhereNothingIsAttachedPodsTellWhoHasAVolume(t *testing.T) {
	t.Parallel()
	var objects []client.Object
	for _, object := range attached() {
		switch object := object.(type) {
		case *storagev1.VolumeAttachment:
			continue
		case *storagev1.CSIDriver:
			object.Spec.AttachRequired = new(false)
		}
		objects = append(objects, object)
	}
	f := pod(t, objects, cluster(), 1000).Look(t.Context())
	if v := f.Volumes[0]; !v.Shared || len(v.Nodes) != 1 || v.Nodes[0].Node != "a" {
		t.Errorf("%+v", v)
	}
}

func TestEachPageIsRead(t *testing.T) {
	t.Parallel()
	var objects []client.Object
	for i := range 3 {
		objects = append(objects, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprint("n", i), ResourceVersion: fmt.Sprint(7 + i)}})
	}
	at := 0
	reader := interceptor.NewClient(fake.NewClientBuilder().Build(), interceptor.Funcs{
		List: func(_ context.Context, _ client.WithWatch, list client.ObjectList, _ ...client.ListOption) error {
			list.(*corev1.NodeList).Items = []corev1.Node{*objects[at].(*corev1.Node)}
			list.SetContinue("")
			if at++; at < len(objects) {
				list.SetContinue("more")
			}
			return nil
		},
	})
	var names []string
	newest, err := eachObject(t.Context(), reader, &corev1.NodeList{}, func(o client.Object) { names = append(names, o.GetName()) })
	if diff := cmp.Diff([]string{"n0", "n1", "n2"}, names); err != nil || diff != "" || newest != 9 {
		t.Errorf("newest %d, error %v, read %s", newest, err, diff)
	}
}

func TestALookStopsWhereThereIsNoRoomForMore(t *testing.T) {
	t.Parallel()
	p := pod(t, attached(), cluster(), 1000)
	p.Room = func() error { return errors.New("the memory is nearly full") }
	f := p.Look(t.Context())
	if len(f.Volumes) > 0 || f.Unread[doctor.CheckRecords] == nil || f.Unread[doctor.CheckPools] == nil || f.Unread[doctor.CheckCaches] == nil {
		t.Errorf("read %d volumes, and not %v", len(f.Volumes), f.Unread)
	}
}

func TestACacheIsBehindIfItHasNotHeardInTime(t *testing.T) {
	t.Parallel()
	p := pod(t, nil, cluster(), 41)
	p.Patience = time.Millisecond
	caches, err := p.caches(t.Context(), map[string]uint64{"Pod": 42, "Node": 41})
	if err != nil || len(caches) != 2 || caches[1].Kind != "Pod" || caches[1].Cached != 41 || caches[1].Live != 42 || caches[0].Cached < caches[0].Live {
		t.Errorf("%+v %v", caches, err)
	}
	p.Metrics = "http://127.0.0.1:1/metrics"
	if _, err := p.caches(t.Context(), nil); err == nil {
		t.Error("who does not answer has heard nothing")
	}
}
