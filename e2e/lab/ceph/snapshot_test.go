//go:build librados

package ceph_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/ceph/go-ceph/rados"
	"github.com/ceph/go-ceph/rbd"

	product "github.com/rbd-rescue/rbd-rescue/ceph"
	"github.com/rbd-rescue/rbd-rescue/e2e/lab/ceph"
	"github.com/rbd-rescue/rbd-rescue/e2e/workload"
)

// snapshots are taken of every kind of image with the least rights, and removed; those that are in use stay.
func (r *releaseTest) snapshots(ctx context.Context, t *testing.T) {
	for name, features := range map[string][]string{
		"snap-plain": {"layering"}, "snap-map": {"layering", "exclusive-lock", "object-map", "fast-diff"}, "snap-parent": {"layering"}, "snap-locked": {"layering", "exclusive-lock"},
	} {
		if err := r.CreateImage(ctx, ceph.Pool, name, imageMiB, features...); err != nil {
			t.Fatal(err)
		}
	}
	r.rbd(ctx, t, "snap", "create", ceph.Pool+"/snap-parent@base")
	r.rbd(ctx, t, "snap", "protect", ceph.Pool+"/snap-parent@base")
	r.rbd(ctx, t, "clone", ceph.Pool+"/snap-parent@base", ceph.Pool+"/snap-clone")
	cluster := connect(ctx, t, r.options)
	for _, name := range []string{"snap-plain", "snap-map", "snap-clone", withData} {
		image := product.Image{Pool: ceph.Pool, Name: name}
		began := time.Now()
		for range 2 { // one of that name is no error
			if err := cluster.CreateSnapshot(ctx, image, "rbd-rescue-1", nil); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
		}
		t.Logf("%s: taken within %s", name, time.Since(began))
		r.wantSnapshots(ctx, t, cluster, image, "rbd-rescue-1")
		for range 2 { // none of that name is no error
			if err := cluster.RemoveSnapshot(ctx, image, "rbd-rescue-1"); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
		}
		r.wantSnapshots(ctx, t, cluster, image)
	}
	t.Run("read-only user", func(t *testing.T) { r.snapshotRefused(ctx, t) })
	t.Run("in use", func(t *testing.T) { r.snapshotInUse(ctx, t, cluster) })
	t.Run("in the trash", func(t *testing.T) { r.snapshotInTrash(ctx, t, cluster) })
	t.Run("locked", func(t *testing.T) { r.snapshotOfLocked(ctx, t, cluster) })
}

func (r *releaseTest) rbd(ctx context.Context, t *testing.T, command ...string) string {
	t.Helper()
	out, err := r.RBD(ctx, command...)
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

func (r *releaseTest) wantSnapshots(ctx context.Context, t *testing.T, cluster *product.Cluster, image product.Image, want ...string) {
	t.Helper()
	use, err := cluster.Inspect(ctx, image)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(use.Snapshots, want) || len(use.Watchers) > 0 || len(use.LockOwners) > 0 {
		t.Errorf("%s has snapshots %v, want %v; watchers %v and owners %v, want none", image, use.Snapshots, want, use.Watchers, use.LockOwners)
	}
}

func (r *releaseTest) snapshotRefused(ctx context.Context, t *testing.T) {
	cluster := connect(ctx, t, r.user(ctx, t, "rbd-rescue-reads", r.RightsWithoutSnapshots(ceph.Pool, dataPool)))
	began := time.Now()
	err := cluster.CreateSnapshot(ctx, product.Image{Pool: ceph.Pool, Name: "snap-plain"}, "rbd-rescue-1", nil)
	t.Logf("refused within %s: %v", time.Since(began), err)
	if !errors.Is(err, syscall.EPERM) || errors.Is(err, product.ErrInDoubt) {
		t.Errorf("got %v", err)
	}
}

// snapshotInUse: one that is protected stays, and one that has a clone.
func (r *releaseTest) snapshotInUse(ctx context.Context, t *testing.T, cluster *product.Cluster) {
	parent := product.Image{Pool: ceph.Pool, Name: "snap-parent"}
	if err := cluster.RemoveSnapshot(ctx, parent, "base"); !errors.Is(err, product.ErrSnapshotInUse) {
		t.Errorf("removed a snapshot that is protected: %v", err)
	}
	if err := cluster.CreateSnapshot(ctx, parent, "rbd-rescue-2", nil); err != nil {
		t.Fatal(err)
	}
	r.rbd(ctx, t, "clone", "--rbd-default-clone-format", "2", ceph.Pool+"/snap-parent@rbd-rescue-2", ceph.Pool+"/snap-clone-2")
	if err := cluster.RemoveSnapshot(ctx, parent, "rbd-rescue-2"); !errors.Is(err, product.ErrSnapshotInUse) {
		t.Errorf("removed a snapshot that has a clone: %v", err)
	}
	r.rbd(ctx, t, "rm", ceph.Pool+"/snap-clone-2")
	if err := cluster.RemoveSnapshot(ctx, parent, "rbd-rescue-2"); err != nil {
		t.Errorf("its clone is gone: %v", err)
	}
	r.wantSnapshots(ctx, t, cluster, parent, "base")
}

// snapshotInTrash: Ceph deletes no image that has a snapshot, and ceph-csi moves what it deletes to the trash.
func (r *releaseTest) snapshotInTrash(ctx context.Context, t *testing.T, cluster *product.Cluster) {
	image := product.Image{Pool: ceph.Pool, Name: "snap-plain"}
	if err := cluster.CreateSnapshot(ctx, image, "rbd-rescue-3", nil); err != nil {
		t.Fatal(err)
	}
	r.moveToTrash(t, image.Name)
	if err := cluster.RemoveSnapshot(ctx, image, "rbd-rescue-3"); err != nil {
		t.Fatal(err)
	}
	id, _, _ := strings.Cut(r.rbd(ctx, t, "trash", "ls", ceph.Pool), " ")
	r.rbd(ctx, t, "trash", "rm", ceph.Pool+"/"+id)
}

// moveToTrash: `rbd trash mv` runs date, which the /usr of another release lacks.
func (r *releaseTest) moveToTrash(t *testing.T, name string) {
	t.Helper()
	conn, err := rados.NewConnWithUser("admin")
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(conn.ReadConfigFile(r.ConfFile()), conn.Connect()); err != nil {
		t.Fatal(err)
	}
	defer conn.Shutdown()
	ioctx, err := conn.OpenIOContext(ceph.Pool)
	if err != nil {
		t.Fatal(err)
	}
	defer ioctx.Destroy()
	if err := rbd.GetImage(ioctx, name).Trash(0); err != nil {
		t.Fatal(err)
	}
}

// snapshotOfLocked: the owner of the exclusive lock is frozen; only once it is cut off is the lock taken from it, and its entry keeps its end.
func (r *releaseTest) snapshotOfLocked(ctx context.Context, t *testing.T, cluster *product.Cluster) {
	keyFile, err := r.CreateUser(ctx, "snap-node", map[string]string{"mon": "profile rbd", "osd": "profile rbd pool=" + ceph.Pool})
	if err != nil {
		t.Fatal(err)
	}
	f := fencing{releaseTest: r, images: []string{"snap-locked"}, acks: t.TempDir(), cluster: cluster}
	writer := startWriter(t, r.sup, r.node.netns, writerOptions{
		Monitors: r.Monitors()[0], User: "snap-node", KeyFile: keyFile, Images: f.images, Node: "frozen", AckDir: f.acks,
	})
	f.await(ctx, t, "frozen", func(w workload.WriterReport) bool { return w.Acknowledged > 0 })
	client := f.client(ctx, t)
	if err := writer.Freeze(); err != nil {
		t.Fatal(err)
	}
	image := product.Image{Pool: ceph.Pool, Name: "snap-locked"}
	if err := cluster.CreateSnapshot(ctx, image, "rbd-rescue-4", nil); !errors.Is(err, product.ErrLockHeld) {
		t.Errorf("S2: took the lock from a client that is not cut off: %v", err)
	}
	f.cutOff(ctx, t, client)
	before, err := cluster.ReadOSDMap(ctx)
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	if err := cluster.CreateSnapshot(ctx, image, "rbd-rescue-4", []product.Address{client}); err != nil {
		t.Fatal(err)
	}
	t.Logf("of an image whose lock a dead client held: taken within %s", time.Since(began))
	r.wantSnapshots(ctx, t, cluster, image, "rbd-rescue-4")
	after, err := cluster.ReadOSDMap(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if was, is := before.Blocklist[client], after.Blocklist[client]; !is.Equal(was) {
		t.Errorf("S4: the entry ended at %s, and ends at %s", was, is)
	}
	if err := cluster.RemoveSnapshot(ctx, image, "rbd-rescue-4"); err != nil {
		t.Error(err)
	}
	if err := writer.Kill(); err != nil {
		t.Error(err)
	}
	f.lift(ctx, t, client)
}
