package certs

import (
	"bytes"
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

// Add makes the manager keep a serving certificate and the caBundle up to date, on every replica, until ctx is done. The manager's
// cache has to have CacheByObject's entries. The readiness check "certificate" is ready once there is a certificate.
func Add(ctx context.Context, mgr ctrl.Manager, opts Options) (*Source, error) {
	if err := opts.Validate(); err != nil {
		return nil, err
	}
	opts = opts.withDefaults()
	configurations := mgr.GetClient()
	s := newSource(mgr.GetConfig(), opts, mgr.GetLogger().WithName("certs"), func(certificate *x509.Certificate) error {
		return trusted(ctx, configurations, opts.WebhookConfiguration, certificate)
	})
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

func newSource(config *rest.Config, opts Options, log logr.Logger, trusted func(*x509.Certificate) error) *Source {
	return &Source{
		log: log,
		dynamic: &cmtls.DynamicSource{
			DNSNames: opts.DNSNames,
			Authority: &signer{
				opts: opts, trusted: trusted, log: log,
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

// signer completes what the library's source leaves out of a serving certificate, addresses and a subject, and keeps it from serving
// one of a new CA before the API server trusts that: a new connection would be refused, and the pod pass unseen.
type signer struct {
	*authority.DynamicAuthority
	opts    Options
	trusted func(*x509.Certificate) error
	log     logr.Logger

	// serving is the certificate that was given last.
	serving *x509.Certificate
	// told names the CA that was trusted when the library asked last, a second ago.
	told []byte
}

// Sign signs a serving certificate. It is called by one goroutine, again every second after an error.
func (s *signer) Sign(template *x509.Certificate) (*x509.Certificate, error) {
	template.IPAddresses = s.opts.IPs
	template.Subject = pkix.Name{CommonName: servingCommonName}
	certificate, err := s.DynamicAuthority.Sign(template)
	if err != nil {
		return nil, err // unwrapped: the library tells "not yet" by comparing
	}
	if s.tooSoon(certificate) {
		return nil, authority.ErrCertificateNotAvailable
	}
	s.serving = certificate
	setExpiry(servingExpiry, certificate.NotAfter)
	return certificate, nil
}

// tooSoon says that the certificate before is to be served on: it still works, and the CA of the new one is not trusted, or has been
// for less than a second, in which an API server may not have heard of it.
func (s *signer) tooSoon(certificate *x509.Certificate) bool {
	if s.serving == nil || bytes.Equal(s.serving.AuthorityKeyId, certificate.AuthorityKeyId) || !certificate.NotBefore.Before(s.serving.NotAfter) {
		return false
	}
	if err := s.trusted(certificate); err != nil {
		s.log.V(1).Info("Serving on with a certificate of the CA before", "reason", err.Error())
		s.told = nil
		return true
	}
	soon := !bytes.Equal(s.told, certificate.AuthorityKeyId)
	s.told = certificate.AuthorityKeyId
	return soon
}
