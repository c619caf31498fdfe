// Package ceph is the lab's Ceph: real daemons from Debian's packages (mon, mgr, OSDs in memory), with cephx, without
// systemd or containers (facts/ceph.md has the recipe).
package ceph

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"golang.org/x/sync/errgroup"
	"k8s.io/apimachinery/pkg/util/wait"

	"github.com/rbd-rescue/rbd-rescue/e2e/lab/process"
)

// Pool is the one pool.
const Pool = "kubernetes"

// Options of a cluster.
type Options struct {
	// Name that the daemons' processes begin with.
	Name string
	// Dir is made anew.
	Dir string
	// IP that every daemon listens on.
	IP netip.Addr
	// Monitors and OSDs are how many there are.
	Monitors, OSDs int
	// Usr is the /usr of another release of Ceph (e2e/fetch-ceph makes it); empty is the host's.
	Usr string
}

// Cluster is a running Ceph cluster.
type Cluster struct {
	options Options
	sup     *process.Supervisor
	fsid    string
	mons    []*process.Process
	mgr     *process.Process
	osds    []*process.Process
}

// Start brings a cluster up with the pool initialised for RBD.
func Start(ctx context.Context, sup *process.Supervisor, options Options) (*Cluster, error) {
	c := &Cluster{options: options, sup: sup, fsid: uuid.NewString(), osds: make([]*process.Process, options.OSDs), mons: make([]*process.Process, options.Monitors)}
	if err := os.RemoveAll(options.Dir); err != nil {
		return nil, fmt.Errorf("removing an earlier cluster: %w", err)
	}
	for _, dir := range []string{"", "run", "mgr", "modules"} {
		if err := os.MkdirAll(filepath.Join(options.Dir, dir), 0o755); err != nil {
			return nil, fmt.Errorf("making the cluster's folders: %w", err)
		}
	}
	for _, step := range []func(context.Context) error{
		c.writeConf, c.makeMonitors, c.StartMon, c.makePool, c.startManager, c.makeOSDs, c.initPool,
	} {
		if err := step(ctx); err != nil {
			return nil, err
		}
	}
	return c, nil
}

func (c *Cluster) path(parts ...string) string {
	return filepath.Join(append([]string{c.options.Dir}, parts...)...)
}

func (c *Cluster) writeConf(context.Context) error {
	conf := fmt.Sprintf(`[global]
fsid = %[1]s
mon host = %[4]s
public addr = %[2]s
cluster addr = %[2]s
auth cluster required = cephx
auth service required = cephx
auth client required = cephx
keyring = %[3]s/keyring
run dir = %[3]s/run
admin socket = %[3]s/run/$name.asok
crash dir = %[3]s/run
log file =
log to stderr = true
err to stderr = true
osd pool default size = 2
osd pool default min size = 1
osd pool default pg autoscale mode = off
osd crush chooseleaf type = 0
osd objectstore = memstore
memstore device bytes = 4294967296
osd class load list = *
osd class default list = *
osd fast shutdown = false
osd heartbeat interval = 2
osd heartbeat grace = 6
mon osd min down reporters = 1
mon data avail warn = 1
mon data avail crit = 0
mon data = %[3]s/mon-$id
mgr data = %[3]s/mgr
mgr module path = %[3]s/modules
auth allow insecure global id reclaim = false
[osd]
osd data = %[3]s/osd-$id
keyring = %[3]s/osd-$id/keyring
[mgr]
keyring = %[3]s/mgr/keyring
mgr initial modules =
[mon]
keyring = %[3]s/mon.keyring
`, c.fsid, c.options.IP, c.options.Dir, strings.Join(c.monitorAddresses(), " "))
	if err := os.WriteFile(c.ConfFile(), []byte(conf), 0o644); err != nil {
		return fmt.Errorf("writing ceph.conf: %w", err)
	}
	return nil
}

func (c *Cluster) makeMonitors(ctx context.Context) error {
	monKeyring, admin := c.path("mon.keyring"), c.path("keyring")
	for _, args := range [][]string{
		{"ceph-authtool", "--create-keyring", monKeyring, "--gen-key", "-n", "mon.", "--cap", "mon", "allow *"},
		{"ceph-authtool", "--create-keyring", admin, "--gen-key", "-n", "client.admin",
			"--cap", "mon", "allow *", "--cap", "osd", "allow *", "--cap", "mgr", "allow *"},
		{"ceph-authtool", monKeyring, "--import-keyring", admin},
		{"ceph-authtool", "--create-keyring", c.path("mgr", "keyring"), "--gen-key", "-n", "mgr.x",
			"--cap", "mon", "allow profile mgr", "--cap", "osd", "allow *", "--cap", "mds", "allow *"},
		{"ceph-authtool", monKeyring, "--import-keyring", c.path("mgr", "keyring")},
		{"monmaptool", "--create", "--fsid", c.fsid, c.path("monmap")},
	} {
		if _, err := c.run(ctx, args[0], args[1:]...); err != nil {
			return fmt.Errorf("making the monitors: %w", err)
		}
	}
	for i, address := range c.monitorAddresses() {
		if _, err := c.run(ctx, "monmaptool", "--addv", monitorID(i), address, c.path("monmap")); err != nil {
			return fmt.Errorf("listing monitor %s: %w", monitorID(i), err)
		}
	}
	for i := range c.mons {
		id := monitorID(i)
		if err := os.MkdirAll(c.path("mon-"+id), 0o755); err != nil {
			return fmt.Errorf("making the folder of monitor %s: %w", id, err)
		}
		if _, err := c.run(ctx, "ceph-mon", "-c", c.ConfFile(), "--mkfs", "-i", id, "--monmap", c.path("monmap"), "--keyring", monKeyring); err != nil {
			return fmt.Errorf("making monitor %s: %w", id, err)
		}
	}
	return nil
}

func monitorID(i int) string { return string(rune('a' + i)) }

// monitorAddresses are the monitors' addresses in both protocols: they share an IP, and differ by port.
func (c *Cluster) monitorAddresses() []string {
	addresses := make([]string, c.options.Monitors)
	for i := range addresses {
		addresses[i] = fmt.Sprintf("[v2:%[1]s:%[2]d,v1:%[1]s:%[3]d]", c.options.IP, 3300+i, 6789+i)
	}
	return addresses
}

// StartMon starts the monitors that do not run, and waits until they answer.
func (c *Cluster) StartMon(ctx context.Context) error {
	for i, mon := range c.mons {
		if mon != nil && !mon.Ended() {
			continue
		}
		var err error
		if c.mons[i], err = c.daemon("mon-"+monitorID(i), "ceph-mon", "-i", monitorID(i)); err != nil {
			return err
		}
	}
	return c.eventually(ctx, "the monitors to answer", func(ctx context.Context) (bool, error) {
		_, err := c.Ceph(ctx, "fsid")
		return err == nil, nil
	})
}

// StopMon ends every monitor.
func (c *Cluster) StopMon(ctx context.Context) error { return stop(ctx, c.mons) }

// StopQuorum ends every monitor but the last, which goes on without the others.
func (c *Cluster) StopQuorum(ctx context.Context) error { return stop(ctx, c.mons[:len(c.mons)-1]) }

func stop(ctx context.Context, daemons []*process.Process) error {
	var failed []error
	for _, daemon := range daemons {
		failed = append(failed, daemon.Stop(ctx))
	}
	return errors.Join(failed...)
}

func (c *Cluster) startManager(context.Context) (err error) {
	c.mgr, err = c.daemon("mgr-x", "ceph-mgr", "-i", "x")
	return err
}

// StartManagerIn starts a standby manager in a network namespace, on an address there.
func (c *Cluster) StartManagerIn(ctx context.Context, netns string, ip netip.Addr) (*process.Process, error) {
	keyring := c.path("mgr", "keyring-y")
	if _, err := c.run(ctx, "ceph", "-c", c.ConfFile(), "auth", "get-or-create", "mgr.y",
		"mon", "allow profile mgr", "osd", "allow *", "mds", "allow *", "-o", keyring); err != nil {
		return nil, fmt.Errorf("making the key of a standby manager: %w", err)
	}
	p, err := c.sup.Start(process.Spec{
		Name: c.options.Name + "-mgr-y", Path: "ceph-mgr", NetNS: netns, Usr: c.options.Usr,
		Args: []string{"-c", c.ConfFile(), "-f", "-i", "y", "--keyring", keyring, "--public-addr", ip.String()},
	})
	if err != nil {
		return nil, fmt.Errorf("starting a standby manager: %w", err)
	}
	return p, c.eventually(ctx, "the standby manager to be known", func(ctx context.Context) (bool, error) {
		out, err := c.Ceph(ctx, "mgr", "metadata", "y")
		return err == nil && strings.Contains(string(out), ip.String()), nil
	})
}

func (c *Cluster) makeOSDs(ctx context.Context) error {
	group, groupCtx := errgroup.WithContext(ctx)
	for id := range c.osds {
		group.Go(func() error { return c.makeOSD(groupCtx, id) })
	}
	if err := group.Wait(); err != nil {
		return err
	}
	return c.eventually(ctx, "all OSDs to be up", func(ctx context.Context) (bool, error) {
		up, err := c.upOSDs(ctx)
		return len(up) == len(c.osds), err
	})
}

func (c *Cluster) makeOSD(ctx context.Context, id int) error {
	dir := c.path(fmt.Sprintf("osd-%d", id))
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("making the folder of OSD %d: %w", id, err)
	}
	identity := uuid.NewString()
	if _, err := c.Ceph(ctx, "osd", "new", identity, fmt.Sprint(id)); err != nil {
		return fmt.Errorf("making OSD %d: %w", id, err)
	}
	if _, err := c.run(ctx, "ceph", "-c", c.ConfFile(), "auth", "get-or-create", fmt.Sprintf("osd.%d", id), "mon", "allow profile osd", "mgr", "allow profile osd",
		"osd", "allow *", "-o", filepath.Join(dir, "keyring")); err != nil {
		return fmt.Errorf("making the key of OSD %d: %w", id, err)
	}
	if _, err := c.run(ctx, "ceph-osd", "-c", c.ConfFile(), "-i", fmt.Sprint(id), "--mkfs", "--osd-uuid", identity); err != nil {
		return fmt.Errorf("making the store of OSD %d: %w", id, err)
	}
	return c.startOSD(id)
}

func (c *Cluster) startOSD(id int) (err error) {
	c.osds[id], err = c.daemon(fmt.Sprintf("osd-%d", id), "ceph-osd", "-i", fmt.Sprint(id))
	return err
}

// StopOSD ends an OSD in order, so that its memory is saved, and waits until the monitor knows.
func (c *Cluster) StopOSD(ctx context.Context, id int) error {
	if err := c.osds[id].Stop(ctx); err != nil {
		return err
	}
	return c.eventually(ctx, fmt.Sprintf("OSD %d to be down", id), func(ctx context.Context) (bool, error) {
		up, err := c.upOSDs(ctx)
		return !slices.Contains(up, id), err
	})
}

// StartOSD starts an OSD that was stopped and waits until the monitor knows.
func (c *Cluster) StartOSD(ctx context.Context, id int) error {
	if err := c.startOSD(id); err != nil {
		return err
	}
	return c.eventually(ctx, fmt.Sprintf("OSD %d to be up", id), func(ctx context.Context) (bool, error) {
		up, err := c.upOSDs(ctx)
		return slices.Contains(up, id), err
	})
}

// FreezeOSD stops an OSD from doing anything, until ThawOSD. Its placement groups do not answer until the others have it
// marked down and its read leases have run out, about 15 s later in all.
func (c *Cluster) FreezeOSD(id int) error { return c.osds[id].Freeze() }

// ThawOSD lets a frozen OSD go on.
func (c *Cluster) ThawOSD(id int) error { return c.osds[id].Thaw() }

// Heal starts and thaws every monitor and OSD that does not run, and waits until Ceph is whole.
func (c *Cluster) Heal(ctx context.Context) error {
	if err := c.StartMon(ctx); err != nil {
		return err
	}
	for id, osd := range c.osds {
		if err := osd.Thaw(); err != nil {
			return err
		}
		if osd.Ended() {
			if err := c.startOSD(id); err != nil {
				return err
			}
		}
	}
	return c.eventually(ctx, "all OSDs to be up", func(ctx context.Context) (bool, error) {
		up, err := c.upOSDs(ctx)
		return len(up) == len(c.osds), err
	})
}

func (c *Cluster) upOSDs(ctx context.Context) ([]int, error) {
	out, err := c.Ceph(ctx, "osd", "dump")
	if err != nil {
		return nil, err
	}
	var dump struct {
		OSDs []struct {
			ID int `json:"osd"`
			Up int `json:"up"`
		} `json:"osds"`
	}
	if err := json.Unmarshal(out, &dump); err != nil {
		return nil, fmt.Errorf("decoding osd dump: %w", err)
	}
	var up []int
	for _, osd := range dump.OSDs {
		if osd.Up == 1 {
			up = append(up, osd.ID)
		}
	}
	return up, nil
}

// makePool comes before the manager, which makes a pool of its own: the pool's number decides on where its placement groups
// go, and is to be the same each time.
func (c *Cluster) makePool(ctx context.Context) error {
	if _, err := c.Ceph(ctx, "osd", "pool", "create", Pool, "16"); err != nil {
		return fmt.Errorf("making pool %s: %w", Pool, err)
	}
	return nil
}

func (c *Cluster) initPool(ctx context.Context) error {
	if _, err := c.RBD(ctx, "pool", "init", Pool); err != nil {
		return fmt.Errorf("initialising pool %s: %w", Pool, err)
	}
	return nil
}

// FSID of the cluster.
func (c *Cluster) FSID() string { return c.fsid }

// Monitors as ceph-csi's ConfigMap lists them.
func (c *Cluster) Monitors() []string {
	var monitors []string
	for i := range c.mons {
		monitors = append(monitors, netip.AddrPortFrom(c.options.IP, uint16(6789+i)).String())
	}
	return monitors
}

// ConfFile is the ceph.conf of client.admin.
func (c *Cluster) ConfFile() string { return c.path("ceph.conf") }

// CreateUser makes a user and gives the file that holds its key alone.
func (c *Cluster) CreateUser(ctx context.Context, name string, caps map[string]string) (string, error) {
	args := []string{"auth", "get-or-create-key", "client." + name}
	for daemon, rights := range caps {
		args = append(args, daemon, rights)
	}
	out, err := c.Ceph(ctx, args...)
	if err != nil {
		return "", fmt.Errorf("making user %s: %w", name, err)
	}
	var key struct {
		Key string `json:"key"`
	}
	if err := json.Unmarshal(out, &key); err != nil {
		return "", fmt.Errorf("decoding the key of user %s: %w", name, err)
	}
	file := c.path(name + ".key")
	if err := os.WriteFile(file, []byte(key.Key), 0o600); err != nil {
		return "", fmt.Errorf("writing the key of user %s: %w", name, err)
	}
	return file, nil
}

// CreateImage makes an image with these features; with layering alone, ceph-csi's default, if none are given.
func (c *Cluster) CreateImage(ctx context.Context, pool, name string, sizeMiB int, features ...string) error {
	if len(features) == 0 {
		features = []string{"layering"}
	}
	if _, err := c.RBD(ctx, "create", pool+"/"+name, "--size", fmt.Sprint(sizeMiB), "--image-feature", strings.Join(features, ",")); err != nil {
		return fmt.Errorf("making image %s/%s: %w", pool, name, err)
	}
	return nil
}

// Blocklist are the addresses that are cut off.
func (c *Cluster) Blocklist(ctx context.Context) ([]string, error) {
	entries, err := c.blocklist(ctx)
	return slices.Collect(maps.Keys(entries)), err
}

// BlockedUntil is when an address may write again; zero if it may now.
func (c *Cluster) BlockedUntil(ctx context.Context, address string) (time.Time, error) {
	entries, err := c.blocklist(ctx)
	if text := entries[address]; err == nil && text != "" {
		return time.Parse("2006-01-02T15:04:05.999999999-0700", text)
	}
	return time.Time{}, err
}

func (c *Cluster) blocklist(ctx context.Context) (map[string]string, error) {
	out, err := c.Ceph(ctx, "osd", "dump")
	if err != nil {
		return nil, err
	}
	var dump struct {
		Blocklist map[string]string `json:"blocklist"`
		Blacklist map[string]string `json:"blacklist"` // Ceph before 16
	}
	if err := json.Unmarshal(out, &dump); err != nil {
		return nil, fmt.Errorf("decoding osd dump: %w", err)
	}
	if dump.Blocklist == nil {
		return dump.Blacklist, nil
	}
	return dump.Blocklist, nil
}

// Watchers of an image, as `rbd status` shows them.
func (c *Cluster) Watchers(ctx context.Context, pool, image string) ([]string, error) {
	out, err := c.RBD(ctx, "status", pool+"/"+image, "--format", "json")
	if err != nil {
		return nil, err
	}
	var status struct {
		Watchers []struct {
			Address string `json:"address"`
		} `json:"watchers"`
	}
	if err := json.Unmarshal(out, &status); err != nil {
		return nil, fmt.Errorf("decoding rbd status: %w", err)
	}
	var addresses []string
	for _, w := range status.Watchers {
		addresses = append(addresses, w.Address)
	}
	return addresses, nil
}

// Ceph runs a command of `ceph` as client.admin and gives its JSON.
func (c *Cluster) Ceph(ctx context.Context, args ...string) ([]byte, error) {
	return c.run(ctx, "ceph", append([]string{"-c", c.ConfFile(), "--connect-timeout", "10", "-f", "json"}, args...)...)
}

// RBD runs a command of `rbd` as client.admin.
func (c *Cluster) RBD(ctx context.Context, args ...string) ([]byte, error) {
	return c.run(ctx, "rbd", append([]string{"-c", c.ConfFile()}, args...)...)
}

// Rados runs a command of `rados` as client.admin.
func (c *Cluster) Rados(ctx context.Context, args ...string) ([]byte, error) {
	return c.run(ctx, "rados", append([]string{"-c", c.ConfFile()}, args...)...)
}

func (c *Cluster) run(ctx context.Context, name string, args ...string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	return c.sup.Run(ctx, process.Spec{Name: name, Path: name, Args: args, Usr: c.options.Usr})
}

func (c *Cluster) daemon(name, path string, args ...string) (*process.Process, error) {
	p, err := c.sup.Start(process.Spec{
		Name: c.options.Name + "-" + name, Path: path, Usr: c.options.Usr,
		Dir:  "/", // as systemd has it: Debian's Ceph 18 looks for an OSD's classes in the folder lib/…, without a slash before
		Args: append([]string{"-c", c.ConfFile(), "-f"}, args...),
	})
	if err != nil {
		return nil, fmt.Errorf("starting %s: %w", name, err)
	}
	return p, nil
}

func (c *Cluster) eventually(ctx context.Context, what string, holds func(context.Context) (bool, error)) error {
	if err := wait.PollUntilContextTimeout(ctx, 50*time.Millisecond, 3*time.Minute, true, holds); err != nil {
		return fmt.Errorf("waiting for %s: %w", what, err)
	}
	return nil
}
