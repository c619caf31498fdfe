package certs

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"net/http"

	cmtls "github.com/cert-manager/cert-manager/pkg/server/tls"
	"github.com/cert-manager/cert-manager/pkg/server/tls/authority"
	"github.com/go-logr/logr"
	"k8s.io/client-go/rest"
	ctrl "sigs.k8s.io/controller-runtime"
)

// The subjects of the certificates; clients look at the names and addresses only.
const (
	caCommonName      = "rbd-rescue-webhook-ca"
	servingCommonName = "rbd-rescue-webhook"
)

// Source has the serving certificate of this replica.
type Source struct {
	dynamic *cmtls.DynamicSource
	log     logr.Logger
}

// Add makes the manager keep a serving certificate and the caBundle up to date, on every replica. The manager's cache has
// to have CacheByObject's entries. The readiness check "certificate" is ready once there is a certificate.
func Add(mgr ctrl.Manager, opts Options) (*Source, error) {
	if err := opts.Validate(); err != nil {
		return nil, err
	}
	opts = opts.withDefaults()
	s := newSource(mgr.GetConfig(), opts, mgr.GetLogger().WithName("certs"))
	if err := mgr.Add(s); err != nil {
		return nil, fmt.Errorf("adding the source of the serving certificate: %w", err)
	}
	if err := mgr.AddReadyzCheck("certificate", s.Ready); err != nil {
		return nil, fmt.Errorf("adding a readiness check: %w", err)
	}
	if err := addInjector(mgr, opts); err != nil {
		return nil, fmt.Errorf("adding the caBundle's controller: %w", err)
	}
	return s, nil
}

func newSource(config *rest.Config, opts Options, log logr.Logger) *Source {
	return &Source{
		log: log,
		dynamic: &cmtls.DynamicSource{
			DNSNames: opts.DNSNames,
			Authority: &signer{
				opts: opts,
				DynamicAuthority: &authority.DynamicAuthority{
					SecretNamespace: opts.SecretNamespace,
					SecretName:      opts.SecretName,
					SecretLabels:    map[string]string{"app.kubernetes.io/name": "rbd-rescue", "app.kubernetes.io/component": "webhook"},
					RESTConfig:      config,
					CommonName:      caCommonName,
					CADuration:      opts.CADuration,
					LeafDuration:    opts.LeafDuration,
				},
			},
		},
	}
}

// GetCertificate gives the serving certificate to a TLS server; an error while there is none yet.
func (s *Source) GetCertificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	return s.dynamic.GetCertificate(hello)
}

// Ready is a readiness check: there is a certificate.
func (s *Source) Ready(*http.Request) error {
	if !s.dynamic.Healthy() {
		return errors.New("there is no serving certificate yet: the Secret of its authority cannot be read or made")
	}
	return nil
}

// Start keeps the certificate up to date until ctx is done.
func (s *Source) Start(ctx context.Context) error {
	// The library takes its logger from here; without one it would log through klog.
	if err := s.dynamic.Start(logr.NewContext(ctx, s.log)); err != nil {
		return fmt.Errorf("keeping the serving certificate up to date: %w", err)
	}
	return nil
}

// NeedLeaderElection is false: every replica serves.
func (s *Source) NeedLeaderElection() bool { return false }

// signer completes what the library's source leaves out of a serving certificate: addresses and a subject.
type signer struct {
	*authority.DynamicAuthority
	opts Options
}

// Sign signs a serving certificate.
func (s *signer) Sign(template *x509.Certificate) (*x509.Certificate, error) {
	template.IPAddresses = s.opts.IPs
	template.Subject = pkix.Name{CommonName: servingCommonName}
	certificate, err := s.DynamicAuthority.Sign(template)
	if err != nil {
		return nil, err // unwrapped: the library tells "not yet" by comparing
	}
	setExpiry(servingExpiry, certificate.NotAfter)
	return certificate, nil
}
