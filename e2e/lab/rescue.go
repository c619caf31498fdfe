package lab

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/wait"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/rbd-rescue/rbd-rescue/e2e/lab/manifests"
	"github.com/rbd-rescue/rbd-rescue/e2e/lab/process"
)

// Ports on the control plane's address.
const (
	webhookPort       = 9443
	webhookMetrics    = 9081
	webhookProbes     = 9082
	remediatorMetrics = 9083
	remediatorProbes  = 9084
	secondMetrics     = 9085
	secondProbes      = 9086
)

// Rescue is rbd-rescue in the lab: its processes run beside the control plane, each with its own ServiceAccount's token.
type Rescue struct {
	lab        *Lab
	webhook    *process.Process
	remediator *process.Process
	second     *process.Process // remediator; nil while there is none
	configFile string
	// configured says that the remediator runs with settings of a scenario.
	configured bool
}

// newRescue installs the CRD, the ServiceAccounts and their rights.
func (l *Lab) newRescue(ctx context.Context) (*Rescue, error) {
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: Namespace}}
	if err := l.Client.Create(ctx, namespace); err != nil && !apierrors.IsAlreadyExists(err) {
		return nil, fmt.Errorf("making namespace %s: %w", Namespace, err)
	}
	objects, err := manifests.Load(l.binaries.Repository)
	if err != nil {
		return nil, err
	}
	for _, object := range objects {
		if object.GetKind() == "Service" {
			continue // nothing in the lab routes services; the webhook is called by its address
		}
		if kind := object.GetKind(); kind == "MutatingWebhookConfiguration" || kind == "ValidatingWebhookConfiguration" {
			if err := callByURL(object); err != nil {
				return nil, err
			}
		}
		if err := l.Client.Create(ctx, object); err != nil && !apierrors.IsAlreadyExists(err) {
			return nil, fmt.Errorf("installing %s %s: %w", object.GetKind(), object.GetName(), err)
		}
	}
	r := &Rescue{lab: l, configFile: filepath.Join(Dir, "remediator.yaml")}
	return r, r.writeConfig(nil)
}

// writeConfig writes the remediator's configuration: the lab's own settings, and others on top of them.
func (r *Rescue) writeConfig(settings map[string]any) error {
	var clusters []any
	for _, site := range r.lab.sites() {
		clusters = append(clusters, site.Configuration(site.ClusterID))
	}
	config := map[string]any{
		"apiVersion": "config.rbd-rescue.io/v1alpha1", "kind": "RemediatorConfiguration",
		"cephClusters": clusters,
		"stuckAfter":   "5s",
		// Scenarios follow each other at once: the nodes of those before have just come back, and would count as failed.
		"maxFailedNodes": "100%",
	}
	maps.Copy(config, settings)
	text, err := yaml.Marshal(config)
	if err != nil {
		return fmt.Errorf("encoding rbd-rescue's configuration: %w", err)
	}
	if err := os.WriteFile(r.configFile, text, 0o600); err != nil {
		return fmt.Errorf("writing rbd-rescue's configuration: %w", err)
	}
	return nil
}

// Configure starts the remediator anew with these settings, until Reset.
func (r *Rescue) Configure(ctx context.Context, settings map[string]any) error {
	r.configured = len(settings) > 0
	if err := r.writeConfig(settings); err != nil {
		return err
	}
	if err := r.remediator.Stop(ctx); err != nil {
		return fmt.Errorf("stopping the remediator: %w", err)
	}
	return r.StartRemediator(ctx)
}

// Reset gives the remediator the lab's own settings again, if a scenario had others. Do it when no fence is left: one may be
// of a cluster that only the scenario's settings know.
func (r *Rescue) Reset(ctx context.Context) error {
	if !r.configured {
		return nil
	}
	return r.Configure(ctx, nil)
}

// heal starts what does not run.
func (r *Rescue) heal(ctx context.Context) error {
	if r.second != nil {
		if err := r.second.Stop(ctx); err != nil {
			return fmt.Errorf("stopping the second remediator: %w", err)
		}
		r.second = nil
	}
	if r.remediator != nil && !r.remediator.Ended() {
		if err := r.remediator.Thaw(); err != nil {
			return err
		}
	}
	if r.remediator != nil && r.remediator.Ended() {
		if err := r.StartRemediator(ctx); err != nil {
			return err
		}
	}
	if r.webhook != nil && r.webhook.Ended() {
		return r.StartWebhook(ctx)
	}
	return nil
}

// callByURL makes the API server call the webhook at an address instead of through a Service.
func callByURL(object *unstructured.Unstructured) error {
	webhooks, _, err := unstructured.NestedSlice(object.Object, "webhooks")
	if err != nil {
		return fmt.Errorf("reading the webhooks: %w", err)
	}
	for i := range webhooks {
		webhook, ok := webhooks[i].(map[string]any)
		if !ok {
			return errors.New("a webhook is not an object")
		}
		path, _, _ := unstructured.NestedString(webhook, "clientConfig", "service", "path")
		webhook["clientConfig"] = map[string]any{"url": fmt.Sprintf("https://localhost:%d%s", webhookPort, path)}
	}
	return unstructured.SetNestedSlice(object.Object, webhooks, "webhooks")
}

// StartWebhook starts the webhook and waits until the API server can call it.
func (r *Rescue) StartWebhook(ctx context.Context) error {
	kubeconfig, err := r.lab.Kube.KubeconfigFor(ctx, Namespace, "rbd-rescue-webhook")
	if err != nil {
		return fmt.Errorf("making the webhook's kubeconfig: %w", err)
	}
	r.webhook, err = r.start("webhook", "webhook", kubeconfig, webhookMetrics, webhookProbes, "",
		fmt.Sprintf("--port=%d", webhookPort), "--dns-names=localhost")
	if err != nil {
		return err
	}
	if err := r.ready(ctx, "webhook", r.webhook, webhookProbes); err != nil {
		return err
	}
	return r.hasCABundle(ctx)
}

// hasCABundle waits until the webhook has written its CA: before, the API server lets every pod pass unseen.
func (r *Rescue) hasCABundle(ctx context.Context) error {
	err := wait.PollUntilContextTimeout(ctx, 50*time.Millisecond, 20*time.Second, true, func(ctx context.Context) (bool, error) {
		configuration := &unstructured.Unstructured{}
		configuration.SetAPIVersion("admissionregistration.k8s.io/v1")
		configuration.SetKind("MutatingWebhookConfiguration")
		if err := r.lab.Client.Get(ctx, client.ObjectKey{Name: "rbd-rescue-webhook"}, configuration); err != nil {
			return false, err
		}
		webhooks, _, err := unstructured.NestedSlice(configuration.Object, "webhooks")
		if err != nil || len(webhooks) == 0 {
			return false, err
		}
		bundle, _, err := unstructured.NestedString(webhooks[0].(map[string]any), "clientConfig", "caBundle")
		return bundle != "", err
	})
	if err != nil {
		return fmt.Errorf("waiting for the webhook's CA bundle: %w", err)
	}
	return nil
}

// StartRemediator starts the remediator and waits until it is up.
func (r *Rescue) StartRemediator(ctx context.Context) error { return r.StartRemediatorToCrash(ctx, "") }

// StartRemediatorToCrash starts a remediator that kills itself at a boundary of the rescuer, as in "after AddToBlocklist";
// empty for never.
func (r *Rescue) StartRemediatorToCrash(ctx context.Context, boundary string) error {
	kubeconfig, err := r.lab.Kube.KubeconfigFor(ctx, Namespace, "rbd-rescue-remediator")
	if err != nil {
		return fmt.Errorf("making the remediator's kubeconfig: %w", err)
	}
	r.remediator, err = r.start("remediator", "remediator", kubeconfig, remediatorMetrics, remediatorProbes, boundary, "--config="+r.configFile, "-v=1")
	if err != nil {
		return err
	}
	return r.ready(ctx, "remediator", r.remediator, remediatorProbes)
}

// StartSecondRemediator starts a replica that waits until the first one leads no more.
func (r *Rescue) StartSecondRemediator(ctx context.Context) error {
	kubeconfig, err := r.lab.Kube.KubeconfigFor(ctx, Namespace, "rbd-rescue-remediator")
	if err != nil {
		return fmt.Errorf("making the second remediator's kubeconfig: %w", err)
	}
	r.second, err = r.start("remediator-2", "remediator", kubeconfig, secondMetrics, secondProbes, "", "--config="+r.configFile, "-v=1")
	if err != nil {
		return err
	}
	return r.ready(ctx, "remediator", r.second, secondProbes)
}

func (r *Rescue) start(name, command, kubeconfig string, metrics, probes int, crashAt string, args ...string) (*process.Process, error) {
	p, err := r.lab.Supervisor.Start(process.Spec{
		Name: "rbd-rescue-" + name, Path: filepath.Join(r.lab.binaries.Dir, "rbd-rescue"),
		Args: append([]string{
			command, "--kubeconfig=" + kubeconfig, "--namespace=" + Namespace,
			fmt.Sprintf("--metrics-bind-address=127.0.0.1:%d", metrics), fmt.Sprintf("--health-probe-bind-address=127.0.0.1:%d", probes),
		}, args...),
		Env: append(os.Environ(), "POD_NAMESPACE="+Namespace, "RBD_RESCUE_CRASH_AT="+crashAt),
	})
	if err != nil {
		return nil, fmt.Errorf("starting rbd-rescue %s: %w", command, err)
	}
	return p, nil
}

func (r *Rescue) ready(ctx context.Context, command string, p *process.Process, port int) error {
	err := wait.PollUntilContextTimeout(ctx, 50*time.Millisecond, 30*time.Second, true, func(ctx context.Context) (bool, error) {
		select {
		case <-p.Done():
			return false, fmt.Errorf("it ended: %w", p.Err())
		default:
		}
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("http://127.0.0.1:%d/readyz", port), nil)
		if err != nil {
			return false, err
		}
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			return false, nil //nolint:nilerr // not up yet
		}
		_ = response.Body.Close()
		return response.StatusCode == http.StatusOK, nil
	})
	if err != nil {
		return fmt.Errorf("waiting for rbd-rescue %s: %w (its log is %s)", command, err, p.Log())
	}
	return nil
}

// RemediatorEnded is closed when the remediator has ended.
func (r *Rescue) RemediatorEnded() <-chan struct{} { return r.remediator.Done() }

// FreezeRemediator stops the remediator where it is, as a node that hangs would.
func (r *Rescue) FreezeRemediator() error { return r.remediator.Freeze() }

// ThawRemediator lets it go on.
func (r *Rescue) ThawRemediator() error { return r.remediator.Thaw() }

// KillRemediator ends the remediator as a crash would.
func (r *Rescue) KillRemediator() error { return r.remediator.Kill() }

// KillWebhook ends the webhook as a crash would.
func (r *Rescue) KillWebhook() error { return r.webhook.Kill() }
