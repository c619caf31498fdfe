package kube

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/rbd-rescue/rbd-rescue/e2e/lab/build"
	"github.com/rbd-rescue/rbd-rescue/e2e/lab/network"
	"github.com/rbd-rescue/rbd-rescue/e2e/lab/process"
)

// testDir is short: unix sockets go below it.
const testDir = "/run/rbdlab-kube-test"

func TestAClusterRunsAVolumeAndSurvivesItsFaults(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("SKIPPED: THE KUBERNETES LAB IS NOT TESTED: it needs root for network namespaces and mounts")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Minute) // the first build is slow
	defer cancel()
	binaries, err := build.Build(ctx, t.Output(), build.LabKube, build.CSIAttacher)
	if err != nil {
		t.Fatal(err)
	}
	for _, round := range []struct {
		name string
		do   func(*cluster, map[string]*Node)
	}{
		{"first", func(c *cluster, nodes map[string]*Node) {
			c.volumeRuns(nodes["a"])
			c.volumeMoves(nodes)
			c.componentsStopAndStart(nodes)
		}},
		{"second", func(c *cluster, nodes map[string]*Node) { c.volumeRuns(nodes["a"]) }}, // nothing of the first is in its way
	} {
		ok := t.Run(round.name, func(t *testing.T) { runCluster(t, binaries.Dir, round.do) })
		nothingIsLeft(t)
		if !ok {
			break
		}
	}
}

type cluster struct {
	t   *testing.T
	ctx context.Context
	net *network.Network
	*ControlPlane
	began time.Time
}

func (c *cluster) must(err error) {
	c.t.Helper()
	if err != nil {
		c.t.Fatal(err)
	}
}

// took logs how long a step took.
func (c *cluster) took(format string, args ...any) {
	c.t.Logf("%6.2f s  %s", time.Since(c.began).Seconds(), fmt.Sprintf(format, args...))
	c.began = time.Now()
}

func (c *cluster) eventually(what string, ask func(context.Context) error) {
	c.t.Helper()
	c.must(poll(c.ctx, what, ask))
	c.took("%s", what)
}

func runCluster(t *testing.T, binDir string, do func(*cluster, map[string]*Node)) {
	ctx, cancel := context.WithTimeout(t.Context(), 15*time.Minute)
	defer cancel()
	c := &cluster{t: t, ctx: ctx, began: time.Now()}
	var err error
	c.net, err = network.New(ctx)
	c.must(err)
	t.Cleanup(func() { c.closing("network", c.net.Close) })
	c.must(process.CleanUp(testDir))
	c.must(UnmountBelow(ctx, testDir))
	c.must(os.RemoveAll(testDir))
	supervisor, err := process.NewSupervisor(testDir)
	c.must(err)
	t.Cleanup(func() { c.closing("processes", supervisor.StopAll) })
	c.began = time.Now()
	c.ControlPlane, err = Start(ctx, supervisor, Options{Dir: filepath.Join(testDir, "kube"), BinDir: binDir, IP: network.APIAddress})
	c.must(err)
	c.took("control plane")
	nodes := c.addNodes("a", "b")
	c.took("two nodes")
	do(c, nodes)
}

func (c *cluster) closing(what string, closing func(context.Context) error) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	c.began = time.Now()
	if err := closing(ctx); err != nil {
		c.t.Errorf("closing the %s: %v", what, err)
	}
	c.took("%s closed", what)
}

func (c *cluster) addNodes(names ...string) map[string]*Node {
	nodes, hosts, errs := make([]*Node, len(names)), make([]network.Host, len(names)), make([]error, len(names))
	for i, name := range names {
		hosts[i], errs[i] = c.net.AddNode(c.ctx, name)
	}
	c.must(errors.Join(errs...))
	c.must(parallel(names, func(i int, name string) (err error) {
		nodes[i], err = c.AddNode(c.ctx, NodeOptions{
			Name: name, Host: hosts[i], Labels: map[string]string{"lab": name}, Plugin: tmpfsPlugin(name, hosts[i]),
		})
		return err
	}))
	byName := map[string]*Node{}
	for i, name := range names {
		byName[name] = nodes[i]
		c.t.Cleanup(func() { c.closing("node "+name, func(context.Context) error { return nodes[i].Close() }) })
	}
	return byName
}

func parallel(names []string, do func(int, string) error) error {
	results := make(chan error)
	for i, name := range names {
		go func() { results <- do(i, name) }()
	}
	var errs []error
	for range names {
		errs = append(errs, <-results)
	}
	return errors.Join(errs...)
}

// volumeRuns has a pod with a volume on node a.
func (c *cluster) volumeRuns(a *Node) {
	c.makeVolume()
	c.makePod("first", "a")
	c.eventually("the first pod runs", c.running("first"))
	c.eventually("volumesInUse names the volume", func(ctx context.Context) error {
		node, err := c.client.CoreV1().Nodes().Get(ctx, "a", metav1.GetOptions{})
		if err != nil || slices.Contains(node.Status.VolumesInUse, "kubernetes.io/csi/"+Driver+"^handle") {
			return err
		}
		return fmt.Errorf("volumesInUse is %v", node.Status.VolumesInUse)
	})
	points, err := mountsBelow(a.Root())
	c.must(err)
	if !slices.ContainsFunc(points, func(p string) bool { return strings.Contains(p, "kubernetes.io~csi") }) {
		c.t.Errorf("the volume is not mounted: %v", points)
	}
}

// volumeMoves kills node a, releases its volume by hand and sees the volume on node b.
func (c *cluster) volumeMoves(nodes map[string]*Node) {
	c.must(nodes["a"].Kill())
	c.began = time.Now()
	c.eventually("node a is Unknown", c.nodeReady("a", corev1.ConditionUnknown))

	c.makePod("second", "b")
	_, err := c.Kubectl(c.ctx, "delete", "pod", "first", "--force", "--grace-period=0")
	c.must(err)
	_, err = c.Kubectl(c.ctx, "patch", "node", "a", "--subresource=status", "--type=json", `--patch=[{"op":"remove","path":"/status/volumesInUse"}]`)
	c.must(err)
	c.began = time.Now()
	c.eventually("the second pod runs", c.running("second"))

	oldBoot := nodes["a"].BootID()
	c.must(nodes["a"].Reboot(c.ctx))
	c.took("node a rebooted")
	if nodes["a"].BootID() == oldBoot {
		c.t.Error("the boot ID is the old one")
	}
}

func (c *cluster) componentsStopAndStart(nodes map[string]*Node) {
	c.must(nodes["b"].Freeze())
	c.must(c.net.Cut(c.ctx, "a", network.API))
	c.began = time.Now()
	c.eventually("frozen node b is Unknown", c.nodeReady("b", corev1.ConditionUnknown))
	c.eventually("node a, cut off, is Unknown", c.nodeReady("a", corev1.ConditionUnknown))
	c.must(nodes["b"].Thaw())
	c.eventually("thawed node b is Ready", c.nodeReady("b", corev1.ConditionTrue))
	c.must(c.nodeReady("a", corev1.ConditionUnknown)(c.ctx))
	c.must(c.net.Restore(c.ctx, "a"))
	c.eventually("node a, reachable again, is Ready", c.nodeReady("a", corev1.ConditionTrue))
	c.must(nodes["b"].KillKubelet())
	c.must(nodes["b"].StartKubelet(c.ctx))
	c.took("kubelet restarted")
	c.must(errors.Join(c.StopAttacher(c.ctx), c.StopControllerManager(c.ctx), c.StopAPIServer(c.ctx)))
	c.began = time.Now()
	c.must(c.StartAPIServer(c.ctx))
	c.took("API server restarted")
	c.must(errors.Join(c.StartControllerManager(c.ctx), c.StartAttacher(c.ctx)))
	c.took("controller manager and attacher restarted")
	time.Sleep(15 * time.Second)
	for name := range nodes {
		c.eventually("node "+name+" is Ready", c.nodeReady(name, corev1.ConditionTrue))
	}
	c.tokensWork()
}

func (c *cluster) tokensWork() {
	kubeconfig, err := c.KubeconfigFor(c.ctx, "default", "default")
	c.must(err)
	who, err := c.Kubectl(c.ctx, "--kubeconfig="+kubeconfig, "auth", "whoami", "--output=jsonpath={.status.userInfo.username}")
	c.must(err)
	if who != "system:serviceaccount:default:default" {
		c.t.Errorf("the token is of %q", who)
	}
	version, err := c.Kubectl(c.ctx, "version")
	c.must(err)
	if !strings.Contains(version, "Server Version: v1.") {
		c.t.Errorf("the version is %q", version)
	}
}

func (c *cluster) nodeReady(name string, want corev1.ConditionStatus) func(context.Context) error {
	return func(ctx context.Context) error {
		node, err := c.client.CoreV1().Nodes().Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		for _, condition := range node.Status.Conditions {
			if condition.Type == corev1.NodeReady && condition.Status == want {
				return nil
			}
		}
		return fmt.Errorf("node %s has conditions %v", name, node.Status.Conditions)
	}
}

func (c *cluster) running(pod string) func(context.Context) error {
	return func(ctx context.Context) error {
		p, err := c.client.CoreV1().Pods("default").Get(ctx, pod, metav1.GetOptions{})
		if err == nil && p.Status.Phase != corev1.PodRunning {
			err = fmt.Errorf("pod %s is %s", pod, p.Status.Phase)
		}
		return err
	}
}

func (c *cluster) makeVolume() {
	size := corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("1Mi")}
	modes := []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce}
	_, err := c.client.CoreV1().PersistentVolumes().Create(c.ctx, &corev1.PersistentVolume{
		ObjectMeta: metav1.ObjectMeta{Name: "data"},
		Spec: corev1.PersistentVolumeSpec{
			Capacity: size, AccessModes: modes, StorageClassName: "rbd",
			PersistentVolumeSource: corev1.PersistentVolumeSource{CSI: &corev1.CSIPersistentVolumeSource{Driver: Driver, VolumeHandle: "handle"}},
		},
	}, metav1.CreateOptions{})
	c.must(err)
	_, err = c.client.CoreV1().PersistentVolumeClaims("default").Create(c.ctx, &corev1.PersistentVolumeClaim{
		ObjectMeta: metav1.ObjectMeta{Name: "data"},
		Spec: corev1.PersistentVolumeClaimSpec{
			AccessModes: modes, StorageClassName: new("rbd"), VolumeName: "data", Resources: corev1.VolumeResourceRequirements{Requests: size},
		},
	}, metav1.CreateOptions{})
	c.must(err)
}

func (c *cluster) makePod(name, node string) {
	_, err := c.client.CoreV1().Pods("default").Create(c.ctx, &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: corev1.PodSpec{
			NodeSelector: map[string]string{"lab": node},
			Containers: []corev1.Container{{
				Name: "app", Image: "app:1", VolumeMounts: []corev1.VolumeMount{{Name: "data", MountPath: "/data"}},
			}},
			Volumes: []corev1.Volume{{Name: "data", VolumeSource: corev1.VolumeSource{
				PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: "data"},
			}}},
		},
	}, metav1.CreateOptions{})
	c.must(err)
}

func nothingIsLeft(t *testing.T) {
	t.Helper()
	for _, glob := range []string{"/sys/class/net/rbdlab*", "/run/netns/rbdlab*", testDir + "/pids/*", testDir + "/kube/nodes/*"} {
		if left, _ := filepath.Glob(glob); len(left) > 0 {
			t.Errorf("left: %v", left)
		}
	}
	if points, err := mountsBelow(testDir); err != nil || len(points) > 0 {
		t.Errorf("mounts are left: %v %v", points, err)
	}
	commands, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, file := range commands {
		if command, _ := os.ReadFile(file); strings.Contains(string(command), testDir) {
			t.Errorf("a process is left: %s", strings.ReplaceAll(string(command), "\x00", " "))
		}
	}
}
