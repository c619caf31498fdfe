//go:build librados

package machine

import (
	"os"
	"testing"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	auditv1 "k8s.io/apiserver/pkg/apis/audit/v1"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/controller-runtime/pkg/client"
	ctrllog "sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/rbd-rescue/rbd-rescue/api/v1alpha1"
	"github.com/rbd-rescue/rbd-rescue/e2e/krbd"
	"github.com/rbd-rescue/rbd-rescue/e2e/lab/chart"
	"github.com/rbd-rescue/rbd-rescue/e2e/lab/kube"
)

const (
	rescueNamespace, agent = "rbd-rescue", "rbd-rescue-node"
	nodeName               = "node-a"
	releaseAfter           = "15s"
)

// startAPI starts an API server with the chart's rights, and three namespaces, of which one has opted in.
func (h *host) startAPI() *kube.ControlPlane {
	h.Helper()
	api, err := kube.StartAPI(h.ctx, h.supervisor, kube.Options{
		Dir: dir + "/kube", BinDir: h.binaries.Dir, IP: gateway, AuditedUsers: []string{"system:serviceaccount:" + rescueNamespace + ":" + agent},
	})
	h.must(err)
	ctrllog.SetLogger(logr.Discard())
	scheme := runtime.NewScheme()
	h.must(clientgoscheme.AddToScheme(scheme))
	admin, err := client.New(api.RESTConfig(), client.Options{Scheme: scheme})
	h.must(err)
	for _, object := range []client.Object{
		&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: nodeName}},
		&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: rescueNamespace}},
		&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "shop", Annotations: map[string]string{v1alpha1.AnnotationMode: string(v1alpha1.ModeRescue)}}},
		&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "web"}},
	} {
		h.must(admin.Create(h.ctx, object))
	}
	h.must(chart.Install(h.ctx, admin, h.binaries, rescueNamespace, "https://"+gateway.String()+":9443", "--set=node.enabled=true,node.releaseAfter="+releaseAfter))
	return api
}

// startAgent starts the agent as the chart's DaemonSet does, with releaseAfter, and waits until it has heard which namespaces opted in.
func (h *host) startAgent(api *kube.ControlPlane) {
	h.Helper()
	kubeconfig, err := api.KubeconfigOnNode(h.ctx, rescueNamespace, agent, nodeName)
	h.must(err)
	text, err := os.ReadFile(kubeconfig)
	h.must(err)
	go func() {
		printed, err := h.machine.Run(h.ctx, krbd.Program{
			Path: "/rbd-rescue", Files: map[string][]byte{"/etc/kubeconfig": text},
			Args: []string{"node", "agent", "--kubeconfig=/etc/kubeconfig", "--node-name=" + nodeName, "--release-after=" + releaseAfter, "--health-probe-bind-address=0"},
		})
		if h.ctx.Err() == nil {
			h.Errorf("the agent has ended: %v\n%s", err, printed)
		}
	}()
	h.eventually("the agent has heard which namespaces opted in", func() (heard bool, err error) {
		err = api.Audited(func(e auditv1.Event) {
			heard = heard || e.Verb == "list" && e.ObjectRef.Resource == "namespaces" && e.ResponseStatus != nil && e.ResponseStatus.Code == 200
		})
		return heard, err
	})
}

func TestAnAgentThatIsCutOffFromTheAPIReleasesWhatHasOptedIn(t *testing.T) {
	h := begin(t)
	api := h.startAPI()
	db, files := &pod{namespace: "shop", name: "db-0", uid: "uid-1"}, &pod{namespace: "web", name: "files-0", uid: "uid-2"}
	h.begins(db)
	h.begins(files)
	h.startAgent(api)
	h.must(api.StopAPIServer(h.ctx))
	h.eventually("the agent has released "+db.String(), func() (bool, error) { return !h.isMapped(db), nil })
	h.proves(db)
	if _, err := h.ended(files); err == nil || !h.isMapped(files) {
		t.Error("what has not opted in was released as well")
	}
}
