package node

import (
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

const (
	podUID    = "0b5e3d3e-0000-4000-8000-000000000001"
	podMount  = "/var/lib/kubelet/pods/" + podUID + "/volumes/kubernetes.io~csi/pv-db/mount"
	hashMount = "/var/lib/kubelet/plugins/kubernetes.io/csi/rbd.csi.ceph.com/abc/globalmount"
	bootID    = "boot-1"
)

// machine is a tree of files that stands for a machine, a container runtime, and the kernel that changes both.
type machine struct {
	t    *testing.T
	root string
	// mounts of the host, and of process 77, which has a mount namespace of its own while a container of the pod runs.
	host, container []string
	pods            map[string]Pod
	fails           map[string]error // by step
	done            []string
	afterStop       func()
}

// newMachine has image rbd/db mapped, staged and published to a pod that runs.
func newMachine(t *testing.T) *machine {
	t.Helper()
	m := &machine{t: t, root: t.TempDir(), fails: map[string]error{}, pods: map[string]Pod{
		podUID: {UID: podUID, Namespace: "shop", Name: "db-0", Sandboxes: []string{"s1"}, Containers: []Container{{"c1", "postgres"}}},
	}}
	m.write("proc/2/comm", "kthreadd\n")
	m.write("proc/1/comm", "systemd\n")
	m.write("proc/77/comm", "postgres\n")
	m.write("proc/80/comm", "kubelet\n")
	m.write("proc/sys/kernel/random/boot_id", bootID+"\n")
	m.write("proc/swaps", "Filename Type Size Used Priority\n")
	for _, pid := range []string{"1", "2", "80"} {
		m.link("proc/"+pid+"/ns/mnt", "mnt:[1]")
	}
	m.link("proc/77/ns/mnt", "mnt:[7]")
	m.write("sys/bus/rbd/remove", "")
	m.mapImage(0, "db", "10.0.0.1:0/42")
	m.write("proc/1/root"+filepath.Dir(hashMount)+"/vol_data.json", `{"specVolID":"pv-db","driverName":"rbd.csi.ceph.com"}`)
	m.host = []string{mountLine("252:0", hashMount), mountLine("252:0", podMount)}
	m.container = []string{mountLine("252:0", "/data")}
	m.writeMounts()
	return m
}

func mountLine(number, path string) string {
	return fmt.Sprintf("101 28 %s / %s rw,relatime shared:9 - ext4 /dev/rbd0 rw", number, path)
}

func (m *machine) path(name string) string { return filepath.Join(m.root, name) }

func (m *machine) write(name, text string) {
	m.t.Helper()
	if err := os.MkdirAll(filepath.Dir(m.path(name)), 0o755); err != nil {
		m.t.Fatal(err)
	}
	if err := os.WriteFile(m.path(name), []byte(text), 0o644); err != nil {
		m.t.Fatal(err)
	}
}

func (m *machine) link(name, to string) {
	m.t.Helper()
	if err := os.MkdirAll(filepath.Dir(m.path(name)), 0o755); err != nil {
		m.t.Fatal(err)
	}
	if err := os.Symlink(to, m.path(name)); err != nil {
		m.t.Fatal(err)
	}
}

func (m *machine) mapImage(id int, image, client string) {
	m.t.Helper()
	dir := fmt.Sprintf("sys/bus/rbd/devices/%d/", id)
	for file, text := range map[string]string{"pool": "rbd", "pool_ns": "", "name": image, "client_addr": client, "current_snap": "-"} {
		m.write(dir+file, text+"\n")
	}
	m.write(fmt.Sprintf("sys/block/rbd%d/dev", id), fmt.Sprintf("252:%d\n", id*16))
	m.write(fmt.Sprintf("sys/block/rbd%d/holders/.keep", id), "")
	if err := os.Remove(m.path(fmt.Sprintf("sys/block/rbd%d/holders/.keep", id))); err != nil {
		m.t.Fatal(err)
	}
}

func (m *machine) writeMounts() {
	m.t.Helper()
	text := "28 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n" + strings.Join(append(slices.Clone(m.host), ""), "\n")
	for _, pid := range []string{"1", "2", "80"} {
		m.write("proc/"+pid+"/mountinfo", text)
	}
	m.write("proc/77/mountinfo", strings.ReplaceAll(strings.Join(append(slices.Clone(m.container), ""), "\n"), "shared:9 ", ""))
}

func (m *machine) hostOf() Host {
	return Host{
		Sys: m.path("sys"), Proc: m.path("proc"), KubeletDir: "/var/lib/kubelet", Runtime: m, checkSysfs: func(string) error { return nil },
	}
}

func (m *machine) survey() Survey {
	m.t.Helper()
	s, err := m.hostOf().Survey(m.t.Context())
	if err != nil {
		m.t.Fatal(err)
	}
	return s
}

// Pods implements Runtime.
func (m *machine) Pods(context.Context) (map[string]Pod, error) { return maps.Clone(m.pods), nil }

// StopPod implements Runtime.
func (m *machine) StopPod(_ context.Context, pod Pod) error {
	if err := m.take("stop " + pod.Name); err != nil {
		return err
	}
	stopped := m.pods[pod.UID]
	stopped.Sandboxes, stopped.Containers = nil, nil
	m.pods[pod.UID] = stopped
	m.container = nil
	if m.afterStop != nil {
		m.afterStop()
	}
	m.writeMounts()
	return nil
}

// take notes a step. A failure happens once.
func (m *machine) take(step string) error {
	err := m.fails[step]
	delete(m.fails, step)
	m.done = append(m.done, step)
	return err
}

// Unmount implements Kernel.
func (m *machine) Unmount(_ context.Context, path string) error {
	if err := m.take("unmount " + filepath.Base(path)); err != nil {
		return err
	}
	m.host = slices.DeleteFunc(m.host, func(line string) bool { return strings.Contains(line, " "+path+" ") })
	m.writeMounts()
	return nil
}

// Cover implements Kernel.
func (m *machine) Cover(_ context.Context, path string) error {
	return m.take("cover " + filepath.Base(path))
}

// DetachLoop implements Kernel.
func (m *machine) DetachLoop(_ context.Context, name string) error { return m.take("detach " + name) }

// CloseCrypt implements Kernel.
func (m *machine) CloseCrypt(_ context.Context, mapper string) error {
	return m.take("close " + mapper)
}

// Unmap implements Kernel.
func (m *machine) Unmap(_ context.Context, id int) error {
	if err := m.take(fmt.Sprintf("unmap %d", id)); err != nil {
		return err
	}
	if len(m.host) > 0 || len(m.container) > 0 {
		return unix.EBUSY
	}
	return os.RemoveAll(m.path(fmt.Sprintf("sys/bus/rbd/devices/%d", id)))
}
