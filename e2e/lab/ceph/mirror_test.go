//go:build librados

package ceph_test

import (
	"context"
	"encoding/json"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	product "github.com/rbd-rescue/rbd-rescue/ceph"
	"github.com/rbd-rescue/rbd-rescue/e2e/lab/ceph"
	"github.com/rbd-rescue/rbd-rescue/e2e/lab/process"
	"github.com/rbd-rescue/rbd-rescue/e2e/lab/skip"
)

// An rbd-mirror daemon of site b copies an image of site a: there it is a watcher, which a knows nothing of; b lists it.
func TestAMirrorDaemonIsAWatcherThatOnlyItsOwnSiteLists(t *testing.T) {
	if _, err := exec.LookPath("rbd-mirror"); err != nil || os.Geteuid() != 0 {
		skip.Loudly(t, "RBD-MIRROR IS NOT TESTED: it needs root and Debian's packages of Ceph")
	}
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	const netns = "rbdmirror"
	siteA, siteB := netip.MustParseAddr("10.87.20.1"), netip.MustParseAddr("10.87.20.5")
	mirror := addHost(ctx, t, netns, siteA)
	for _, command := range []string{"addr add " + siteB.String() + "/32 dev " + netns, "-n " + netns + " route add default via " + siteA.String()} {
		if out, err := exec.CommandContext(ctx, "ip", strings.Fields(command)...).CombinedOutput(); err != nil {
			t.Fatalf("ip %s: %v: %s", command, err, out)
		}
	}
	dir := t.TempDir()
	sup, err := process.NewSupervisor(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := sup.StopAll(context.Background()); err != nil {
			t.Error(err)
		}
	})
	site := func(name string, ip netip.Addr) *releaseTest {
		cluster, err := ceph.Start(ctx, sup, ceph.Options{Name: name, Dir: filepath.Join(dir, name), IP: ip, Monitors: 1, OSDs: 2})
		if err != nil {
			t.Fatal(err)
		}
		r := &releaseTest{Cluster: cluster}
		if _, err := r.RBD(ctx, "mirror", "pool", "enable", "--site-name", name, ceph.Pool, "image"); err != nil {
			t.Fatal(err)
		}
		r.options = r.user(ctx, t, user, ceph.Release{Word: "blocklist"}.LeastRights(ceph.Pool))
		return r
	}
	a, b := site("site-a", siteA), site("site-b", siteB)
	if err := a.CreateImage(ctx, ceph.Pool, "img", imageMiB); err != nil {
		t.Fatal(err)
	}
	token := filepath.Join(dir, "token")
	a.peer(ctx, t, token, "create", "--site-name", "site-a", ceph.Pool)
	b.peer(ctx, t, token, "import", "--site-name", "site-b", "--direction", "rx-only", ceph.Pool, token)
	if _, err := a.RBD(ctx, "mirror", "image", "enable", ceph.Pool+"/img", "snapshot"); err != nil {
		t.Fatal(err)
	}
	key, err := b.CreateUser(ctx, "rbd-mirror.b", map[string]string{"mon": "profile rbd-mirror", "osd": "profile rbd", "mgr": "profile rbd"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := sup.Start(process.Spec{
		Name: "rbd-mirror", Path: "rbd-mirror", NetNS: netns, Env: []string{"CEPH_CONF=" + b.ConfFile()}, // -c does not reach its pools
		Args: []string{"-f", "--id", "rbd-mirror.b", "--keyfile", key},
	}); err != nil {
		t.Fatal(err)
	}

	clusterA, clusterB := connect(ctx, t, a.options), connect(ctx, t, b.options)
	for deadline := time.Now().Add(3 * time.Minute); ; time.Sleep(200 * time.Millisecond) {
		use, err := clusterA.Inspect(ctx, product.Image{Pool: ceph.Pool, Name: "img"})
		if err != nil {
			t.Fatal(err)
		}
		ofB, err := clusterB.MirrorHosts(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if use.Mirrored && ofB[mirror.ip] && slices.ContainsFunc(use.Watchers, func(w product.Watcher) bool { return w.Address.IP == mirror.ip }) {
			t.Logf("watchers in site a: %v", use.Watchers)
			break
		}
		if time.Now().After(deadline) {
			log, _ := os.ReadFile(filepath.Join(sup.Logs(), "rbd-mirror.log"))
			t.Fatalf("image in site a: %+v, daemons that site b lists: %v\n%s", use, ofB, log)
		}
	}
	ofA, err := clusterA.MirrorHosts(ctx)
	if err != nil || len(ofA) > 0 {
		t.Errorf("site a lists %v: %v", ofA, err)
	}
	t.Logf("site b's services: %s", b.ask(ctx, t, "service", "dump"))
}

// peer lets one site's daemons use another's images.
func (r *releaseTest) peer(ctx context.Context, t *testing.T, token, verb string, args ...string) {
	t.Helper()
	out, err := r.RBD(ctx, append([]string{"mirror", "pool", "peer", "bootstrap", verb}, args...)...)
	if err != nil {
		t.Fatal(err)
	}
	if verb == "create" {
		var text struct {
			Token string `json:"token"`
		}
		if json.Unmarshal(out, &text) == nil && text.Token != "" {
			out = []byte(text.Token)
		}
		if err := os.WriteFile(token, out, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}
