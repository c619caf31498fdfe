//go:build librados

package ceph_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	product "github.com/rbd-rescue/rbd-rescue/ceph"
	"github.com/rbd-rescue/rbd-rescue/ceph/librados"
	"github.com/rbd-rescue/rbd-rescue/e2e/lab/ceph"
	"github.com/rbd-rescue/rbd-rescue/e2e/lab/process"
	"github.com/rbd-rescue/rbd-rescue/e2e/lab/skip"
)

const (
	// dataPool keeps the data of image withData.
	dataPool = "data"
	withData = "with-data"
	user     = "rbd-rescue"
)

// releaseTest is a cluster of one release, with a host beside it.
type releaseTest struct {
	ceph.Release
	*ceph.Cluster
	dir string
	sup *process.Supervisor
	// node is the host beside it.
	node host
	// options connect rbd-rescue with the least rights.
	options librados.Options
}

// What rbd-rescue asks of Ceph is asked of old and new daemons, by the client library that the product has.
func TestReleases(t *testing.T) {
	if _, err := exec.LookPath("ceph-mon"); err != nil || os.Geteuid() != 0 {
		skip.Loudly(t, "OLD AND NEW CEPH IS NOT TESTED: it needs root and Debian's packages of Ceph")
	}
	connTests := buildConnTests(t)
	for i, release := range ceph.Releases {
		t.Run(release.Version, func(t *testing.T) {
			usr, err := release.Usr("../../bin")
			if err != nil {
				skip.Loudly(t, "CEPH %s IS NOT TESTED: %v", release.Version, err)
			}
			t.Parallel()
			ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
			t.Cleanup(cancel)
			r := startRelease(ctx, t, release, i, usr)
			t.Run("conn", func(t *testing.T) { r.conn(ctx, t, connTests) })
			t.Run("rights", func(t *testing.T) { r.rights(ctx, t) })
			t.Run("snapshot rights", func(t *testing.T) { r.snapshotRights(ctx, t) })
			t.Run("placement", func(t *testing.T) { r.placement(ctx, t) })
			t.Run("mirrored", func(t *testing.T) { r.mirrored(ctx, t) })
			t.Run("snapshots", func(t *testing.T) { r.snapshots(ctx, t) })
			t.Run("ends", func(t *testing.T) { r.ends(ctx, t) })
			t.Run("fence", func(t *testing.T) { r.fence(ctx, t) })
		})
	}
}

func startRelease(ctx context.Context, t *testing.T, release ceph.Release, number int, usr string) *releaseTest {
	t.Helper()
	r := &releaseTest{Release: release, dir: t.TempDir()}
	var err error
	if r.sup, err = process.NewSupervisor(r.dir); err != nil {
		t.Fatal(err)
	}
	ip := netip.AddrFrom4([4]byte{10, 87, byte(number), 1})
	r.node = addHost(ctx, t, fmt.Sprintf("rbdceph%d", number), ip)
	t.Cleanup(func() { // before the host goes
		if err := r.sup.StopAll(context.Background()); err != nil {
			t.Error(err)
		}
	})
	began := time.Now()
	if r.Cluster, err = ceph.Start(ctx, r.sup, ceph.Options{Name: "ceph", Dir: r.dir + "/c", IP: ip, Monitors: 1, OSDs: 3, Usr: usr}); err != nil {
		t.Fatal(err)
	}
	versions := r.ask(ctx, t, "osd", "versions")
	t.Logf("up after %s: %s", time.Since(began), versions)
	if !strings.Contains(versions, "ceph version "+release.Version+".") {
		t.Fatalf("its OSDs are not of release %s", release.Version)
	}
	r.ask(ctx, t, "osd", "pool", "create", dataPool, "12")
	if _, err := r.RBD(ctx, "create", ceph.Pool+"/"+withData, "--size", "8", "--image-feature", "layering", "--data-pool", dataPool); err != nil {
		t.Fatal(err)
	}
	r.options = r.user(ctx, t, user, release.LeastRights(ceph.Pool, dataPool))
	return r
}

func (r *releaseTest) ask(ctx context.Context, t *testing.T, command ...string) string {
	t.Helper()
	out, err := r.Ceph(ctx, command...)
	if err != nil {
		t.Fatal(err)
	}
	return string(bytes.TrimSpace(out))
}

func (r *releaseTest) user(ctx context.Context, t *testing.T, name string, rights map[string]string) librados.Options {
	t.Helper()
	file, err := r.CreateUser(ctx, name, rights)
	if err != nil {
		t.Fatal(err)
	}
	key, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return librados.Options{Monitors: r.Monitors(), User: name, Key: string(key)}
}

func connect(ctx context.Context, t *testing.T, options librados.Options) *product.Cluster {
	t.Helper()
	conn, err := librados.Dial(ctx, options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(conn.Close)
	return product.NewCluster(conn)
}

// buildConnTests builds the tests of ceph/librados, which is in the product's own module.
func buildConnTests(t *testing.T) string {
	t.Helper()
	binary := filepath.Join(t.TempDir(), "librados.test")
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "go", "test", "-c", "-tags", "librados,pacific", "-o", binary, "./ceph/librados")
	cmd.Dir = "../../.."
	cmd.Env = append(os.Environ(), "GOWORK=off")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("building the tests of ceph/librados: %v\n%s", err, out)
	}
	return binary
}

// conn runs the tests of ceph/librados with the least rights.
func (r *releaseTest) conn(ctx context.Context, t *testing.T, tests string) {
	out, err := r.sup.Run(ctx, process.Spec{
		Name: "librados-test", Path: tests, Args: []string{"-test.v", "-test.timeout", "2m"},
		Env: []string{"RBD_RESCUE_TEST_CEPH=" + strings.Join([]string{
			r.options.Monitors[0], r.options.User, r.options.Key, ceph.Pool, withData, dataPool,
		}, " ")},
	})
	t.Logf("\n%s", out)
	if err != nil {
		t.Error(err)
	}
	if bytes.Contains(out, []byte("--- SKIP")) {
		t.Error("some were skipped")
	}
}

// rights measures which caps let rbd-rescue cut clients off.
func (r *releaseTest) rights(ctx context.Context, t *testing.T) {
	client := []product.Address{product.MustParseAddress("192.0.2.9:0/9")}
	for _, words := range [][]string{{"blocklist"}, {"blacklist"}, {"blocklist", "blacklist"}, {}} {
		mon := "allow r"
		for _, word := range words {
			mon += fmt.Sprintf(", allow command %q", "osd "+word)
		}
		options := r.user(ctx, t, "rights-"+strings.Join(words, "-"), map[string]string{"mon": mon, "osd": "profile rbd-read-only pool=" + ceph.Pool})
		cluster := connect(ctx, t, options)
		r.tried(ctx, t, cluster, slices.Contains(words, r.Word))
		err := cluster.AddToBlocklist(ctx, client, time.Hour)
		if err == nil {
			err = cluster.RemoveFromBlocklist(ctx, client)
		}
		t.Logf("mon '%s': %v", mon, err)
		want := false
		for _, word := range words {
			want = want || word == r.Word
		}
		switch {
		case want && err != nil:
			t.Errorf("mon '%s' does not suffice", mon)
		case !want && !errors.Is(err, syscall.EACCES):
			t.Errorf("mon '%s' should be refused, and told so", mon)
		case !want && !strings.Contains(err.Error(), fmt.Sprintf("allow command %q", "osd "+r.Word)):
			t.Errorf("the refusal does not say which right is missing: %v", err)
		}
	}
}

// tried: doctor tells the rights that are there from those that are not, and changes nothing.
func (r *releaseTest) tried(ctx context.Context, t *testing.T, cluster *product.Cluster, may bool) {
	t.Helper()
	var rights product.BlocklistRights
	for tries, changed := 0, true; changed; tries++ {
		before, err := cluster.ReadOSDMap(ctx)
		if err != nil {
			t.Fatal(err)
		}
		rights = cluster.TryBlocklist(ctx)
		after, err := cluster.ReadOSDMap(ctx)
		if err != nil {
			t.Fatal(err)
		}
		// The map also changes by itself, above all on a busy machine; what trying did would be there each time.
		if changed = after.Epoch != before.Epoch; changed && tries == 4 {
			t.Fatalf("trying it made OSD map %d of %d", after.Epoch, before.Epoch)
		}
	}
	for _, err := range []error{rights.Add, rights.Remove} {
		if may && (err != nil || rights.Word != r.Word) || !may && !errors.Is(err, syscall.EACCES) {
			t.Errorf("tried %+v, and may: %v", rights, may)
		}
	}
	if err := cluster.TrySnapshots(ctx, product.PoolRef{Pool: ceph.Pool}); !errors.Is(err, syscall.EPERM) {
		t.Errorf("it may take snapshots: %v", err)
	}
	told, err := cluster.Time(ctx)
	old := r.Word == "blacklist" // it tells no zone
	if age := time.Since(told); err != nil || told.IsZero() != old || !old && (age < -time.Second || age > time.Minute) {
		t.Errorf("its time is %v, %s ago (%v)", told, age, err)
	}
}

// snapshotRights: doctor tells a user that may take them, and leaves no object.
func (r *releaseTest) snapshotRights(ctx context.Context, t *testing.T) {
	options := r.user(ctx, t, "snapshot-rights", map[string]string{
		"mon": "allow r", "osd": fmt.Sprintf("profile rbd-read-only pool=%[1]s, allow rwx pool=%[1]s object_prefix rbd_header.", ceph.Pool),
	})
	if err := connect(ctx, t, options).TrySnapshots(ctx, product.PoolRef{Pool: ceph.Pool}); err != nil {
		t.Error(err)
	}
	objects, err := r.Rados(ctx, "--pool", ceph.Pool, "ls")
	if err != nil || bytes.Contains(objects, []byte("tried-by")) {
		t.Errorf("left %s (%v)", objects, err)
	}
}

// mirrored: with the least rights it can be told which images rbd-mirror copies.
func (r *releaseTest) mirrored(ctx context.Context, t *testing.T) {
	if err := r.CreateImage(ctx, ceph.Pool, "mirrored", imageMiB, "layering", "exclusive-lock", "journaling"); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"mirror", "pool", "enable", ceph.Pool, "image"}, {"mirror", "image", "enable", ceph.Pool + "/mirrored"}} {
		if _, err := r.RBD(ctx, args...); err != nil {
			t.Fatal(err)
		}
	}
	cluster := connect(ctx, t, r.options)
	for name, want := range map[string]bool{"mirrored": true, withData: false} {
		use, err := cluster.Inspect(ctx, product.Image{Pool: ceph.Pool, Name: name})
		if err != nil {
			t.Fatal(err)
		}
		if use.Mirrored != want {
			t.Errorf("image %s is mirrored: %v", name, use.Mirrored)
		}
	}
	hosts, err := cluster.MirrorHosts(ctx)
	if err != nil || len(hosts) > 0 {
		t.Errorf("rbd-mirror daemons live at %v: %v", hosts, err)
	}
}

// placement compares the computed placement groups with those that the monitors say, in a pool whose number is no power of two.
func (r *releaseTest) placement(ctx context.Context, t *testing.T) {
	conn, err := librados.Dial(ctx, r.options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(conn.Close)
	m, err := product.NewCluster(conn).ReadOSDMap(ctx)
	if err != nil {
		t.Fatal(err)
	}
	pool := m.Pools[dataPool]
	if pool.PlacementGroups != 12 {
		t.Fatalf("pool %s has %d placement groups, not 12", dataPool, pool.PlacementGroups)
	}
	for _, namespace := range []string{"", "tenant"} {
		objects, err := product.ObjectPerPlacementGroup(pool.PlacementGroups, namespace)
		if err != nil {
			t.Fatal(err)
		}
		for group, object := range objects {
			command, err := json.Marshal(map[string]string{
				"prefix": "osd map", "pool": dataPool, "object": object, "nspace": namespace, "format": "json",
			})
			if err != nil {
				t.Fatal(err)
			}
			out, err := conn.MonCommand(ctx, command)
			if err != nil {
				t.Fatal(err)
			}
			var placed struct {
				PGID string `json:"pgid"`
			}
			if err := json.Unmarshal(out, &placed); err != nil {
				t.Fatal(err)
			}
			if want := fmt.Sprintf("%d.%x", pool.ID, group); placed.PGID != want {
				t.Errorf("%s in namespace %q lies in %s, computed was %s", object, namespace, placed.PGID, want)
			}
		}
	}
}
