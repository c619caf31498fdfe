package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"maps"
	"net"
	"slices"
	"time"

	"github.com/spf13/cobra"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/healthz"
	"sigs.k8s.io/controller-runtime/pkg/metrics"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	"github.com/rbd-rescue/rbd-rescue/certs"
	"github.com/rbd-rescue/rbd-rescue/cmd/exit"
	"github.com/rbd-rescue/rbd-rescue/webhook"
)

// webhookOptions are the flags of the webhook command.
type webhookOptions struct {
	serving
	port          int
	dnsNames      []string
	ips           []net.IP
	certDir       string
	secretName    string
	configuration string
	caDuration    time.Duration
	certDuration  time.Duration
}

func webhookCommand() *cobra.Command {
	var o webhookOptions
	command := &cobra.Command{
		Use:   "webhook",
		Short: "Flags new pods whose volume a failed node still holds, and checks namespaces' annotations",
		Args:  exit.Takes(),
		RunE: func(command *cobra.Command, _ []string) error {
			return runWebhook(command.Context(), o)
		},
	}
	flags := command.Flags()
	o.addFlags(flags)
	flags.IntVar(&o.port, "port", 9443, "port of the webhook")
	flags.StringSliceVar(&o.dnsNames, "dns-names", nil, "DNS names in the serving certificate; by default the Service's, rbd-rescue-webhook.NAMESPACE.svc")
	flags.IPSliceVar(&o.ips, "ip-addresses", nil, "IP addresses in the serving certificate")
	flags.StringVar(&o.certDir, "cert-dir", "", "folder with tls.crt and tls.key that somebody else renews; by default the replicas make and rotate certificates themselves")
	flags.StringVar(&o.secretName, "ca-secret", "rbd-rescue-webhook-ca", "Secret that the replicas share their CA through; it is made if it is not there")
	flags.StringVar(&o.configuration, "webhook-configuration", "rbd-rescue-webhook", "name of the MutatingWebhookConfiguration and ValidatingWebhookConfiguration whose caBundle is kept")
	flags.DurationVar(&o.caDuration, "ca-duration", certs.DefaultCADuration, "how long the replicas' CA is valid; it is replaced after two thirds")
	flags.DurationVar(&o.certDuration, "cert-duration", certs.DefaultLeafDuration, "how long a serving certificate is valid; it is replaced after two thirds")
	return command
}

func runWebhook(ctx context.Context, o webhookOptions) error {
	if err := o.validate(); err != nil {
		return err
	}
	if len(o.dnsNames) == 0 {
		o.dnsNames = []string{fmt.Sprintf("rbd-rescue-webhook.%s.svc", o.namespace)}
	}
	restConfig, err := o.setUp("webhook")
	if err != nil {
		return err
	}
	kinds, err := scheme()
	if err != nil {
		return err
	}
	certs.RegisterMetrics(metrics.Registry)
	webhook.RegisterMetrics(metrics.Registry)
	caches := webhook.CacheOptions()
	if o.certDir == "" {
		maps.Copy(caches.ByObject, certs.CacheByObject(o.ownCertificates()))
	}
	mgr, err := ctrl.NewManager(restConfig, ctrl.Options{
		Scheme:                 kinds,
		Cache:                  caches,
		Metrics:                metricsserver.Options{BindAddress: o.metricsAddress},
		HealthProbeBindAddress: o.probeAddress,
	})
	if err != nil {
		return fmt.Errorf("setting the manager up: %w", err)
	}
	getCertificate, err := o.addCertificates(ctx, mgr)
	if err != nil {
		return err
	}
	if err := webhook.Add(ctx, mgr, webhook.Options{Port: o.port, GetCertificate: getCertificate}); err != nil {
		return err
	}
	if err := mgr.AddHealthzCheck("ping", healthz.Ping); err != nil {
		return fmt.Errorf("adding the health check: %w", err)
	}
	return mgr.Start(ctx)
}

// ownCertificates are those that the replicas make themselves.
func (o webhookOptions) ownCertificates() certs.Options {
	return certs.Options{
		SecretNamespace: o.namespace, SecretName: o.secretName, DNSNames: o.dnsNames, IPs: o.ips, WebhookConfiguration: o.configuration,
		CADuration: o.caDuration, LeafDuration: o.certDuration,
	}
}

func (o webhookOptions) addCertificates(ctx context.Context, mgr ctrl.Manager) (func(*tls.ClientHelloInfo) (*tls.Certificate, error), error) {
	if o.certDir == "" {
		source, err := certs.Add(ctx, mgr, o.ownCertificates())
		if err != nil {
			return nil, err
		}
		return source.GetCertificate, nil
	}
	hosts := slices.Clone(o.dnsNames)
	for _, ip := range o.ips {
		hosts = append(hosts, ip.String())
	}
	files, err := certs.AddFiles(mgr, o.certDir, hosts)
	if err != nil {
		return nil, err
	}
	return files.GetCertificate, nil
}
