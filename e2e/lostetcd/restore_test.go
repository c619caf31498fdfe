//go:build librados

// Package lostetcd loses all that Kubernetes knows while an application writes, and gets its volume back from the image alone: with
// real Ceph, a real etcd that is emptied, a real API server, and the real plugin. The machine that wrote is only frozen.
package lostetcd

import (
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
	"testing"
	"time"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/wait"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/controller-runtime/pkg/client"
	ctrllog "sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/rbd-rescue/rbd-rescue/api/v1alpha1"
	"github.com/rbd-rescue/rbd-rescue/e2e/lab/build"
	"github.com/rbd-rescue/rbd-rescue/e2e/lab/ceph"
	"github.com/rbd-rescue/rbd-rescue/e2e/lab/chart"
	"github.com/rbd-rescue/rbd-rescue/e2e/lab/kube"
	"github.com/rbd-rescue/rbd-rescue/e2e/lab/process"
	"github.com/rbd-rescue/rbd-rescue/e2e/lab/skip"
	"github.com/rbd-rescue/rbd-rescue/e2e/workload"
	"github.com/rbd-rescue/rbd-rescue/e2e/workload/rbdcheck"
	"github.com/rbd-rescue/rbd-rescue/manifests"
)

const (
	// dir is short: see kube.Options.
	dir = "/run/rbdlab-lostetcd"
	// Addresses of the loopback interface that nobody else in the lab has. Every client's is the third.
	apiAddress, cephAddress, clientAddress = "127.0.69.1", "127.0.69.2", "127.0.0.1"

	clusterID, image, csiUser = "lab", "csi-vol-1", "csi-rbd-node"
	rescueNamespace           = "rbd-rescue"
)

// site is what outlives the Kubernetes cluster, and what is there for it.
type site struct {
	*testing.T
	ctx        context.Context
	supervisor *process.Supervisor
	binaries   build.Binaries
	ceph       *ceph.Cluster
	api        *kube.ControlPlane
	admin      client.Client
	// config is rbd-rescue's file, restorer that of a user who may make images, clusters the writers'.
	config, restorer, clusters string
}

func begin(t *testing.T) *site {
	t.Helper()
	if _, err := exec.LookPath("ceph-mon"); err != nil || os.Geteuid() != 0 {
		skip.Loudly(t, "THE LOSS OF ETCD IS NOT TESTED: it needs root and Debian's packages of Ceph")
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Minute) // the first build is slow
	t.Cleanup(cancel)
	s := &site{T: t, ctx: ctx}
	var err error
	s.binaries, err = build.Build(ctx, os.Stdout, build.LabKube, build.RBDRescue, build.Helm, build.LabCSI, build.KubectlRescue)
	s.must(errors.Join(err, process.CleanUp(dir), os.RemoveAll(dir)))
	s.supervisor, err = process.NewSupervisor(dir)
	s.must(err)
	t.Cleanup(func() {
		if err := s.supervisor.StopAll(context.Background()); err != nil {
			t.Error(err)
		}
	})
	s.ceph, err = ceph.Start(ctx, s.supervisor, ceph.Options{Name: "ceph", Dir: dir + "/ceph", IP: netip.MustParseAddr(cephAddress), Monitors: 1, OSDs: 2})
	s.must(err)
	s.must(s.ceph.CreateImage(ctx, ceph.Pool, image, 32))
	s.configure()
	s.api, err = kube.StartAPI(ctx, s.supervisor, kube.Options{Dir: dir + "/kube", BinDir: s.binaries.Dir, IP: netip.MustParseAddr(apiAddress)})
	s.must(err)
	ctrllog.SetLogger(logr.Discard())
	scheme := runtime.NewScheme()
	s.must(clientgoscheme.AddToScheme(scheme))
	rest := s.api.RESTConfig()
	s.admin, err = client.New(rest, client.Options{Scheme: scheme})
	s.must(err)
	return s
}

// configure makes the Ceph users and the files that name their keys.
func (s *site) configure() {
	s.Helper()
	csiKey, err := s.ceph.CreateUser(s.ctx, csiUser, map[string]string{"mon": "profile rbd", "osd": "profile rbd pool=" + ceph.Pool})
	s.must(err)
	rescueKey, err := s.ceph.CreateUser(s.ctx, "rbd-rescue", ceph.Release{Word: "blocklist"}.LeastRights(ceph.Pool))
	s.must(err)
	write := func(name string, content any) string {
		text, err := json.Marshal(content)
		s.must(err)
		file := filepath.Join(dir, name)
		s.must(os.WriteFile(file, text, 0o600))
		return file
	}
	s.clusters = write("clusters.json", []any{map[string]any{"clusterID": clusterID, "monitors": strings.Join(s.ceph.Monitors(), ","), "keyFile": csiKey}})
	configuration := func(user, key string) map[string]any {
		return map[string]any{
			"apiVersion": "config.rbd-rescue.io/v1alpha1", "kind": "RemediatorConfiguration",
			"cephClusters": []any{map[string]any{"clusterID": clusterID, "monitors": s.ceph.Monitors(), "user": user, "keyFile": key}},
		}
	}
	s.config, s.restorer = write("config.yaml", configuration("rbd-rescue", rescueKey)), write("restorer.yaml", configuration(csiUser, csiKey))
	s.must(os.MkdirAll(s.acks(), 0o755))
}

func (s *site) acks() string { return dir + "/acks" }

func (s *site) must(err error) {
	s.Helper()
	if err != nil {
		s.Fatalf("%v (logs are in %s/logs)", err, dir)
	}
}

func (s *site) eventually(what string, holds func() (bool, error)) {
	s.Helper()
	begun := time.Now()
	var last error
	if err := wait.PollUntilContextTimeout(s.ctx, 100*time.Millisecond, time.Minute, true, func(context.Context) (bool, error) {
		ok, err := holds()
		last = err
		return ok && err == nil, nil
	}); err != nil {
		s.Fatalf("not within a minute: %s (last error: %v; logs are in %s/logs)", what, last, dir)
	}
	s.Logf("%s (took %.1f s)", what, time.Since(begun).Seconds())
}

func (s *site) create(objects ...client.Object) {
	s.Helper()
	for _, object := range objects {
		s.must(s.admin.Create(s.ctx, object))
	}
}

// writeOn starts what a node is to Ceph: a process that has the image open and writes to it.
func (s *site) writeOn(node string) *process.Process {
	s.Helper()
	p, err := s.supervisor.Start(process.Spec{
		Name: "writer-" + node, Path: filepath.Join(s.binaries.Dir, build.LabCSI),
		Args: []string{"--node-id=" + node, "--clusters=" + s.clusters, "--user=" + csiUser, "--ack-dir=" + s.acks(), "--write=" + clusterID + "/" + ceph.Pool + "/" + image},
	})
	s.must(err)
	return p
}

// reports waits until the data holds, and something is so of the writer on a node.
func (s *site) reports(what, node string, wanted func(workload.WriterReport) bool) {
	s.Helper()
	var report workload.Report
	s.eventually(what, func() (is bool, err error) {
		if report, err = rbdcheck.Check(s.ctx, s.ceph.ConfFile(), ceph.Pool, image, s.acks()); err != nil || !report.OK {
			return false, fmt.Errorf("%w\n%s", err, report)
		}
		return slices.ContainsFunc(report.Writers, func(w workload.WriterReport) bool { return w.Node == node && wanted(w) }), nil
	})
	s.Logf("\n%s", report)
}

// application is a claim with its volume, attached to a node that is Ready: what the controllers and the kubelet, which don't run
// here, would have made of it.
func (s *site) application() {
	s.Helper()
	const storageClass = "rbd"
	size := corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("32Mi")}
	modes := []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce}
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "node-a"}}
	claim := &corev1.PersistentVolumeClaim{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "data", Labels: map[string]string{"app": "db"}},
		Spec:       corev1.PersistentVolumeClaimSpec{AccessModes: modes, StorageClassName: new(storageClass), VolumeName: "pvc-1", Resources: corev1.VolumeResourceRequirements{Requests: size}},
	}
	s.create(node, claim)
	pv := &corev1.PersistentVolume{
		ObjectMeta: metav1.ObjectMeta{Name: "pvc-1", Annotations: map[string]string{"pv.kubernetes.io/provisioned-by": kube.Driver}},
		Spec: corev1.PersistentVolumeSpec{
			Capacity: size, AccessModes: modes, PersistentVolumeReclaimPolicy: corev1.PersistentVolumeReclaimDelete, StorageClassName: storageClass,
			ClaimRef: &corev1.ObjectReference{APIVersion: "v1", Kind: "PersistentVolumeClaim", Namespace: claim.Namespace, Name: claim.Name, UID: claim.UID},
			PersistentVolumeSource: corev1.PersistentVolumeSource{CSI: &corev1.CSIPersistentVolumeSource{
				Driver: kube.Driver, VolumeHandle: "0001-1", VolumeAttributes: map[string]string{"clusterID": clusterID, "pool": ceph.Pool, "imageName": image},
			}},
		},
	}
	attachment := &storagev1.VolumeAttachment{
		ObjectMeta: metav1.ObjectMeta{Name: "attached"},
		Spec:       storagev1.VolumeAttachmentSpec{Attacher: kube.Driver, NodeName: node.Name, Source: storagev1.VolumeAttachmentSource{PersistentVolumeName: new(pv.Name)}},
	}
	s.create(pv)
	node.Status = corev1.NodeStatus{
		Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}},
		Addresses:  []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: clientAddress}},
		NodeInfo:   corev1.NodeSystemInfo{BootID: "boot-1", MachineID: "machine-a"},
	}
	s.must(s.admin.Status().Update(s.ctx, node))
	s.create(attachment)
	attachment.Status.Attached = true
	s.must(s.admin.Status().Update(s.ctx, attachment))
}

// namespaces makes those that an administrator makes first in a new cluster.
func (s *site) namespaces() {
	s.Helper()
	s.create(&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: rescueNamespace}},
		&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "shop", Annotations: map[string]string{v1alpha1.AnnotationMode: string(v1alpha1.ModeRescue)}}})
}

// startRemediator installs rbd-rescue and starts what keeps the manifests, with its own rights.
func (s *site) startRemediator() *process.Process {
	s.Helper()
	s.must(chart.Install(s.ctx, s.admin, s.binaries, rescueNamespace, "https://"+apiAddress+":9443"))
	kubeconfig, err := s.api.KubeconfigFor(s.ctx, rescueNamespace, "rbd-rescue-remediator")
	s.must(err)
	p, err := s.supervisor.Start(process.Spec{
		Name: build.RBDRescue, Path: filepath.Join(s.binaries.Dir, build.RBDRescue),
		Args: []string{
			"remediator", "--kubeconfig=" + kubeconfig, "--config=" + s.config, "--namespace=" + rescueNamespace, "--metrics-bind-address=0",
			"--health-probe-bind-address=0",
		},
	})
	s.must(err)
	return p
}

// restore runs the plugin as an administrator does who has a new, empty cluster: rbd-rescue is not installed there.
func (s *site) restore(args ...string) (string, error) { return s.restoreBy(s.config, args...) }

func (s *site) restoreBy(config string, args ...string) (string, error) {
	kubeconfig := "--kubeconfig=" + s.api.Kubeconfig()
	out, err := s.supervisor.Run(s.ctx, process.Spec{
		Name: build.KubectlRescue, Path: filepath.Join(s.binaries.Dir, build.KubectlRescue),
		Args: append([]string{
			"restore", kubeconfig,
			"--rescue-command=" + strings.Join([]string{filepath.Join(s.binaries.Dir, build.RBDRescue), kubeconfig, "--config=" + config, "--namespace=" + rescueNamespace}, " "),
		}, args...),
	})
	return string(out), err
}

func (s *site) kept() (manifests.Manifests, error) {
	out, err := s.ceph.RBD(s.ctx, "image-meta", "get", ceph.Pool+"/"+image, manifests.Key)
	if err != nil {
		return manifests.Manifests{}, err
	}
	return manifests.Decode(strings.TrimSpace(string(out)))
}

func TestAVolumeIsRestoredFromItsImageAfterTheLossOfEtcd(t *testing.T) {
	s := begin(t)
	s.namespaces()
	writer := s.writeOn("node-a")
	s.reports("node-a writes", "node-a", func(w workload.WriterReport) bool { return w.Acknowledged > 10 })
	remediator := s.startRemediator()
	s.application()
	var recorded []string
	s.eventually("the image carries the manifests, with the client of node-a", func() (bool, error) {
		m, err := s.kept()
		recorded = m.Clients["node-a"].Clients
		return len(recorded) == 1, err
	})

	// Everything is lost at once; nobody knows what became of node-a.
	s.must(writer.Freeze())
	s.must(remediator.Kill())
	s.must(s.api.LoseEtcd(s.ctx))
	s.must(s.api.StartControllerManager(s.ctx))
	var lost corev1.PersistentVolumeList
	s.must(s.admin.List(s.ctx, &lost))
	if len(lost.Items) > 0 {
		t.Fatalf("not lost: %v", lost.Items)
	}
	list, err := s.restore("--list", ceph.Pool)
	if err != nil || !strings.Contains(list, "shop/data") {
		t.Errorf("listed %q: %v", list, err)
	}
	s.namespaces()

	// It may still write, be its watch there yet or not: refused, until it is cut off as the refusal says.
	out, err := s.restore(ceph.Pool + "/" + image)
	if err == nil || !strings.Contains(err.Error(), "client "+recorded[0]+" of node node-a (boot boot-1)") {
		t.Fatalf("restored beside a client that may write: %q, %v", out, err)
	}
	t.Logf("%v", err)
	_, err = s.ceph.Ceph(s.ctx, "osd", "blocklist", "add", recorded[0], "31536000")
	s.must(err)
	s.eventually("kubectl rescue restore does it", func() (bool, error) {
		out, err = s.restore(ceph.Pool + "/" + image)
		return err == nil, err
	})
	t.Logf("%s", out)
	claim := s.bound("data")
	pv := &corev1.PersistentVolume{}
	s.must(s.admin.Get(s.ctx, client.ObjectKey{Name: claim.Spec.VolumeName}, pv))
	if claim.Labels["app"] != "db" || pv.Name != "pvc-1" || pv.Spec.PersistentVolumeReclaimPolicy != corev1.PersistentVolumeReclaimRetain || pv.Spec.CSI.VolumeAttributes["imageName"] != image {
		t.Errorf("restored %+v and %+v", claim, pv)
	}

	_, err = s.ceph.RBD(s.ctx, "snap", "create", ceph.Pool+"/"+image+"@before")
	s.must(err)
	successor := s.writeOn("node-b")
	s.reports("another node goes on where it ended", "node-b", func(w workload.WriterReport) bool { return w.Acknowledged > 10 })
	s.must(writer.Thaw())
	s.reports("what node-a writes is refused, and all records are there", "node-a", func(w workload.WriterReport) bool { return w.Refused != "" })
	s.fromSnapshot()
	s.rolledBack(successor)
}

// fromSnapshot restores a snapshot beside the volume, which is in use; that one is not rolled back.
func (s *site) fromSnapshot() {
	s.Helper()
	toBefore := []string{ceph.Pool + "/" + image, "--snapshot=before"}
	for name, test := range map[string]struct {
		config, want string
		args         []string
	}{
		"rolled an image back that is in use":     {s.restorer, "open for writing", []string{"--rollback", "--overwrite=" + ceph.Pool + "/" + image}},
		"rolled an image back without a 2nd word": {s.restorer, "add --overwrite", []string{"--rollback"}},
		"made an image without the right to":      {s.config, "profile rbd", []string{"--as-claim=before"}},
	} {
		if out, err := s.restoreBy(test.config, append(test.args, toBefore...)...); err == nil || !strings.Contains(err.Error(), test.want) {
			s.Errorf("%s: %q, %v", name, out, err)
		}
	}
	_, err := s.restoreBy(s.restorer, append(toBefore, "--as-claim=before")...)
	s.must(err)
	pv := &corev1.PersistentVolume{}
	s.must(s.admin.Get(s.ctx, client.ObjectKey{Name: s.bound("before").Spec.VolumeName}, pv))
	if csi := pv.Spec.CSI; csi.VolumeHandle != image+"-before" || csi.VolumeAttributes["staticVolume"] != "true" {
		s.Errorf("the clone's volume is %+v", csi)
	}
	if s.export(image+"-before") != s.export(image+"@before") {
		s.Error("the clone is not the snapshot")
	}
}

// rolledBack overwrites the image with the snapshot once nobody uses it any more. Its objects are there, and stay.
func (s *site) rolledBack(writer *process.Process) {
	s.Helper()
	if s.export(image) == s.export(image+"@before") {
		s.Fatal("nothing was written since the snapshot")
	}
	before := s.bound("data")
	s.must(writer.Kill())
	var out string
	s.eventually("the image is rolled back once the writer's watch has run out", func() (is bool, err error) {
		out, err = s.restoreBy(s.restorer, ceph.Pool+"/"+image, "--snapshot=before", "--rollback", "--overwrite="+ceph.Pool+"/"+image)
		return err == nil, err
	})
	s.Logf("%s", out)
	if s.export(image) != s.export(image+"@before") {
		s.Error("the image is not the snapshot")
	}
	if now := s.bound("data"); now.UID != before.UID || now.ResourceVersion != before.ResourceVersion {
		s.Errorf("the claim was %+v, and is %+v", before, now)
	}
}

func (s *site) export(what string) string {
	s.Helper()
	out, err := s.ceph.RBD(s.ctx, "export", "--no-progress", ceph.Pool+"/"+what, "-")
	s.must(err)
	return string(out)
}

func (s *site) bound(name string) *corev1.PersistentVolumeClaim {
	s.Helper()
	claim := &corev1.PersistentVolumeClaim{}
	s.eventually("Kubernetes binds claim "+name, func() (bool, error) {
		err := s.admin.Get(s.ctx, client.ObjectKey{Namespace: "shop", Name: name}, claim)
		return claim.Status.Phase == corev1.ClaimBound, err
	})
	return claim
}
