//go:build librados

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"k8s.io/mount-utils"

	"github.com/rbd-rescue/rbd-rescue/e2e/lab/ceph"
	"github.com/rbd-rescue/rbd-rescue/e2e/lab/process"
	"github.com/rbd-rescue/rbd-rescue/e2e/workload"
	"github.com/rbd-rescue/rbd-rescue/e2e/workload/rbdcheck"
)

// bench is a cluster and the plugins of some nodes, called as the kubelet calls them.
type bench struct {
	*testing.T
	ctx  context.Context
	ceph *ceph.Cluster
	dir  string
	// clusters is the file that lists the cluster.
	clusters string
	images   int
}

func TestNodePlugin(t *testing.T) {
	if _, err := exec.LookPath("ceph-mon"); err != nil || os.Geteuid() != 0 {
		t.Skip("SKIPPED: needs root and Debian's packages of Ceph")
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	b := &bench{T: t, ctx: ctx, dir: t.TempDir()}
	defer b.unmount()
	sup, err := process.NewSupervisor(b.dir)
	b.must(err)
	defer func() { b.must(sup.StopAll(context.Background())) }()
	b.ceph, err = ceph.Start(ctx, sup, ceph.Options{Name: "ceph", Dir: b.dir + "/c", IP: netip.MustParseAddr("127.0.0.10"), Monitors: 1, OSDs: 3})
	b.must(err)
	key, err := b.ceph.CreateUser(ctx, "csi-rbd-node", map[string]string{"mon": "profile rbd", "osd": "profile rbd pool=" + ceph.Pool})
	b.must(err)
	b.clusters = b.dir + "/clusters.json"
	text, err := json.Marshal([]cluster{{ClusterID: "c1", Monitors: b.ceph.Monitors()[0], KeyFile: key}})
	b.must(err)
	b.must(os.WriteFile(b.clusters, text, 0o600))
	b.must(os.Mkdir(b.acks(), 0o755))
	for name, test := range map[string]func(*bench){
		"all images share a client, and a blocklisted one serves none until all are closed": oneClient,
		"each image has a client where that is asked for":                                   clientPerImage,
		"an image in use elsewhere is refused":                                              inUse,
		"a client without answers keeps its image":                                          hangs,
	} {
		t.Run(name, func(t *testing.T) {
			of := *b
			of.T = t
			test(&of)
			b.images = of.images
		})
	}
}

func (b *bench) must(err error) {
	b.Helper()
	if err != nil {
		b.Fatal(err)
	}
}

// unmount removes what a failed test left.
func (b *bench) unmount() {
	mounter := mount.New("")
	mounts, err := mounter.List()
	b.must(err)
	for _, m := range slices.Backward(mounts) {
		if strings.HasPrefix(m.Path, b.dir+"/") {
			b.must(mounter.Unmount(m.Path))
		}
	}
}

func (b *bench) acks() string { return filepath.Join(b.dir, "acks") }

func (b *bench) image() string {
	b.Helper()
	b.images++
	name := fmt.Sprintf("img-%d", b.images)
	b.must(b.ceph.CreateImage(b.ctx, ceph.Pool, name, 8))
	return name
}

func (b *bench) plugin(name string, clientPerImage bool) *plugin {
	o := options{node: name, user: "csi-rbd-node", clustersFile: b.clusters, ackDir: b.acks(), clientPerImage: clientPerImage}
	return &plugin{b, newNode(o, newLibrary(o))}
}

// watcher is the one client that has the image open.
func (b *bench) watcher(image string) string {
	b.Helper()
	watchers, err := b.ceph.Watchers(b.ctx, ceph.Pool, image)
	b.must(err)
	if len(watchers) != 1 {
		b.Fatalf("watchers of %s: %v", image, watchers)
	}
	return watchers[0]
}

// seen waits for what is wanted of the last writer, and proves the data.
func (b *bench) seen(image string, wanted func(workload.WriterReport) bool) {
	b.Helper()
	for deadline := time.Now().Add(90 * time.Second); ; time.Sleep(100 * time.Millisecond) {
		report, err := rbdcheck.Check(b.ctx, b.ceph.ConfFile(), ceph.Pool, image, b.acks())
		b.must(err)
		if !report.OK {
			b.Fatalf("the data of %s does not hold:\n%s", image, report)
		}
		if n := len(report.Writers); n > 0 && wanted(report.Writers[n-1]) {
			return
		}
		if time.Now().After(deadline) {
			b.Fatalf("not seen on %s:\n%s", image, report)
		}
	}
}

func wrote(w workload.WriterReport) bool   { return w.Acknowledged > 3 }
func refused(w workload.WriterReport) bool { return strings.Contains(w.Refused, "ret=-108") }

// plugin is a node's plugin.
type plugin struct {
	*bench
	node *node
}

func (p *plugin) staging(image string) string {
	return filepath.Join(p.dir, p.node.options.node, image, "staging")
}

func (p *plugin) target(image string) string {
	return filepath.Join(p.dir, p.node.options.node, image, "target")
}

func (p *plugin) stage(image string) error {
	_, err := p.node.NodeStageVolume(p.ctx, &csi.NodeStageVolumeRequest{
		VolumeId: image, StagingTargetPath: p.staging(image), VolumeContext: map[string]string{"clusterID": "c1", "pool": ceph.Pool, "imageName": image},
	})
	return err
}

func (p *plugin) publish(image string) error {
	_, err := p.node.NodePublishVolume(p.ctx, &csi.NodePublishVolumeRequest{
		VolumeId: image, StagingTargetPath: p.staging(image), TargetPath: p.target(image),
	})
	return err
}

func (p *plugin) unpublish(image string) error {
	_, err := p.node.NodeUnpublishVolume(p.ctx, &csi.NodeUnpublishVolumeRequest{VolumeId: image, TargetPath: p.target(image)})
	return err
}

func (p *plugin) unstage(image string) error {
	_, err := p.node.NodeUnstageVolume(p.ctx, &csi.NodeUnstageVolumeRequest{VolumeId: image, StagingTargetPath: p.staging(image)})
	return err
}

// up stages and publishes.
func (p *plugin) up(images ...string) {
	p.Helper()
	for _, image := range images {
		p.must(p.stage(image))
		p.must(p.publish(image))
		p.seen(image, wrote)
	}
}

func (p *plugin) down(images ...string) {
	p.Helper()
	for _, image := range images {
		p.must(p.unpublish(image))
		p.must(p.unstage(image))
	}
}

func (p *plugin) refuses(err error, because string) {
	p.Helper()
	if err == nil || !strings.Contains(err.Error(), because) {
		p.Fatalf("want a refusal because of %q, got %v", because, err)
	}
}

func oneClient(b *bench) {
	p, x, y, z := b.plugin("a", false), b.image(), b.image(), b.image()
	p.up(x, y)
	client := b.watcher(x)
	if other := b.watcher(y); other != client {
		b.Errorf("two clients: %s and %s", client, other)
	}
	_, err := b.ceph.Ceph(b.ctx, "osd", "blocklist", "add", client, "3600")
	b.must(err)
	b.seen(x, refused)
	b.seen(y, refused)
	p.refuses(p.stage(z), "(108)")
	p.down(x)
	p.refuses(p.stage(z), "(108)")
	p.down(y)
	p.up(z, x)
	if b.watcher(z) == client {
		b.Error("the blocklisted client is still used")
	}
	p.down(z, x)
}

func clientPerImage(b *bench) {
	p, x, y := b.plugin("a", true), b.image(), b.image()
	p.up(x, y)
	if b.watcher(x) == b.watcher(y) {
		b.Error("one client for both")
	}
	p.down(x, y)
}

func inUse(b *bench) {
	p, q, x := b.plugin("a", false), b.plugin("b", false), b.image()
	p.up(x)
	q.refuses(q.stage(x), "is still being used")
	p.down(x)
	q.up(x)
	q.down(x)
}

func hangs(b *bench) {
	p, x, y := b.plugin("a", false), b.image(), b.image()
	p.up(x)
	p.must(p.stage(y))
	for osd := range 3 {
		b.must(b.ceph.FreezeOSD(osd))
	}
	time.Sleep(200 * time.Millisecond) // for a write to be under way
	began := time.Now()
	p.refuses(p.unpublish(x), "is busy")
	p.refuses(p.unstage(y), "does not answer")
	p.refuses(p.publish(y), "is being closed")
	if took := time.Since(began); took > stopWithin+closeWithin+time.Second {
		b.Errorf("took %s", took)
	}
	for osd := range 3 {
		b.must(b.ceph.ThawOSD(osd))
	}
	b.must(eventually(func() error { return p.unpublish(x) }))
	b.must(eventually(func() error { return p.unstage(y) }))
	b.must(p.unstage(x))
	if n, clients := len(p.node.images.byID), p.node.images.mapper.(*library).shared; n != 0 || len(clients) != 0 {
		b.Errorf("%d images are left, and the clients %v", n, clients)
	}
	if watchers, err := b.ceph.Watchers(b.ctx, ceph.Pool, x); err != nil || !slices.Equal(watchers, nil) {
		b.Errorf("watchers %v, %v", watchers, err)
	}
	p.up(x)
	p.down(x)
}

func eventually(do func() error) (err error) {
	for range 30 {
		if err = do(); err == nil {
			return nil
		}
		time.Sleep(200 * time.Millisecond)
	}
	return err
}
