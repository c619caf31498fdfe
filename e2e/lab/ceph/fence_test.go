//go:build librados

package ceph_test

import (
	"context"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	product "github.com/rbd-rescue/rbd-rescue/ceph"
	"github.com/rbd-rescue/rbd-rescue/e2e/lab/ceph"
	"github.com/rbd-rescue/rbd-rescue/e2e/workload"
	"github.com/rbd-rescue/rbd-rescue/e2e/workload/rbdcheck"
)

const imageMiB = 8

// fence is the product's core on real daemons: a client of another host writes to many images, is cut off, the cut is
// proven, another takes over, the whole host is cut off, and after the lift it writes again.
func (r *releaseTest) fence(ctx context.Context, t *testing.T) {
	images := []string{"locked", withData, "cloned", "img-0", "img-1", "img-2"}
	for _, name := range append([]string{"parent"}, images[3:]...) {
		if err := r.CreateImage(ctx, ceph.Pool, name, imageMiB); err != nil {
			t.Fatal(err)
		}
	}
	if err := r.CreateImage(ctx, ceph.Pool, "locked", imageMiB, "layering", "exclusive-lock"); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{
		{"snap", "create", ceph.Pool + "/parent@golden"}, {"snap", "protect", ceph.Pool + "/parent@golden"},
		{"clone", ceph.Pool + "/parent@golden", ceph.Pool + "/cloned"},
	} {
		if _, err := r.RBD(ctx, args...); err != nil {
			t.Fatal(err)
		}
	}
	const metadata = ".rbd.csi.ceph.com/clientaddress/volume-1/node-a"
	if _, err := r.RBD(ctx, "image-meta", "set", ceph.Pool+"/locked", metadata, r.node.ip.String()); err != nil {
		t.Fatal(err)
	}
	keyFile, err := r.CreateUser(ctx, "csi-rbd-node", map[string]string{
		"mon": "profile rbd", "osd": "profile rbd pool=" + ceph.Pool + ", profile rbd pool=" + dataPool,
	})
	if err != nil {
		t.Fatal(err)
	}
	f := fencing{releaseTest: r, images: images, acks: t.TempDir(), cluster: connect(ctx, t, r.options)}
	writer := func(node string) writerOptions {
		return writerOptions{Monitors: r.Monitors()[0], User: "csi-rbd-node", KeyFile: keyFile, Images: images, Node: node, AckDir: f.acks}
	}

	a := startWriter(t, r.sup, r.node.netns, writer("a"))
	f.await(ctx, t, "a", wrote)
	client := f.client(ctx, t)
	use, err := f.cluster.Inspect(ctx, product.Image{Pool: ceph.Pool, Name: "locked"})
	if err != nil {
		t.Fatal(err)
	}
	if want := []product.Address{client}; !slices.Equal(use.LockOwners, want) {
		t.Errorf("owners of the lock: %v, want %v", use.LockOwners, want)
	}
	if use.Metadata[metadata] != r.node.ip.String() || use.Staged["node-a"] != r.node.ip {
		t.Errorf("metadata %v, staged %v", use.Metadata, use.Staged)
	}
	proven := f.cutOff(ctx, t, client)

	// A client of this host takes over, while the other one tries on.
	b := startWriter(t, r.sup, "", writer("b"))
	f.await(ctx, t, "b", wrote)
	f.await(ctx, t, "a", refused)
	f.noneAfter(t, "a", proven)
	if err := b.Stop(ctx); err != nil {
		t.Error(err)
	}
	if err := a.Kill(); err != nil {
		t.Error(err)
	}
	f.lift(ctx, t, client)

	// A new client of that host writes; now the whole host is cut off, without a word of which client it is.
	c := startWriter(t, r.sup, r.node.netns, writer("c"))
	f.await(ctx, t, "c", wrote)
	host := product.Address{IP: r.node.ip}
	proven = f.cutOff(ctx, t, host)
	f.await(ctx, t, "c", refused)
	f.noneAfter(t, "c", proven)
	if err := c.Kill(); err != nil {
		t.Error(err)
	}
	f.lift(ctx, t, host)
	d := startWriter(t, r.sup, r.node.netns, writer("d"))
	f.await(ctx, t, "d", wrote)
	if err := d.Stop(ctx); err != nil {
		t.Error(err)
	}
}

type fencing struct {
	*releaseTest
	images  []string
	acks    string
	cluster *product.Cluster
}

// client is the one that uses every image.
func (f *fencing) client(ctx context.Context, t *testing.T) product.Address {
	t.Helper()
	var client product.Address
	for _, name := range f.images {
		use, err := f.cluster.Inspect(ctx, product.Image{Pool: ceph.Pool, Name: name})
		if err != nil {
			t.Fatal(err)
		}
		if len(use.Watchers) != 1 || use.Watchers[0].Address.IP != f.node.ip || use.Watchers[0].Address.Nonce == 0 {
			t.Fatalf("watchers of %s: %v, want one of %s", name, use.Watchers, f.node.ip)
		}
		if client = use.Watchers[0].Address; name == withData && use.DataPool != dataPool {
			t.Errorf("data pool of %s: %q", name, use.DataPool)
		}
	}
	return client
}

// cutOff adds an entry, reads it back, proves it in both pools, and says when it was proven.
func (f *fencing) cutOff(ctx context.Context, t *testing.T, client product.Address) time.Time {
	t.Helper()
	began := time.Now()
	const lasts = 48 * time.Hour
	if err := f.cluster.AddToBlocklist(ctx, []product.Address{client}, lasts); err != nil {
		t.Fatal(err)
	}
	m, err := f.cluster.ReadOSDMap(ctx)
	if err != nil {
		t.Fatal(err)
	}
	earliest := began.Add(lasts - time.Minute)
	if f.Word == "blacklist" {
		earliest = earliest.Add(-14 * time.Hour) // its times have no zone, so the earliest that can be meant is read
	}
	if until := m.Blocklist[client]; until.Before(earliest) || until.After(time.Now().Add(lasts+time.Minute)) {
		t.Errorf("%s is cut off until %v", client, until)
	}
	asked := time.Now()
	if err := f.cluster.Barrier(ctx, m, []product.PoolRef{{Pool: ceph.Pool}, {Pool: dataPool}}); err != nil {
		t.Fatal(err)
	}
	proven := time.Now()
	t.Logf("%s: added and read back within %s, map %d proven within %s", client, asked.Sub(began), m.Epoch, proven.Sub(asked))
	return proven
}

func (f *fencing) lift(ctx context.Context, t *testing.T, client product.Address) {
	t.Helper()
	if err := f.cluster.RemoveFromBlocklist(ctx, []product.Address{client}); err != nil {
		t.Fatal(err)
	}
	m, err := f.cluster.ReadOSDMap(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if until, listed := m.Blocklist[client]; listed {
		t.Errorf("%s is still cut off until %s", client, until)
	}
}

// await checks all images until what is wanted of the writer on a node is seen in each.
func (f *fencing) await(ctx context.Context, t *testing.T, node string, wanted func(workload.WriterReport) bool) {
	t.Helper()
	for _, name := range f.images {
		for deadline := time.Now().Add(90 * time.Second); ; time.Sleep(100 * time.Millisecond) {
			report, err := rbdcheck.Check(ctx, f.ConfFile(), ceph.Pool, name, f.acks)
			if err != nil {
				t.Fatal(err)
			}
			if !report.OK {
				t.Fatalf("the data of %s does not hold:\n%s", name, report)
			}
			if slices.ContainsFunc(report.Writers, func(w workload.WriterReport) bool { return w.Node == node && wanted(w) }) {
				break
			}
			if time.Now().After(deadline) {
				log, _ := os.ReadFile(f.sup.Logs() + "/writer-" + node + ".log")
				t.Fatalf("not seen of the writer on %s of %s:\n%s%s", node, name, report, log)
			}
		}
	}
}

// noneAfter: no write of the node that was sent after the proof was acknowledged.
func (f *fencing) noneAfter(t *testing.T, node string, proven time.Time) {
	t.Helper()
	tried := 0
	for _, name := range f.images {
		logs, err := workload.ReadAckLogs(f.acks, name)
		if err != nil {
			t.Fatal(err)
		}
		for _, log := range logs {
			for _, ack := range log.Acks {
				if log.Node != node || ack.Sent.Before(proven) {
					continue
				}
				if tried++; ack.Refused == "" {
					t.Errorf("record %d of the writer on %s of %s was sent %s after the proof, and acknowledged", ack.Seq, node, name, ack.Sent.Sub(proven))
				}
			}
		}
	}
	t.Logf("%d writes of %s on %s were first refused after the proof", tried, node, strings.Join(f.images, ", "))
}
