//go:build librados

// Package machine has rbd-rescue's node command let go real mappings of real containers: a kernel's RBD client in a microVM, ext4, containerd
// and runc of Debian, and real Ceph. There is no kubelet: the tests do what it would. One has an API server, for the agent.
package machine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/util/wait"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/rbd-rescue/rbd-rescue/e2e/krbd"
	"github.com/rbd-rescue/rbd-rescue/e2e/lab/build"
	"github.com/rbd-rescue/rbd-rescue/e2e/lab/ceph"
	"github.com/rbd-rescue/rbd-rescue/e2e/lab/microvm"
	"github.com/rbd-rescue/rbd-rescue/e2e/lab/process"
	"github.com/rbd-rescue/rbd-rescue/e2e/lab/skip"
	product "github.com/rbd-rescue/rbd-rescue/node"
)

const (
	// dir is short: daemons have sockets in it.
	dir  = "/run/rbdlab-node"
	link = "rbdlab-nodevm"
	osds = 2
	user = "csi-rbd-node"
	// writer numbers what it writes, leaves it to the kernel when that is flushed, and says when it was told to end.
	writer = `trap 'echo end >>/data/records; exit 0' TERM
i=0; while :; do i=$((i+1)); echo $i >>/data/records; busybox sleep 0.05; done`
)

// The machine has nobody to talk to but who is at its gateway: Ceph, the test, and an API server.
var (
	gateway        = netip.MustParseAddr("10.90.0.1")
	address        = netip.MustParsePrefix("10.90.0.2/24")
	machineAddress = netip.AddrPortFrom(address.Addr(), 7000)
	runtimeAddress = netip.AddrPortFrom(address.Addr(), 7001)
)

// host is the machine, and what is outside of it.
type host struct {
	*testing.T
	ctx        context.Context
	supervisor *process.Supervisor
	binaries   build.Binaries
	ceph       *ceph.Cluster
	key        string
	machine    *krbd.Machine
	runtime    cri.RuntimeServiceClient
}

// pod has one volume, on an image of its name.
type pod struct {
	namespace, name, uid string
	container            string
}

func (p *pod) image() string  { return "csi-vol-" + p.name }
func (p *pod) pv() string     { return "pvc-" + p.name }
func (p *pod) String() string { return p.namespace + "/" + p.name }

// volume is where a kubelet mounts the pod's volume, staging where it has the CSI plugin mount it first.
func (p *pod) volume() string {
	return "/var/lib/kubelet/pods/" + p.uid + "/volumes/kubernetes.io~csi/" + p.pv() + "/mount"
}

func (p *pod) staging() string {
	return "/var/lib/kubelet/plugins/kubernetes.io/csi/rbd.csi.ceph.com/" + p.name + "/globalmount"
}

func begin(t *testing.T) *host {
	t.Helper()
	if os.Geteuid() != 0 {
		skip.Loudly(t, "THE NODE COMMAND IS NOT TESTED WITH CONTAINERS: it needs root")
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Minute) // the first build is slow
	t.Cleanup(cancel)
	h := &host{T: t, ctx: ctx}
	binaries, err := build.Build(ctx, os.Stdout, build.LabVM, build.NodeAgent, build.LabKube, build.Helm)
	h.must(errors.Join(err, process.CleanUp(dir), os.RemoveAll(dir)))
	files := filepath.Join(binaries.Dir, microvm.Dir)
	if reason := microvm.NoPrograms(files); reason != "" {
		skip.Loudly(t, "THE NODE COMMAND IS NOT TESTED WITH CONTAINERS: %s", reason)
	}
	supervisor, err := process.NewSupervisor(dir)
	h.must(err)
	h.supervisor, h.binaries = supervisor, binaries
	_ = exec.Command("ip", "link", "del", link).Run() // an interrupted run's
	for _, args := range [][]string{
		{"tuntap", "add", "dev", link, "mode", "tap"}, {"addr", "add", gateway.String() + "/24", "dev", link}, {"link", "set", link, "up"},
	} {
		if out, err := exec.CommandContext(ctx, "ip", args...).CombinedOutput(); err != nil {
			t.Fatalf("ip %v: %v: %s", args, err, out)
		}
	}
	t.Cleanup(func() {
		cancel() // what runs in the machine is expected to end now
		if h.machine != nil {
			_ = h.machine.Close()
		}
		if err := errors.Join(supervisor.StopAll(context.Background()), exec.Command("ip", "link", "del", link).Run()); err != nil {
			t.Error(err)
		}
	})
	kernel, err := microvm.FindKernel(files)
	h.must(err)
	programs, initramfs := microvm.Programs(files), filepath.Join(dir, "initramfs")
	h.must(microvm.WriteInitramfs(initramfs, filepath.Join(binaries.Dir, build.LabVM), filepath.Join(binaries.Dir, build.NodeAgent), kernel, programs))
	_, err = supervisor.Start(microvm.Spec(microvm.Options{
		Name: "vm", Kernel: kernel, Initramfs: initramfs, MemoryMiB: 1024, Tap: link, Address: address, Gateway: gateway, Listen: machineAddress,
		Forward: runtimeAddress.String() + "=" + containerd,
	}))
	h.must(err)
	h.ceph, err = ceph.Start(ctx, supervisor, ceph.Options{Name: "ceph", Dir: dir + "/ceph", IP: gateway, Monitors: 1, OSDs: osds})
	h.must(err)
	keyFile, err := h.ceph.CreateUser(ctx, user, map[string]string{"mon": "profile rbd", "osd": "profile rbd pool=" + ceph.Pool})
	h.must(err)
	key, err := os.ReadFile(keyFile)
	h.must(err)
	h.key = strings.TrimSpace(string(key))
	booting, booted := context.WithTimeout(ctx, 3*time.Minute)
	defer booted()
	h.machine, err = krbd.Dial(booting, machineAddress.String())
	h.must(err)
	h.startRuntime(programs)
	return h
}

func (h *host) must(err error) {
	h.Helper()
	if err != nil {
		h.Fatalf("%v (logs are in %s/logs)", err, dir)
	}
}

func (h *host) eventually(what string, holds func() (bool, error)) {
	h.Helper()
	var last error
	if err := wait.PollUntilContextTimeout(h.ctx, 200*time.Millisecond, 2*time.Minute, true, func(context.Context) (bool, error) {
		ok, err := holds()
		last = err
		if h.Failed() {
			return false, errors.New("something else has failed")
		}
		return ok, nil
	}); err != nil {
		h.Fatalf("waiting until %s: %v (%v; logs are in %s/logs)", what, err, last, dir)
	}
}

// try runs a program of the machine, for two minutes at most.
func (h *host) try(path string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(h.ctx, 2*time.Minute)
	defer cancel()
	return h.machine.Run(ctx, krbd.Program{Path: path, Args: args})
}

// run runs one that must not fail.
func (h *host) run(path string, args ...string) string {
	h.Helper()
	printed, err := h.try(path, args...)
	if err != nil {
		h.Fatalf("%v: %v\n%s", args, err, printed)
	}
	return printed
}

func (h *host) busybox(args ...string) string { h.Helper(); return h.run("/bin/busybox", args...) }

// mapped maps a pod's image, and gives its device.
func (h *host) mapped(p *pod) string {
	h.Helper()
	device, err := h.machine.Map(krbd.Image{Monitors: strings.Join(h.ceph.Monitors(), ","), User: user, Key: h.key, Pool: ceph.Pool, Name: p.image()})
	h.must(err)
	h.must(device.LetGo())
	for _, m := range h.list().Mappings {
		if m.Image == p.image() {
			return m.Device
		}
	}
	h.Fatalf("%s is mapped, and not listed", p.image())
	return ""
}

// unclaimed maps an image for nobody: no pod's release takes it for its own, and none passes over it.
func (h *host) unclaimed() {
	h.Helper()
	nobody := &pod{namespace: "shop", name: "nobody"}
	h.must(h.ceph.CreateImage(h.ctx, ceph.Pool, nobody.image(), 1))
	device := h.mapped(nobody)
	for _, flags := range [][]string{{"--dry-run"}, nil} {
		if printed, err := h.release(nobody, flags...); err == nil || !strings.Contains(printed, device) || !strings.Contains(printed, "--device") {
			h.Errorf("a mapping that is nobody's, %v: %v\n%s", flags, err, printed)
		}
	}
	h.run("/rbd-rescue", "node", "release", "--device", device)
	if h.isMapped(nobody) {
		h.Error("it is mapped after it was released by its name")
	}
}

// begins makes a pod's image, mounts it as CSI plugin and kubelet do, and runs the pod.
func (h *host) begins(p *pod) {
	h.Helper()
	h.must(h.ceph.CreateImage(h.ctx, ceph.Pool, p.image(), 32))
	device := h.mapped(p)
	h.run("/sbin/mke2fs", "-q", "-t", "ext4", device)
	h.busybox("mkdir", "-p", p.staging(), p.volume())
	h.busybox("mount", "-t", "ext4", device, p.staging())
	h.busybox("mount", "-o", "bind", p.staging(), p.volume())
	h.startPod(p)
	h.eventually(p.String()+" writes", func() (bool, error) {
		records, err := h.try("/bin/busybox", "cat", p.volume()+"/records")
		return strings.Count(records, "\n") > 5, err
	})
}

func (h *host) list() product.Survey {
	h.Helper()
	var survey product.Survey
	h.must(json.Unmarshal([]byte(h.run("/rbd-rescue", "node", "list", "-o", "json")), &survey))
	return survey
}

func (h *host) release(p *pod, flags ...string) (string, error) {
	return h.try("/rbd-rescue", append([]string{"node", "release", "--pod", p.String()}, flags...)...)
}

// isMapped tells whether the kernel still has a pod's image.
func (h *host) isMapped(p *pod) bool {
	h.Helper()
	for _, m := range h.list().Mappings {
		if m.Image == p.image() {
			return true
		}
	}
	return false
}

// proves reads a released image from outside of the machine: its file system is clean and has all that the pod wrote, until it was told to
// end, and then ended by itself.
func (h *host) proves(p *pod) {
	h.Helper()
	if code, err := h.ended(p); code != 0 || err != nil {
		h.Errorf("the container of %s did not end by itself: %d, %v", p, code, err)
	}
	if lines := h.records(p); lines[len(lines)-1] != "end" {
		h.Errorf("the last record of %s is %q", p, lines[len(lines)-1])
	}
}

// records are those of a released image, without a gap.
func (h *host) records(p *pod) []string {
	h.Helper()
	image := filepath.Join(dir, p.image())
	_, err := h.ceph.RBD(h.ctx, "export", "--no-progress", ceph.Pool+"/"+p.image(), image)
	h.must(err)
	if features := h.fromPrograms("debugfs", "-R", "features", image); strings.Contains(features, "needs_recovery") {
		h.Errorf("the file system of %s was not unmounted: %s", p, features)
	}
	h.fromPrograms("e2fsck", "-fn", image)
	lines := strings.Fields(h.fromPrograms("debugfs", "-R", "cat /records", image))
	for i, line := range lines {
		if want := fmt.Sprint(i + 1); line != want && (i != len(lines)-1 || line != "end") {
			h.Fatalf("record %d of %s is %q", i+1, p, line)
		}
	}
	if len(lines) < 5 {
		h.Fatalf("%s has %d records", p, len(lines))
	}
	return lines
}

// fromPrograms runs one of the machine's programs here, with the libraries that it came with, and gives what it prints.
func (h *host) fromPrograms(name string, args ...string) string {
	h.Helper()
	programs := microvm.Programs(filepath.Join(h.binaries.Dir, microvm.Dir))
	libraries := filepath.Join(programs, "lib", "x86_64-linux-gnu")
	out, err := exec.CommandContext(h.ctx, filepath.Join(libraries, "ld-linux-x86-64.so.2"),
		append([]string{"--library-path", libraries, filepath.Join(programs, "sbin", name)}, args...)...).Output()
	if err != nil {
		h.Fatalf("%s %v: %v\n%s", name, args, err, out)
	}
	return string(out)
}

func TestContainersOfARealRuntimeAreReleasedWithNothingLost(t *testing.T) {
	h := begin(t)
	h.unclaimed()
	db, files := &pod{namespace: "shop", name: "db-0", uid: "uid-1"}, &pod{namespace: "web", name: "files-0", uid: "uid-2"}
	h.begins(db)
	h.begins(files)

	table := h.run("/rbd-rescue", "node", "list")
	for _, p := range []*pod{db, files} {
		for _, part := range []string{ceph.Pool + "/" + p.image(), p.volume(), p.String() + " ", "app"} {
			if !strings.Contains(table, part) {
				t.Errorf("%q is not listed:\n%s", part, table)
			}
		}
	}
	if printed, err := h.release(db, "--dry-run"); err != nil || !h.isMapped(db) {
		t.Fatalf("a dry run: %v\n%s", err, printed)
	}
	if _, err := h.ended(db); err == nil {
		t.Fatal("a dry run has stopped the container")
	}

	if printed, err := h.release(db); err != nil || h.isMapped(db) {
		t.Fatalf("%v\n%s", err, printed)
	}
	if _, err := h.ended(files); err == nil || !h.isMapped(files) {
		t.Error("the other pod was released as well")
	}
	h.proves(db)

	// Ceph does not answer any more: what hangs is left behind, and done once it answers again.
	for osd := range osds {
		h.must(h.ceph.FreezeOSD(osd))
	}
	printed, err := h.release(files, "--timeout", "30s")
	if err == nil || !h.isMapped(files) || !strings.Contains(printed, "waiting for Ceph") { // by the container, or by an unmount
		t.Errorf("while Ceph does not answer: %v\n%s", err, printed)
	}
	t.Logf("while Ceph does not answer:\n%s", printed)
	for osd := range osds {
		h.must(h.ceph.ThawOSD(osd))
	}
	h.eventually("what was left is released", func() (bool, error) {
		printed, err := h.try("/rbd-rescue", "node", "release", "--image", ceph.Pool+"/"+files.image())
		if err != nil {
			return false, fmt.Errorf("%w\n%s", err, printed)
		}
		return true, nil
	})
	if h.isMapped(files) {
		t.Error("it is mapped still")
	}
	if code, err := h.ended(files); err != nil || code == 0 {
		h.proves(files)
	} else {
		h.records(files) // it was killed, since it waited for Ceph
	}
}
