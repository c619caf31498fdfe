package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/cli-runtime/pkg/genericiooptions"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/rbd-rescue/rbd-rescue/api/v1alpha1"
	"github.com/rbd-rescue/rbd-rescue/ceph"
	"github.com/rbd-rescue/rbd-rescue/cmd/kubectl-rescue/remote"
	"github.com/rbd-rescue/rbd-rescue/manifests"
	"github.com/rbd-rescue/rbd-rescue/manifests/images"
)

var image = ceph.Image{Pool: "rbd", Name: "img"}

// storage answers `rbd-rescue image` for one image with a snapshot.
type storage struct {
	image images.Image
	asked []string
	// fail is the error of a command.
	fail map[string]error
}

func (s *storage) Run(_ context.Context, streams remote.Streams, args ...string) error {
	var words []string
	for _, word := range args {
		if !strings.HasPrefix(word, "--timeout=") {
			words = append(words, word)
		}
	}
	s.asked = append(s.asked, strings.Join(words[1:], " "))
	if err := s.fail[words[1]]; err != nil {
		return err
	}
	answer := s.image
	if words[1] == "clone" {
		answer = images.Image{ClusterID: "c1", Image: "rbd/" + words[3], Size: 1 << 20, Manifests: s.image.Manifests}
	}
	if words[1] == "rollback" {
		return nil
	}
	return json.NewEncoder(streams.Out).Encode(answer)
}

// restoration is a restore in a namespace that is there, of a volume whose node runs with another boot.
type restoration struct {
	restoring
	storage *storage
	printed bytes.Buffer
}

func restoreOf(t *testing.T, change func(*restoration), objects ...client.Object) *restoration {
	t.Helper()
	m := manifests.Of(&corev1.PersistentVolume{
		ObjectMeta: metav1.ObjectMeta{Name: "pv"},
		Spec: corev1.PersistentVolumeSpec{PersistentVolumeSource: corev1.PersistentVolumeSource{CSI: &corev1.CSIPersistentVolumeSource{
			Driver: "rbd.csi.ceph.com", VolumeHandle: "h", VolumeAttributes: map[string]string{"clusterID": "c1", "pool": "rbd", "imageName": "img"},
		}}},
	}, &corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "data"}})
	m.Clients = v1alpha1.ClientRecord{"a": {BootID: "boot-1", MachineID: "machine", Clients: []string{"10.0.0.1:0/42"}}}
	c := &restoration{storage: &storage{image: images.Image{
		ClusterID: "c1", Image: image.String(), Size: 1 << 20, Manifests: &m, Snapshots: []ceph.Snapshot{{Name: "s1", Size: 1 << 20}},
	}}}
	c.plugin = &plugin{IOStreams: genericiooptions.IOStreams{Out: &c.printed, ErrOut: io.Discard}, flags: genericclioptions.NewConfigFlags(true)}
	c.runner, c.out.formats = c.storage, []string{"json", "yaml"}
	kinds := runtime.NewScheme()
	if err := errors.Join(clientgoscheme.AddToScheme(kinds), v1alpha1.AddToScheme(kinds)); err != nil {
		t.Fatal(err)
	}
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "a"}, Status: corev1.NodeStatus{
		NodeInfo: corev1.NodeSystemInfo{BootID: "boot-2", MachineID: "machine"}, Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}},
	}}
	objects = append(objects, node, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "shop"}}, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "trial"}})
	c.api = fake.NewClientBuilder().WithScheme(kinds).WithObjects(objects...).Build()
	if change != nil {
		change(c)
	}
	return c
}

// run gives what was made: "volume namespace/claim image", or nothing.
func (c *restoration) run(t *testing.T) (made string, err error) {
	t.Helper()
	if err := c.check(); err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	err = c.restore(ctx, image)
	var volumes corev1.PersistentVolumeList
	var claims corev1.PersistentVolumeClaimList
	if err := errors.Join(c.api.List(ctx, &volumes), c.api.List(ctx, &claims)); err != nil {
		t.Fatal(err)
	}
	var words []string
	for _, pv := range volumes.Items {
		words = append(words, pv.Name+" for "+pv.Spec.ClaimRef.Namespace+"/"+pv.Spec.ClaimRef.Name+" is "+pv.Spec.CSI.VolumeAttributes["imageName"])
	}
	for _, claim := range claims.Items {
		words = append(words, claim.Namespace+"/"+claim.Name+" has "+claim.Spec.VolumeName)
	}
	return strings.Join(words, ", "), err
}

// there are the objects of the volume, bound.
func there() []client.Object {
	return []client.Object{
		&corev1.PersistentVolume{ObjectMeta: metav1.ObjectMeta{Name: "pv"}, Spec: corev1.PersistentVolumeSpec{
			ClaimRef: &corev1.ObjectReference{Namespace: "shop", Name: "data", UID: "uid"},
			PersistentVolumeSource: corev1.PersistentVolumeSource{CSI: &corev1.CSIPersistentVolumeSource{
				Driver: "rbd.csi.ceph.com", VolumeHandle: "h", VolumeAttributes: map[string]string{"clusterID": "c1", "pool": "rbd", "imageName": "img"},
			}},
		}},
		&corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "data", UID: "uid"}, Spec: corev1.PersistentVolumeClaimSpec{VolumeName: "pv"}},
	}
}

func TestRestore(t *testing.T) {
	t.Parallel()
	const both = "pv for shop/data is img, shop/data has pv"
	for name, test := range map[string]struct {
		change  func(*restoration)
		objects []client.Object
		made    string
		asked   []string
		refuse  string
	}{
		"makes both objects": {made: both, asked: []string{"show rbd/img"}},
		"makes them under other names": {
			change: func(c *restoration) { c.claim, c.volume, c.flags.Namespace = "copy", "pv-copy", new("trial") }, made: "pv-copy for trial/copy is img, trial/copy has pv-copy",
			asked: []string{"show rbd/img"},
		},
		"makes nothing in a dry run": {change: func(c *restoration) { c.dryRun, c.out.format = true, "yaml" }, asked: []string{"show rbd/img"}},
		"refuses an image in use": {
			change: func(c *restoration) { c.storage.image.Watchers = []string{"10.0.0.9:0/1"} }, asked: []string{"show rbd/img"}, refuse: "in use",
		},
		"refuses it in a dry run, too": {
			change: func(c *restoration) { c.dryRun, c.storage.image.Watchers = true, []string{"10.0.0.9:0/1"} }, asked: []string{"show rbd/img"}, refuse: "in use",
		},
		"refuses objects that are there": {objects: there(), made: both, asked: []string{"show rbd/img"}, refuse: "names image rbd/img already"},
		"refuses an image without manifests": {
			change: func(c *restoration) { c.storage.image.Manifests = nil }, asked: []string{"show rbd/img"}, refuse: "carries no manifests",
		},
		"asks the cluster that it is told": {change: func(c *restoration) { c.clusterID = "c1" }, made: both, asked: []string{"show rbd/img --cluster=c1"}},
		"makes a clone of a snapshot, beside the objects that are there": {
			objects: there(), change: func(c *restoration) { c.snapshot, c.claim, c.flatten = "s1", "before", true },
			made:  "pv for shop/data is img, restored-img-s1 for shop/before is img-s1, shop/before has restored-img-s1, shop/data has pv",
			asked: []string{"show rbd/img", "clone rbd/img@s1 img-s1 --flatten"},
		},
		"makes no clone for names that are taken": {
			objects: there(), change: func(c *restoration) { c.snapshot = "s1" }, made: both, asked: []string{"show rbd/img"}, refuse: "claim shop/data exists",
		},
		"refuses a snapshot that is not there": {change: func(c *restoration) { c.snapshot = "s2" }, asked: []string{"show rbd/img"}, refuse: "no snapshot s2; it has s1"},
		"does not overwrite without the second word": {
			change: func(c *restoration) { c.snapshot, c.rollback = "s1", true }, refuse: "add --overwrite rbd/img",
		},
		"does not overwrite by a word for another image": {
			change: func(c *restoration) { c.snapshot, c.rollback, c.overwrite = "s1", true, "rbd/other" }, refuse: "add --overwrite rbd/img",
		},
		"overwrites, and makes the objects": {
			change: func(c *restoration) { c.snapshot, c.rollback, c.overwrite = "s1", true, "rbd/img" }, made: both,
			asked: []string{"show rbd/img", "rollback rbd/img@s1 --overwrite=rbd/img", "show rbd/img"},
		},
		"overwrites, and leaves the objects that are there": {
			objects: there(), change: func(c *restoration) { c.snapshot, c.rollback, c.overwrite = "s1", true, "rbd/img" }, made: both,
			asked: []string{"show rbd/img", "rollback rbd/img@s1 --overwrite=rbd/img", "show rbd/img"},
		},
		"makes nothing where nobody knows how the rollback ended": {
			change: func(c *restoration) {
				c.snapshot, c.rollback, c.overwrite = "s1", true, "rbd/img"
				c.storage.fail = map[string]error{"rollback": fmt.Errorf("broke off: %w", remote.ErrInDoubt)}
			}, asked: []string{"show rbd/img", "rollback rbd/img@s1 --overwrite=rbd/img"}, refuse: "nobody knows how",
		},
		"makes nothing where the clone fails": {
			change: func(c *restoration) {
				c.snapshot, c.storage.fail = "s1", map[string]error{"clone": errors.New("file exists")}
			}, asked: []string{"show rbd/img", "clone rbd/img@s1 img-s1"}, refuse: "file exists",
		},
		"takes the volume back where the claim can't be made": {
			change: func(c *restoration) {
				c.api = interceptor.NewClient(c.api.(client.WithWatch), interceptor.Funcs{Create: func(ctx context.Context, api client.WithWatch, o client.Object, options ...client.CreateOption) error {
					if _, claim := o.(*corev1.PersistentVolumeClaim); claim {
						return errors.New("over quota")
					}
					return api.Create(ctx, o, options...)
				}})
			}, asked: []string{"show rbd/img"}, refuse: "over quota",
		},
		"refuses flags that contradict each other": {change: func(c *restoration) { c.snapshot, c.rollback, c.flatten = "s1", true, true }, refuse: "makes no clone"},
		"refuses a rollback to nothing":            {change: func(c *restoration) { c.rollback = true }, refuse: "need --snapshot"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := restoreOf(t, test.change, test.objects...)
			made, err := c.run(t)
			if (err != nil) != (test.refuse != "") || err != nil && !strings.Contains(err.Error(), test.refuse) {
				t.Errorf("got %v", err)
			}
			if made != test.made {
				t.Errorf("made %q, want %q", made, test.made)
			}
			if diff := cmp.Diff(test.asked, c.storage.asked); diff != "" {
				t.Errorf("asked (-want +got):\n%s", diff)
			}
		})
	}
}

func TestADryRunPrintsWhatKubectlCanApply(t *testing.T) {
	t.Parallel()
	c := restoreOf(t, func(c *restoration) { c.dryRun, c.out.format = true, "yaml" })
	if _, err := c.run(t); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"kind: List", "kind: PersistentVolume\n", "kind: PersistentVolumeClaim\n", "persistentVolumeReclaimPolicy: Retain", "volumeName: pv"} {
		if !strings.Contains(c.printed.String(), want) {
			t.Errorf("%q is not in\n%s", want, c.printed.String())
		}
	}
	if strings.Contains(c.printed.String(), "uid:") {
		t.Errorf("has a UID:\n%s", c.printed.String())
	}
}
