//go:build librados

package ceph_test

import (
	"context"
	"errors"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/ceph/go-ceph/rbd"

	product "github.com/rbd-rescue/rbd-rescue/ceph"
	"github.com/rbd-rescue/rbd-rescue/e2e/lab/ceph"
)

const anyMon = `allow r, allow command "osd blocklist"`

// keeps tells what comes of writing metadata of the image under these caps for OSDs.
func keeps(ctx context.Context, t *testing.T, c *ceph.Cluster, name, osd, value string) error {
	t.Helper()
	options := (&releaseTest{Cluster: c}).user(ctx, t, name, map[string]string{"mon": anyMon, "osd": osd})
	err := connect(ctx, t, options).SetMetadata(ctx, product.Image{Pool: ceph.Pool, Name: "img"}, "key", value)
	t.Logf("osd '%s': %v", osd, err)
	return err
}

// The least right to keep manifests with an image is one method of its header; nobody who uses the image is disturbed.
func TestMetadataIsWrittenBesideAWriterUnderTheLeastRights(t *testing.T) {
	ctx, c := cluster(t)
	writer := open(ctx, t, c)
	defer writer.close()
	ackDir := t.TempDir()
	stop := writer.write(t, "a", ackDir)
	defer stop()
	reports(ctx, t, c, ackDir, "a", wrote)
	reader := "profile rbd-read-only pool=" + ceph.Pool
	for i, test := range []struct {
		osd     string
		refused bool
	}{
		{osd: reader, refused: true},
		{osd: reader + ", allow class rbd metadata_set pool=" + ceph.Pool + " object_prefix rbd_data.", refused: true},
		{osd: reader + ", allow class rbd metadata_set pool=other", refused: true},
		{osd: reader + ", allow class rbd metadata_set pool=" + ceph.Pool + " object_prefix rbd_header."},
		{osd: reader + ", allow class rbd metadata_set pool=" + ceph.Pool},
		{osd: "profile rbd pool=" + ceph.Pool},
	} {
		value := string(rune('1' + i))
		err := keeps(ctx, t, c, "caps-"+value, test.osd, value)
		if refused := errors.Is(err, syscall.EPERM) || errors.Is(err, syscall.EACCES); err != nil && !refused || refused != test.refused {
			t.Errorf("refused: %v, want %v", refused, test.refused)
		}
	}
	watchers, err := c.Watchers(ctx, ceph.Pool, "img")
	if err != nil || len(watchers) != 1 {
		t.Errorf("watchers are %v, want the writer alone: %v", watchers, err)
	}
	cluster := connect(ctx, t, (&releaseTest{Cluster: c}).user(ctx, t, "reader", map[string]string{"mon": anyMon, "osd": reader}))
	use, err := cluster.Inspect(ctx, product.Image{Pool: ceph.Pool, Name: "img"})
	if err != nil || use.Metadata["key"] != "6" {
		t.Errorf("metadata is %v: %v", use.Metadata, err)
	}
	err = cluster.SetMetadata(ctx, product.Image{Pool: ceph.Pool, Name: "none"}, "key", "value")
	if !product.IsNotFound(err) {
		t.Errorf("an image that is not there: %v", err)
	}
}

// The exclusive lock stays with whoever writes.
func TestMetadataIsWrittenBesideTheOwnerOfTheExclusiveLock(t *testing.T) {
	ctx, c := cluster(t)
	if _, err := c.RBD(ctx, "feature", "enable", ceph.Pool+"/img", "exclusive-lock"); err != nil {
		t.Fatal(err)
	}
	writer := open(ctx, t, c)
	defer writer.close()
	if err := writer.image.LockAcquire(rbd.LockModeExclusive); err != nil {
		t.Fatal(err)
	}
	if err := keeps(ctx, t, c, "keeper", "profile rbd-read-only pool="+ceph.Pool+", allow class rbd metadata_set pool="+ceph.Pool+" object_prefix rbd_header.", "value"); err != nil {
		t.Error(err)
	}
	if is, err := writer.image.LockIsExclusiveOwner(); !is || err != nil {
		t.Errorf("it owns the lock: %v, %v", is, err)
	}
	if listed, err := c.Blocklist(ctx); err != nil || len(listed) > 0 {
		t.Errorf("cut off: %v, %v", listed, err)
	}
}

func TestASnapshotIsClonedAndRolledBackTo(t *testing.T) {
	ctx, c := cluster(t)
	image := product.Image{Pool: ceph.Pool, Name: "img"}
	for _, args := range [][]string{
		{"bench", ceph.Pool + "/img", "--io-type", "write", "--io-size", "4096", "--io-total", "65536"},
		{"image-meta", "set", ceph.Pool + "/img", "key", "value"},
		{"snap", "create", ceph.Pool + "/img@before"},
	} {
		if _, err := c.RBD(ctx, args...); err != nil {
			t.Fatal(err)
		}
	}
	cluster := connect(ctx, t, (&releaseTest{Cluster: c}).user(ctx, t, "restorer", map[string]string{"mon": anyMon, "osd": "profile rbd pool=" + ceph.Pool}))
	description, err := cluster.Describe(ctx, image)
	if err != nil || description.Size != 8<<20 || len(description.Snapshots) != 1 || description.Snapshots[0].Name != "before" ||
		time.Since(description.Snapshots[0].TakenAt).Abs() > time.Hour {
		t.Fatalf("%+v: %v", description, err)
	}
	export := func(what string) string {
		out, err := c.RBD(ctx, "export", "--no-progress", ceph.Pool+"/"+what, "-")
		if err != nil {
			t.Fatal(err)
		}
		return string(out)
	}
	before := export("img")
	if _, err := c.RBD(ctx, "bench", ceph.Pool+"/img", "--io-type", "write", "--io-size", "4096", "--io-total", "131072"); err != nil {
		t.Fatal(err)
	}
	if export("img") == before {
		t.Fatal("nothing was written")
	}
	for name, flat := range map[string]bool{"tied": false, "flat": true} {
		if err := cluster.Clone(ctx, image, "before", name, flat); err != nil {
			t.Fatal(err)
		}
		if export(name) != before {
			t.Errorf("clone %s is not the snapshot", name)
		}
		use, err := cluster.Inspect(ctx, product.Image{Pool: ceph.Pool, Name: name})
		if err != nil || use.Metadata["key"] != "value" {
			t.Errorf("metadata of clone %s is %v: %v", name, use.Metadata, err)
		}
	}
	if err := cluster.Clone(ctx, image, "before", "flat", false); !errors.Is(err, syscall.EEXIST) {
		t.Errorf("cloned over an image: %v", err)
	}
	if err := cluster.Clone(ctx, image, "none", "other", false); !product.IsNotFound(err) {
		t.Errorf("cloned a snapshot that is not there: %v", err)
	}
	if err := cluster.Rollback(ctx, image, "before"); err != nil || export("img") != before {
		t.Errorf("rolled back: %v", err)
	}
	names, err := cluster.Images(ctx, ceph.Pool, "")
	if slices.Sort(names); err != nil || !slices.Equal(names, []string{"flat", "img", "tied"}) {
		t.Errorf("images are %v: %v", names, err)
	}
}
