package kube

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	storagev1 "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/utils/ptr"

	"github.com/rbd-rescue/rbd-rescue/e2e/lab/process"
)

const (
	// Driver is ceph-csi's name for RBD, the only CSI driver of the lab.
	Driver = "rbd.csi.ceph.com"

	serviceCIDR = "10.96.0.0/16"
	serviceIP   = "10.96.0.1"

	etcdPort, etcdPeerPort         = 2379, 2380
	apiPort                        = 6443
	controllerManagerPort          = 10257
	schedulerPort                  = 10259
	defaultNodeMonitorGracePeriod  = 10 * time.Second
	componentTimeout, pollInterval = 2 * time.Minute, 50 * time.Millisecond
)

// controllers are those that a stateful workload and its volume need.
var controllers = []string{
	"node-lifecycle-controller", "taint-eviction-controller", "pod-garbage-collector-controller",
	"persistentvolume-attach-detach-controller", "persistentvolume-binder-controller",
	"persistentvolume-protection-controller", "persistentvolumeclaim-protection-controller",
	"statefulset-controller", "deployment-controller", "replicaset-controller", "disruption-controller",
	"garbage-collector-controller", "namespace-controller", "serviceaccount-controller", "root-ca-certificate-publisher-controller",
}

// Options of a control plane.
type Options struct {
	// Dir holds all files of the cluster; keep it short, unix sockets go below it.
	Dir string
	// BinDir holds lab-kube and csi-attacher.
	BinDir string
	// IP is where everything listens.
	IP netip.Addr
	// NodeMonitorGracePeriod is how long a node may be silent before it is Unknown; zero is 10 s (Kubernetes' own default is 50 s).
	NodeMonitorGracePeriod time.Duration
	// AuditedUsers are those whose requests are logged for Audited.
	AuditedUsers []string
	// APIServerTimeout is how long the API server may take until it is ready; zero is two minutes. It reads all objects first.
	APIServerTimeout time.Duration
	// Authorization are the API server's modes; empty is Node,RBAC. The node authorizer keeps another copy of all pods and volumes.
	Authorization string
	// Env is added to the environment of the components, as in GOGC=50.
	Env []string
}

func (o *Options) validate() error {
	switch {
	case !filepath.IsAbs(o.Dir):
		return fmt.Errorf("the folder Dir is %q: give an absolute path", o.Dir)
	case len(o.Dir) > 40:
		return fmt.Errorf("the folder Dir %q is too long for the unix sockets below it: use at most 40 bytes", o.Dir)
	case !o.IP.IsValid():
		return errors.New("IP is missing: give the address to listen on")
	}
	if o.NodeMonitorGracePeriod == 0 {
		o.NodeMonitorGracePeriod = defaultNodeMonitorGracePeriod
	}
	if o.APIServerTimeout == 0 {
		o.APIServerTimeout = componentTimeout
	}
	if o.Authorization == "" {
		o.Authorization = "Node,RBAC"
	}
	return nil
}

// ControlPlane is a running control plane. The Supervisor that it was started with stops it.
type ControlPlane struct {
	options    Options
	supervisor *process.Supervisor
	authority  *authority
	pki        pkiFiles
	admin      string // path of a kubeconfig
	config     *rest.Config
	client     kubernetes.Interface

	mu                                           sync.Mutex
	etcd, apiServer, controllerManager, attacher *process.Process
}

// Start brings up a control plane in an empty Dir and returns when pods can be made. What it started before an error is for the Supervisor to stop.
func Start(ctx context.Context, supervisor *process.Supervisor, options Options) (*ControlPlane, error) {
	c, err := StartAPI(ctx, supervisor, options)
	if err != nil {
		return nil, err
	}
	if err := c.do(ctx, c.StartControllerManager, c.startScheduler, c.createCSIDriver, c.StartAttacher, c.waitForServiceAccount); err != nil {
		return nil, err
	}
	return c, nil
}

// StartAPI brings up etcd and the API server alone: whatever Kubernetes' controllers would make has to be made by the caller.
func StartAPI(ctx context.Context, supervisor *process.Supervisor, options Options) (*ControlPlane, error) {
	if err := options.validate(); err != nil {
		return nil, fmt.Errorf("checking the control plane's options: %w", err)
	}
	c := &ControlPlane{options: options, supervisor: supervisor}
	if err := c.do(ctx, c.startEtcd, c.prepare, c.StartAPIServer); err != nil {
		return nil, err
	}
	return c, nil
}

func (c *ControlPlane) do(ctx context.Context, steps ...func(context.Context) error) error {
	for _, step := range steps {
		if err := step(ctx); err != nil {
			return fmt.Errorf("starting the control plane: %w", err)
		}
	}
	return nil
}

func (c *ControlPlane) startEtcd(context.Context) error {
	client, peer := c.EtcdURL(), fmt.Sprintf("http://%s:%d", c.options.IP, etcdPeerPort)
	p, err := c.start("etcd",
		"--data-dir="+c.etcdDir(), "--unsafe-no-fsync", "--log-level=warn",
		"--quota-backend-bytes=8589934592", // its default, 2 GiB, is too small for bench-webhook
		"--listen-client-urls="+client, "--advertise-client-urls="+client,
		"--listen-peer-urls="+peer, "--initial-advertise-peer-urls="+peer, "--initial-cluster=default="+peer,
	)
	if err != nil {
		return err
	}
	c.set(&c.etcd, p)
	return nil
}

func (c *ControlPlane) etcdDir() string { return filepath.Join(c.options.Dir, "etcd") }

// LoseEtcd is the loss of all that Kubernetes knows: etcd and the API server end as in a crash, and start with nothing. Only the
// cluster's certificates stay. Of the other components none may run.
func (c *ControlPlane) LoseEtcd(ctx context.Context) error {
	if err := errors.Join(c.get(&c.apiServer).Kill(), c.get(&c.etcd).Kill(), os.RemoveAll(c.etcdDir())); err != nil {
		return fmt.Errorf("losing etcd: %w", err)
	}
	return c.do(ctx, c.startEtcd, c.waitForEtcd, c.StartAPIServer)
}

// prepare makes the PKI and our own client while etcd starts, and then waits for etcd.
func (c *ControlPlane) prepare(ctx context.Context) error {
	var err error
	if c.authority, err = newAuthority(); err != nil {
		return err
	}
	if c.pki, err = writePKI(filepath.Join(c.options.Dir, "pki"), c.authority, c.options.IP); err != nil {
		return err
	}
	if c.admin, err = c.certificateKubeconfig("admin", "lab-admin", "system:masters"); err != nil {
		return err
	}
	if c.config, err = clientcmd.BuildConfigFromFlags("", c.admin); err != nil {
		return fmt.Errorf("reading the kubeconfig: %w", err)
	}
	c.config.QPS = -1
	if c.client, err = kubernetes.NewForConfig(c.config); err != nil {
		return fmt.Errorf("making the client: %w", err)
	}
	return c.waitForEtcd(ctx)
}

func (c *ControlPlane) waitForEtcd(ctx context.Context) error {
	return poll(ctx, "etcd to be healthy", func(ctx context.Context) error {
		return healthy(ctx, http.DefaultClient, c.EtcdURL()+"/health")
	})
}

// StartAPIServer starts the API server and waits until it is ready.
func (c *ControlPlane) StartAPIServer(ctx context.Context) error {
	policy, err := c.auditPolicy()
	if err != nil {
		return err
	}
	p, err := c.start("kube-apiserver",
		"--audit-policy-file="+policy, "--audit-log-path="+c.auditLog(),
		"--etcd-servers="+c.EtcdURL(),
		"--bind-address="+c.options.IP.String(), "--advertise-address="+c.options.IP.String(), fmt.Sprintf("--secure-port=%d", apiPort),
		"--endpoint-reconciler-type=none",
		"--tls-cert-file="+c.pki.serverCert, "--tls-private-key-file="+c.pki.serverKey, "--client-ca-file="+c.pki.ca,
		"--service-account-issuer=https://kubernetes.default.svc",
		"--service-account-key-file="+c.pki.serviceAccountPub, "--service-account-signing-key-file="+c.pki.serviceAccountKey,
		"--service-cluster-ip-range="+serviceCIDR,
		"--requestheader-client-ca-file="+c.pki.ca, "--requestheader-allowed-names=nobody", // else the others log its lack each second
		"--authorization-mode="+c.options.Authorization, "--enable-admission-plugins=NodeRestriction", "--allow-privileged=true",
	)
	if err != nil {
		return err
	}
	c.set(&c.apiServer, p)
	return c.waitUpTo(ctx, c.options.APIServerTimeout, p, "the API server to be ready", func(ctx context.Context) error {
		_, err := c.client.Discovery().RESTClient().Get().AbsPath("/readyz").DoRaw(ctx)
		return err
	})
}

// StopAPIServer ends the API server as a crash does: all connections are reset.
func (c *ControlPlane) StopAPIServer(context.Context) error { return c.get(&c.apiServer).Kill() }

// StartControllerManager starts the controller manager and waits until it is healthy.
func (c *ControlPlane) StartControllerManager(ctx context.Context) error {
	kubeconfig, err := c.certificateKubeconfig("kube-controller-manager", "system:kube-controller-manager")
	if err != nil {
		return err
	}
	p, err := c.start("kube-controller-manager",
		"--kubeconfig="+kubeconfig, "--authentication-kubeconfig="+kubeconfig, "--authorization-kubeconfig="+kubeconfig,
		"--bind-address="+c.options.IP.String(), fmt.Sprintf("--secure-port=%d", controllerManagerPort), "--leader-elect=false",
		"--use-service-account-credentials=true", "--service-account-private-key-file="+c.pki.serviceAccountKey, "--root-ca-file="+c.pki.ca,
		"--flex-volume-plugin-dir="+filepath.Join(c.options.Dir, "flexvolume"), // else it makes one below /usr
		"--node-monitor-period=1s", "--node-monitor-grace-period="+c.options.NodeMonitorGracePeriod.String(),
		// Nodes that fail together are tainted NoExecute half a second apart, not 10 s. Never 1: the limiter of a disrupted
		// zone says that its rate is 1, so that SwapLimiter (nodelifecycle/scheduler) would not put the real one back.
		"--node-eviction-rate=2",
		"--controllers="+strings.Join(controllers, ","),
	)
	if err != nil {
		return err
	}
	c.set(&c.controllerManager, p)
	return c.waitHealthz(ctx, p, controllerManagerPort)
}

// StopControllerManager ends the controller manager as a crash does.
func (c *ControlPlane) StopControllerManager(context.Context) error {
	return c.get(&c.controllerManager).Kill()
}

func (c *ControlPlane) startScheduler(ctx context.Context) error {
	kubeconfig, err := c.certificateKubeconfig("kube-scheduler", "system:kube-scheduler")
	if err != nil {
		return err
	}
	p, err := c.start("kube-scheduler",
		"--kubeconfig="+kubeconfig, "--authentication-kubeconfig="+kubeconfig, "--authorization-kubeconfig="+kubeconfig,
		"--bind-address="+c.options.IP.String(), fmt.Sprintf("--secure-port=%d", schedulerPort), "--leader-elect=false",
	)
	if err != nil {
		return err
	}
	return c.waitHealthz(ctx, p, schedulerPort)
}

// createCSIDriver makes the object that ceph-csi's manifests make.
func (c *ControlPlane) createCSIDriver(ctx context.Context) error {
	if err := c.RequireAttachment(ctx, true); err != nil {
		return err
	}
	socket := c.controllerSocket()
	if err := os.MkdirAll(filepath.Dir(socket), 0o755); err != nil {
		return fmt.Errorf("making the directory of the CSI controller: %w", err)
	}
	_, err := c.start("csi-controller", "--socket="+socket, "--driver="+Driver)
	return err
}

// RequireAttachment makes the driver's object anew: whether its volumes are attached cannot be changed. Change it only while
// no pod uses one.
func (c *ControlPlane) RequireAttachment(ctx context.Context, required bool) error {
	drivers := c.client.StorageV1().CSIDrivers()
	if err := drivers.Delete(ctx, Driver, metav1.DeleteOptions{}); err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("deleting CSIDriver %s: %w", Driver, err)
	}
	driver := &storagev1.CSIDriver{
		ObjectMeta: metav1.ObjectMeta{Name: Driver},
		Spec: storagev1.CSIDriverSpec{
			AttachRequired: new(required), PodInfoOnMount: new(false), FSGroupPolicy: ptr.To(storagev1.FileFSGroupPolicy),
			VolumeLifecycleModes: []storagev1.VolumeLifecycleMode{storagev1.VolumeLifecyclePersistent},
		},
	}
	if _, err := drivers.Create(ctx, driver, metav1.CreateOptions{}); err != nil {
		return fmt.Errorf("making CSIDriver %s: %w", Driver, err)
	}
	return nil
}

func (c *ControlPlane) controllerSocket() string {
	return filepath.Join(c.options.Dir, "csi-controller", "csi.sock")
}

// StartAttacher starts csi-attacher. It returns before the attacher works: it has no health endpoint.
func (c *ControlPlane) StartAttacher(context.Context) error {
	p, err := c.supervisor.Start(process.Spec{
		Name: "csi-attacher", Path: filepath.Join(c.options.BinDir, "csi-attacher"),
		Args: []string{"--kubeconfig=" + c.admin, "--csi-address=" + c.controllerSocket(), "--leader-election=false", "--v=5"},
	})
	if err != nil {
		return err
	}
	c.set(&c.attacher, p)
	return nil
}

// StopAttacher ends csi-attacher as a crash does.
func (c *ControlPlane) StopAttacher(context.Context) error { return c.get(&c.attacher).Kill() }

// Heal starts csi-attacher if it does not run.
func (c *ControlPlane) Heal(ctx context.Context) error {
	if attacher := c.get(&c.attacher); attacher != nil && !attacher.Ended() {
		return nil
	}
	return c.StartAttacher(ctx)
}

// waitForServiceAccount: without it no pod can be made.
func (c *ControlPlane) waitForServiceAccount(ctx context.Context) error {
	return poll(ctx, "the default service account", func(ctx context.Context) error {
		_, err := c.client.CoreV1().ServiceAccounts(metav1.NamespaceDefault).Get(ctx, "default", metav1.GetOptions{})
		return err
	})
}

// RESTConfig is a client configuration with all rights (system:masters) and no rate limit.
func (c *ControlPlane) RESTConfig() *rest.Config { return rest.CopyConfig(c.config) }

// Kubeconfig is the path of a kubeconfig with all rights.
func (c *ControlPlane) Kubeconfig() string { return c.admin }

// Kubectl runs kubectl with all rights and returns its standard output.
func (c *ControlPlane) Kubectl(ctx context.Context, args ...string) (string, error) {
	out, err := c.supervisor.Run(ctx, process.Spec{
		Name: "kubectl", Path: filepath.Join(c.options.BinDir, "lab-kube"), Args: append([]string{"kubectl", "--kubeconfig=" + c.admin}, args...),
		Env: []string{"HOME=" + c.options.Dir}, // its caches
	})
	return string(out), err
}

// EtcdURL is where etcd serves its clients, without TLS.
func (c *ControlPlane) EtcdURL() string { return fmt.Sprintf("http://%s:%d", c.options.IP, etcdPort) }

func (c *ControlPlane) url() string { return fmt.Sprintf("https://%s:%d", c.options.IP, apiPort) }

// start starts a component of lab-kube under its own name.
func (c *ControlPlane) start(component string, args ...string) (*process.Process, error) {
	return c.supervisor.Start(process.Spec{
		Name: component, Path: filepath.Join(c.options.BinDir, "lab-kube"), Args: append([]string{component}, args...),
		Env: c.options.Env,
	})
}

func (c *ControlPlane) set(field **process.Process, p *process.Process) {
	c.mu.Lock()
	defer c.mu.Unlock()
	*field = p
}

func (c *ControlPlane) get(field **process.Process) *process.Process {
	c.mu.Lock()
	defer c.mu.Unlock()
	return *field
}
