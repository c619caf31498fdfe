package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"time"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/util/cert"
	"sigs.k8s.io/controller-runtime/pkg/client"
	crwebhook "sigs.k8s.io/controller-runtime/pkg/webhook"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	"github.com/rbd-rescue/rbd-rescue/e2e/lab/process"
	"github.com/rbd-rescue/rbd-rescue/webhook"
)

// Namespaces whose pods are compared with those of namespaces that rbd-rescue's webhook is called for.
const withoutWebhook, withEmptyWebhook = "without-webhook", "with-empty-webhook"

// serveEmpty is the argument with which this program is the empty webhook: the same server, that allows at once.
const serveEmpty = "serve-empty"

func runEmptyWebhook(ctx context.Context) error {
	server := crwebhook.NewServer(crwebhook.Options{
		Host: address, Port: emptyPort, CertDir: filepath.Join(dir, "empty"), TLSOpts: []func(*tls.Config){func(c *tls.Config) { c.MinVersion = tls.VersionTLS12 }},
	})
	server.Register(webhook.PodPath, &admission.Webhook{
		Handler: admission.HandlerFunc(func(context.Context, admission.Request) admission.Response { return admission.Allowed("") }),
	})
	return server.Start(ctx)
}

// startEmptyWebhook runs it in a process of its own, and has it called as rbd-rescue's is.
func (c *cluster) startEmptyWebhook(ctx context.Context) (*process.Process, error) {
	certificate, key, err := cert.GenerateSelfSignedCertKey(address, []net.IP{net.ParseIP(address)}, nil)
	if err != nil {
		return nil, fmt.Errorf("making the certificate of the empty webhook: %w", err)
	}
	folder := filepath.Join(dir, "empty")
	if err := errors.Join(os.MkdirAll(folder, 0o700), os.WriteFile(filepath.Join(folder, "tls.crt"), certificate, 0o600),
		os.WriteFile(filepath.Join(folder, "tls.key"), key, 0o600)); err != nil {
		return nil, fmt.Errorf("writing the certificate of the empty webhook: %w", err)
	}
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("finding this program: %w", err)
	}
	p, err := c.supervisor.Start(process.Spec{Name: "empty-webhook", Path: self, Args: []string{serveEmpty}})
	if err != nil {
		return nil, err
	}
	var ours admissionv1.MutatingWebhookConfiguration
	if err := c.admin.Get(ctx, client.ObjectKey{Name: "rbd-rescue-webhook"}, &ours); err != nil {
		return nil, fmt.Errorf("reading the webhook's configuration: %w", err)
	}
	configuration := &admissionv1.MutatingWebhookConfiguration{ObjectMeta: metav1.ObjectMeta{Name: "empty-webhook"}, Webhooks: ours.Webhooks}
	w := &configuration.Webhooks[0]
	w.Name = "empty.example.com"
	w.NamespaceSelector = &metav1.LabelSelector{MatchLabels: map[string]string{corev1.LabelMetadataName: withEmptyWebhook}}
	w.ClientConfig = admissionv1.WebhookClientConfig{URL: new(fmt.Sprintf("https://%s:%d%s", address, emptyPort, webhook.PodPath)), CABundle: certificate}
	if err := c.admin.Create(ctx, configuration); err != nil {
		return nil, fmt.Errorf("installing the empty webhook: %w", err)
	}
	for _, name := range []string{withoutWebhook, withEmptyWebhook} {
		if err := errors.Join(c.admin.Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}),
			c.admin.Create(ctx, &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: name, Name: "default"}})); err != nil {
			return nil, fmt.Errorf("making namespace %s: %w", name, err)
		}
	}
	return p, until(ctx, p, "the empty webhook answers", func(ctx context.Context) error {
		connection, err := (&net.Dialer{Timeout: time.Second}).DialContext(ctx, "tcp", fmt.Sprintf("%s:%d", address, emptyPort))
		if err != nil {
			return fmt.Errorf("connecting: %w", err)
		}
		return connection.Close()
	})
}

// way is what a pod's creation passes.
type way struct {
	name string
	pod  *corev1.Pod
	// flagged: the answer has rbd-rescue's label.
	flagged bool
}

// creations makes the pod of each way in turn, many times, as a dry run: all of admission, and no store. It gives the times by way.
func (c *cluster) creations(ctx context.Context, ways []way, times int) (map[string][]time.Duration, error) {
	took := map[string][]time.Duration{}
	for round := range times {
		for _, way := range ways {
			pod := way.pod.DeepCopy()
			begin := time.Now()
			if err := c.admin.Create(ctx, pod, client.DryRunAll); err != nil {
				return nil, fmt.Errorf("creating a pod %s: %w", way.name, err)
			}
			elapsed := time.Since(begin)
			if _, flagged := pod.Labels["rbd-rescue.io/held"]; flagged != way.flagged {
				return nil, fmt.Errorf("a pod %s: flagged is %v", way.name, flagged)
			}
			if round >= times/10 { // the first ones warm the connections and caches up
				took[way.name] = append(took[way.name], elapsed)
			}
		}
	}
	return took, nil
}

// newPod is a new pod of another namespace if one is given, that wants claim i.
func (c *cluster) newPod(i int, namespace string) *corev1.Pod {
	pod := c.world.newPod(i)
	pod.ManagedFields = nil
	pod.Name += "-new"
	if namespace != "" {
		pod.Namespace = namespace
	}
	return pod
}
