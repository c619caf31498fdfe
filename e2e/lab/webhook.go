package lab

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/wait"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rbd-rescue/rbd-rescue/e2e/lab/process"
)

// StartWebhook starts the webhook and waits until the API server can call it.
func (r *Rescue) StartWebhook(ctx context.Context) error {
	p, err := r.LaunchWebhook(ctx)
	if err != nil {
		return err
	}
	if err := r.ready(ctx, "webhook", p, webhookProbes); err != nil {
		return err
	}
	return r.hasCABundle(ctx)
}

// LaunchWebhook starts the webhook, which may never get ready.
func (r *Rescue) LaunchWebhook(ctx context.Context) (*process.Process, error) {
	kubeconfig, err := r.lab.Kube.KubeconfigFor(ctx, Namespace, "rbd-rescue-webhook")
	if err != nil {
		return nil, fmt.Errorf("making the webhook's kubeconfig: %w", err)
	}
	if err := os.RemoveAll(podDir("webhook")); err != nil { // a new pod has nothing of the one before
		return nil, fmt.Errorf("removing the volumes of the webhook before: %w", err)
	}
	args, err := r.arguments(ctx, "webhook")
	if err != nil {
		return nil, err
	}
	r.webhook, err = r.start("webhook", args, kubeconfig, webhookMetrics, webhookProbes, "")
	return r.webhook, err
}

// RemountWebhook renews the files of the webhook's volumes, as a kubelet does within a minute.
func (r *Rescue) RemountWebhook(ctx context.Context) error {
	_, err := r.arguments(ctx, "webhook")
	return err
}

// WebhookReady waits until the webhook is ready.
func (r *Rescue) WebhookReady(ctx context.Context) error {
	return r.ready(ctx, "webhook", r.webhook, webhookProbes)
}

// hasCABundle waits until the webhook has written its CA: before, the API server lets every pod pass unseen.
func (r *Rescue) hasCABundle(ctx context.Context) error {
	err := wait.PollUntilContextTimeout(ctx, 50*time.Millisecond, 2*time.Minute, true, func(ctx context.Context) (bool, error) {
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

// PodsSeen is how many pods the webhook has been called for since it started.
func (r *Rescue) PodsSeen(ctx context.Context) (float64, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("http://127.0.0.1:%d/metrics", webhookMetrics), nil)
	if err != nil {
		return 0, err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return 0, fmt.Errorf("reading the webhook's metrics: %w", err)
	}
	defer func() { _ = response.Body.Close() }()
	var pods float64
	for lines := bufio.NewScanner(response.Body); lines.Scan(); {
		if !strings.HasPrefix(lines.Text(), "rbd_rescue_webhook_pods_total{") {
			continue
		}
		n, err := strconv.ParseFloat(lines.Text()[strings.LastIndexByte(lines.Text(), ' ')+1:], 64)
		if err != nil {
			return 0, fmt.Errorf("reading the webhook's metrics: %w", err)
		}
		pods += n
	}
	return pods, nil
}

// ServedCertificate is the one that the webhook serves now.
func (r *Rescue) ServedCertificate(ctx context.Context) (*x509.Certificate, error) {
	dialer := &tls.Dialer{Config: &tls.Config{InsecureSkipVerify: true}} // the API server is who verifies
	c, err := dialer.DialContext(ctx, "tcp", fmt.Sprintf("localhost:%d", webhookPort))
	if err != nil {
		return nil, fmt.Errorf("calling the webhook: %w", err)
	}
	defer func() { _ = c.Close() }()
	return c.(*tls.Conn).ConnectionState().PeerCertificates[0], nil
}

// KillWebhook ends the webhook as a crash would.
func (r *Rescue) KillWebhook() error { return r.webhook.Kill() }
