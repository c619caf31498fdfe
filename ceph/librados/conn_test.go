//go:build librados

package librados

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rbd-rescue/rbd-rescue/ceph"
)

// env holds "MONITORS USER KEY POOL [IMAGE [DATAPOOL]]" of a Ceph cluster to test with, separated by spaces. The user needs the caps
// mon 'allow r, allow command "osd blocklist"' and osd 'profile rbd-read-only, allow class rbd metadata_set'. Only entries of
// 192.0.2.0/24 are made, and metadata "rbd-rescue-test" of the image.
const env = "RBD_RESCUE_TEST_CEPH"

type target struct {
	options               Options
	pool, image, dataPool string
}

func realCluster(t *testing.T) target {
	t.Helper()
	fields := strings.Fields(os.Getenv(env))
	if len(fields) < 4 {
		t.Skipf("no Ceph cluster to test with: set %s to \"MONITORS USER KEY POOL [IMAGE [DATAPOOL]]\"", env)
	}
	at := target{options: Options{Monitors: strings.Split(fields[0], ","), User: fields[1], Key: fields[2]}, pool: fields[3]}
	if len(fields) > 4 {
		at.image = fields[4]
	}
	if len(fields) > 5 {
		at.dataPool = fields[5]
	}
	return at
}

func connect(t *testing.T, options Options) *ceph.Cluster {
	t.Helper()
	conn, err := Dial(within(t, 15*time.Second), options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(conn.Close)
	return ceph.NewCluster(conn)
}

func within(t *testing.T, limit time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	t.Cleanup(cancel)
	return ctx
}

func TestFenceProveLift(t *testing.T) {
	t.Parallel()
	at := realCluster(t)
	cluster := connect(t, at.options)
	ctx := within(t, time.Minute)
	var clients []ceph.Address
	for nonce := range 20 {
		clients = append(clients, ceph.MustParseAddress(fmt.Sprintf("192.0.2.1:0/%d", 4294967295-nonce)))
	}
	clients = append(clients, ceph.MustParseAddress("[2001:db8::7]:0/42"), ceph.MustParseAddress("192.0.2.2:0/0"))
	before := time.Now()
	if err := cluster.AddToBlocklist(ctx, clients, 365*24*time.Hour); err != nil {
		t.Fatal(err)
	}
	t.Logf("%d clients added within %v", len(clients), time.Since(before))
	m, err := cluster.ReadOSDMap(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for _, client := range clients {
		if until := m.Blocklist[client]; until.Before(before.Add(364*24*time.Hour)) || until.After(time.Now().Add(366*24*time.Hour)) {
			t.Errorf("%s is cut off until %v", client, until)
		}
	}
	asked := time.Now()
	if err := cluster.Barrier(ctx, m, []ceph.PoolRef{{Pool: at.pool}}); err != nil {
		t.Error(err)
	}
	t.Logf("map %d proven on %d placement groups within %v", m.Epoch, m.Pools[at.pool].PlacementGroups, time.Since(asked))
	for range 2 { // what is not there any more is removed as well
		if err := cluster.RemoveFromBlocklist(ctx, clients); err != nil {
			t.Fatal(err)
		}
	}
	if m, err = cluster.ReadOSDMap(ctx); err != nil {
		t.Fatal(err)
	}
	for _, client := range clients {
		if _, listed := m.Blocklist[client]; listed {
			t.Errorf("%s is still cut off", client)
		}
	}
}

func TestOwnAddressIsNeverFenced(t *testing.T) {
	t.Parallel()
	at := realCluster(t)
	cluster := connect(t, at.options)
	ctx := within(t, 20*time.Second)
	own, err := cluster.OwnAddresses(ctx)
	if err != nil || len(own) == 0 || own[0].Nonce == 0 {
		t.Fatalf("own addresses are %v: %v", own, err)
	}
	if err := cluster.AddToBlocklist(ctx, own, time.Minute); err == nil {
		t.Error("S2: fenced rbd-rescue itself")
	}
}

func TestDaemonHostsAreThoseOfTheMonitors(t *testing.T) {
	t.Parallel()
	at := realCluster(t)
	hosts, err := connect(t, at.options).DaemonHosts(within(t, 20*time.Second))
	if err != nil {
		t.Fatal(err)
	}
	monitor, err := netip.ParseAddrPort(at.options.Monitors[0])
	if err != nil {
		t.Skipf("the monitor's address is no IP: %v", err)
	}
	if hosts[monitor.Addr()] == "" {
		t.Errorf("no daemon at %s, only at %v", monitor.Addr(), hosts)
	}
}

func TestImages(t *testing.T) {
	t.Parallel()
	at := realCluster(t)
	cluster := connect(t, at.options)
	ctx := within(t, 20*time.Second)
	if _, err := cluster.Inspect(ctx, ceph.Image{Pool: at.pool, Name: "rbd-rescue-there-is-none"}); !ceph.IsNotFound(err) {
		t.Errorf("an image that is not there: %v", err)
	}
	if _, err := cluster.Inspect(ctx, ceph.Image{Pool: "rbd-rescue-there-is-none", Name: "a"}); !ceph.IsNotFound(err) {
		t.Errorf("a pool that is not there: %v", err)
	}
	if at.image == "" {
		t.Skipf("no image in %s", env)
	}
	own, err := cluster.OwnAddresses(ctx)
	if err != nil {
		t.Fatal(err)
	}
	var group sync.WaitGroup
	for range 20 {
		group.Go(func() {
			use, err := cluster.Inspect(ctx, ceph.Image{Pool: at.pool, Name: at.image})
			if err != nil || use.DataPool != at.dataPool {
				t.Errorf("its data pool is %q, want %q: %v", use.DataPool, at.dataPool, err)
			}
			for _, w := range use.Watchers {
				if w.Address == own[0] {
					t.Error("reading the watchers made one")
				}
			}
		})
	}
	group.Wait()
}

func TestMetadataIsKeptWithAnImageAndMakesNone(t *testing.T) {
	t.Parallel()
	at := realCluster(t)
	if at.image == "" {
		t.Skipf("no image in %s", env)
	}
	conn, err := Dial(within(t, 15*time.Second), at.options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(conn.Close)
	ctx := within(t, 20*time.Second)
	image := ceph.Image{Pool: at.pool, Name: at.image}
	for _, value := range []string{"first", "second"} {
		if err := conn.SetMetadata(ctx, image, "rbd-rescue-test", value); err != nil {
			t.Fatal(err)
		}
		if state, err := conn.Inspect(ctx, image); err != nil || state.Metadata["rbd-rescue-test"] != value {
			t.Errorf("metadata is %v: %v", state.Metadata, err)
		}
	}
	ioctx, err := conn.open(at.pool, "")
	if err != nil {
		t.Fatal(err)
	}
	defer ioctx.Destroy()
	if err := translate("set image metadata", setMetadata(ioctx, "none", "key", "value")); !ceph.IsNotFound(err) {
		t.Errorf("an image that was removed meanwhile: %v", err)
	}
	if _, err := ioctx.Stat("rbd_header.none"); !ceph.IsNotFound(translate("stat", err)) {
		t.Errorf("the header of an image that was removed: %v", err)
	}
}

func TestDialWithAWrongKeyFailsWithinTheLimit(t *testing.T) {
	t.Parallel()
	at := realCluster(t)
	wrong := at.options
	wrong.Key = "AQAAAAAAAAAAABAAAAAAAAAAAAAAAAAAAAAAAA=="
	begun := time.Now()
	conn, err := Dial(within(t, 20*time.Second), wrong)
	if err == nil {
		conn.Close()
		t.Fatal("connected")
	}
	t.Logf("after %v: %v", time.Since(begun), err)
	var refused *ceph.CommandError
	if !errors.As(err, &refused) || errors.Is(err, ceph.ErrInDoubt) || strings.Contains(err.Error(), wrong.Key) || !strings.Contains(err.Error(), "key") {
		t.Errorf("got %v", err)
	}
}

func TestDialWithNoMonitorFailsWithinTheLimit(t *testing.T) {
	t.Parallel()
	realCluster(t)
	options := Options{Monitors: []string{"127.0.0.1:1"}, User: "nobody", Key: "AQAAAAAAAAAAABAAAAAAAAAAAAAAAAAAAAAAAA==", ConnectTimeout: 2 * time.Second}
	for name, limit := range map[string]time.Duration{"Ceph's": 20 * time.Second, "the caller's": 500 * time.Millisecond} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			begun := time.Now()
			conn, err := Dial(within(t, limit), options)
			if err == nil {
				conn.Close()
				t.Fatal("connected")
			}
			t.Logf("after %v: %v", time.Since(begun), err)
			if errors.Is(err, ceph.ErrInDoubt) || time.Since(begun) > min(limit, 6*time.Second)+time.Second {
				t.Errorf("after %v: %v", time.Since(begun), err)
			}
		})
	}
}

func TestCloseRefusesFurtherCalls(t *testing.T) {
	t.Parallel()
	at := realCluster(t)
	conn, err := Dial(within(t, 15*time.Second), at.options)
	if err != nil {
		t.Fatal(err)
	}
	cluster := ceph.NewCluster(conn)
	var group sync.WaitGroup
	for range 50 {
		group.Go(func() {
			ctx, cancel := context.WithTimeout(context.Background(), time.Millisecond)
			defer cancel()
			_, _ = cluster.ReadOSDMap(ctx) // given up under way
		})
	}
	group.Wait()
	conn.Close()
	conn.Close()
	if _, err := cluster.ReadOSDMap(within(t, time.Second)); !errors.Is(err, errClosed) {
		t.Errorf("got %v", err)
	}
}
