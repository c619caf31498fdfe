package images

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	clocktesting "k8s.io/utils/clock/testing"

	"github.com/rbd-rescue/rbd-rescue/api/v1alpha1"
	"github.com/rbd-rescue/rbd-rescue/ceph"
	"github.com/rbd-rescue/rbd-rescue/ceph/cephtest"
	"github.com/rbd-rescue/rbd-rescue/manifests"
)

var (
	noon  = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	image = ceph.Image{Pool: "rbd", Name: "img"}
)

// kept are the manifests of a volume whose image these clients had.
func kept(clients ...string) manifests.Manifests {
	return manifests.Manifests{
		Version: 1,
		PersistentVolume: &corev1.PersistentVolume{
			TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "PersistentVolume"}, ObjectMeta: metav1.ObjectMeta{Name: "pv"},
			Spec: corev1.PersistentVolumeSpec{PersistentVolumeSource: corev1.PersistentVolumeSource{CSI: &corev1.CSIPersistentVolumeSource{
				Driver: "rbd.csi.ceph.com", VolumeHandle: "h", VolumeAttributes: map[string]string{"clusterID": "c1", "pool": "rbd", "imageName": "img"},
			}}},
		},
		Claim: &corev1.PersistentVolumeClaim{
			TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "PersistentVolumeClaim"}, ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "data"},
		},
		Clients: v1alpha1.ClientRecord{"a": {BootID: "boot-1", Clients: clients, Replaced: []string{"10.0.0.2:0/46"}}},
	}
}

// begin is a pool with an image that carries manifests, one that carries none, and one whose manifests can't be read.
func begin(t *testing.T) (*cephtest.Cluster, Pool) {
	t.Helper()
	storage := cephtest.New(clocktesting.NewFakePassiveClock(noon))
	other := cephtest.New(clocktesting.NewFakePassiveClock(noon))
	other.SetFSID("another")
	clusters := map[string]ceph.Dial{
		"c1":    func(context.Context) (ceph.Conn, error) { return storage, nil },
		"same":  func(context.Context) (ceph.Conn, error) { return storage, nil },
		"other": func(context.Context) (ceph.Conn, error) { return other, nil },
		"down":  func(context.Context) (ceph.Conn, error) { return nil, errors.New("no monitor answers") },
	}
	text, err := kept("10.0.0.1:0/42", "10.0.0.2:0/43", "10.0.0.3:0/44").Encode()
	if err != nil {
		t.Fatal(err)
	}
	storage.AddImage(image, 1<<30, ceph.Snapshot{Name: "s1", Size: 1 << 29, TakenAt: noon})
	for name, value := range map[string]string{"img": text, "odd": "{", "none": ""} {
		at := ceph.Image{Pool: "rbd", Name: name}
		if name != "img" {
			storage.AddImage(at, 1)
		}
		if value != "" {
			if err := storage.SetMetadata(t.Context(), at, manifests.Key, value); err != nil {
				t.Fatal(err)
			}
		}
	}
	return storage, Pool{ClusterID: "c1", Clusters: ceph.NewClusters(clusters), Now: noon}
}

func TestListGivesTheImagesThatCarryManifests(t *testing.T) {
	t.Parallel()
	_, pool := begin(t)
	got, err := pool.List(t.Context(), "rbd", "")
	if err != nil {
		t.Fatal(err)
	}
	if len(got) != 2 || got[0].Image != "rbd/img" || got[0].Manifests == nil || got[1].Image != "rbd/odd" || !strings.Contains(got[1].Problem, "decoding") {
		t.Errorf("got %+v", got)
	}
	if _, err := pool.List(t.Context(), "none", ""); !ceph.IsNotFound(err) {
		t.Errorf("a pool that is not there: %v", err)
	}
}

func TestAnImageThatCannotBeReadIsListedWithTheReason(t *testing.T) {
	t.Parallel()
	storage, pool := begin(t)
	storage.RemoveImage(ceph.Image{Pool: "rbd", Name: "none"})
	got, err := pool.List(t.Context(), "rbd", "")
	if err != nil || len(got) != 3 || got[1].Image != "rbd/none" || got[1].Problem == "" {
		t.Errorf("got %+v: %v", got, err)
	}
}

func TestShowTellsWhoUsesTheImageAndWhoIsCutOff(t *testing.T) {
	t.Parallel()
	storage, pool := begin(t)
	storage.Watch(image, "10.0.0.9:0/9", cephtest.Own.String())
	storage.Lock(image, "10.0.0.1:0/42")
	storage.Tamper(ceph.MustParseAddress("10.0.0.1:0/42"), noon.Add(24*time.Hour))
	storage.Tamper(ceph.MustParseAddress("10.0.0.2:0/0"), noon.Add(24*time.Hour))
	storage.Tamper(ceph.MustParseAddress("10.0.0.3:0/44"), noon.Add(time.Minute)) // ends too soon
	got, err := pool.Show(t.Context(), image)
	if err != nil {
		t.Fatal(err)
	}
	want := kept("10.0.0.1:0/42", "10.0.0.2:0/43", "10.0.0.3:0/44")
	if diff := cmp.Diff(Image{
		ClusterID: "c1", OtherClusters: []string{"other"}, Image: "rbd/img", Size: 1 << 30, Watchers: []string{"10.0.0.9:0/9"}, LockOwners: []string{"10.0.0.1:0/42"},
		CutOff: []string{"10.0.0.1:0/42", "10.0.0.2:0/43", "10.0.0.2:0/46"}, Snapshots: []ceph.Snapshot{{Name: "s1", Size: 1 << 29, TakenAt: noon}}, Manifests: &want,
	}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestAnImageInUseIsNotOverwritten(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		change   func(*cephtest.Cluster)
		snapshot string
		refuse   string
	}{
		"nobody has it":            {snapshot: "s1"},
		"somebody has it open":     {change: func(c *cephtest.Cluster) { c.Watch(image, "10.0.0.9:0/9") }, snapshot: "s1", refuse: "open for writing at 10.0.0.9:0/9"},
		"somebody holds its lock":  {change: func(c *cephtest.Cluster) { c.Lock(image, "10.0.0.9:0/9") }, snapshot: "s1", refuse: "lock is held by 10.0.0.9:0/9"},
		"there is no such snaphot": {snapshot: "s2", refuse: "no snapshot s2; it has s1"},
		"the lock is that of a client that is cut off": {
			change: func(c *cephtest.Cluster) {
				c.Lock(image, "10.0.0.9:0/9")
				c.Tamper(ceph.MustParseAddress("10.0.0.9:0/9"), noon.Add(24*time.Hour))
			}, snapshot: "s1",
		},
		"it cannot be told": {change: func(c *cephtest.Cluster) { c.FailNext("inspect", ceph.ErrInDoubt) }, snapshot: "s1", refuse: "not known"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			storage, pool := begin(t)
			if test.change != nil {
				test.change(storage)
			}
			err := pool.Rollback(t.Context(), image, test.snapshot)
			if (err != nil) != (test.refuse != "") || err != nil && !strings.Contains(err.Error(), test.refuse) {
				t.Errorf("got %v", err)
			}
			if overwritten := storage.RolledBackTo(image); (overwritten == "") != (test.refuse != "") {
				t.Errorf("overwritten with %q", overwritten)
			}
		})
	}
}

func TestACloneCarriesTheManifestsOfItsParent(t *testing.T) {
	t.Parallel()
	_, pool := begin(t)
	got, err := pool.Clone(t.Context(), image, "s1", "img-s1", false)
	if err != nil || got.Image != "rbd/img-s1" || got.Size != 1<<29 || got.Manifests == nil {
		t.Errorf("got %+v: %v", got, err)
	}
	if _, err := pool.Clone(t.Context(), image, "s1", "img-s1", false); err == nil {
		t.Error("cloned over an image")
	}
}
