package certs

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/rbd-rescue/rbd-rescue/certs/apitest"
)

// startSource runs a replica's source until the test ends.
func startSource(t *testing.T, api *apitest.Server, opts Options) *Source {
	t.Helper()
	s := newSource(api.Config(), opts, logr.Discard(), anyCA)
	start(t, s)
	return s
}

func anyCA(*x509.Certificate) error { return nil }

// start runs a source until the test ends.
func start(t *testing.T, s *Source) {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	stopped := make(chan error, 1)
	go func() { stopped <- s.Start(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-stopped; err != nil {
			t.Errorf("the source stopped with: %v", err)
		}
	})
}

// eventually waits, at most half a minute, until check holds.
func eventually(t *testing.T, what string, check func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		if check() {
			return
		}
	}
	t.Fatalf("it never came that %s", what)
}

func leaf(t *testing.T, s *Source) *x509.Certificate {
	t.Helper()
	certificate, err := s.GetCertificate(nil)
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := x509.ParseCertificate(certificate.Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	return parsed
}

func caOf(api *apitest.Server) []byte {
	secret := apitest.Get(api, authoritySecret(nil))
	if secret == nil {
		return nil
	}
	return secret.Data["ca.crt"]
}

// calls tells whether a client that trusts bundle completes a TLS handshake by that name or address.
func calls(t *testing.T, s *Source, name string, bundle []byte) error {
	t.Helper()
	client, server := net.Pipe()
	defer func() { _ = client.Close(); _ = server.Close() }()
	go func() {
		_ = tls.Server(server, &tls.Config{GetCertificate: s.GetCertificate, MinVersion: tls.VersionTLS12}).Handshake()
	}()
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(bundle)
	return tls.Client(client, &tls.Config{ServerName: name, RootCAs: roots, MinVersion: tls.VersionTLS12}).HandshakeContext(t.Context())
}

func TestSourceMakesAnAuthorityAndServesByNameAndByAddress(t *testing.T) {
	t.Parallel()
	api := apitest.New(t)
	opts := testOptions()
	opts.IPs = []net.IP{net.ParseIP("10.88.0.1"), net.ParseIP("fd00::1")}
	waiting := newSource(api.Config(), opts, logr.Discard(), anyCA)
	if waiting.Ready(nil) == nil {
		t.Error("ready without a certificate")
	}
	if _, err := waiting.GetCertificate(nil); err == nil {
		t.Error("a certificate before there is one")
	}

	s := startSource(t, api, opts)
	eventually(t, "there is a certificate", func() bool { return s.Ready(nil) == nil })
	for _, name := range []string{"rbd-rescue-webhook.rbd-rescue.svc", "10.88.0.1", "fd00::1"} {
		if err := calls(t, s, name, caOf(api)); err != nil {
			t.Errorf("calling by %s: %v", name, err)
		}
	}
	if err := calls(t, s, "10.88.0.2", caOf(api)); err == nil {
		t.Error("the certificate is good for an address that is not the webhook's")
	}
	ca, err := decodeCA(caOf(api))
	if err != nil {
		t.Fatal(err)
	}
	if got := ca.Subject.CommonName; got != "rbd-rescue-webhook-ca" {
		t.Errorf("the CA is called %s", got)
	}
	if got := leaf(t, s); got.Subject.CommonName != "rbd-rescue-webhook" || got.NotAfter.Sub(got.NotBefore) != 7*day {
		t.Errorf("certificate of %s for %s", got.Subject, got.NotAfter.Sub(got.NotBefore))
	}
}

func TestReplicasShareOneAuthority(t *testing.T) {
	t.Parallel()
	api := apitest.New(t)
	one, two := startSource(t, api, testOptions()), startSource(t, api, testOptions())
	eventually(t, "both replicas serve what the Secret's CA signed", func() bool {
		return one.Ready(nil) == nil && two.Ready(nil) == nil &&
			calls(t, one, testOptions().DNSNames[0], caOf(api)) == nil && calls(t, two, testOptions().DNSNames[0], caOf(api)) == nil
	})
	if leaf(t, one).Equal(leaf(t, two)) {
		t.Error("the replicas share a serving certificate, so its key has left its memory")
	}
}

func TestTheServingCertificateIsRenewedBeforeItEnds(t *testing.T) {
	t.Parallel()
	api := apitest.New(t)
	opts := testOptions()
	opts.LeafDuration = 3 * time.Second
	s := startSource(t, api, opts)
	eventually(t, "there is a certificate", func() bool { return s.Ready(nil) == nil })
	first := leaf(t, s)
	eventually(t, "the certificate is renewed", func() bool { return !leaf(t, s).Equal(first) })
	if now := time.Now(); !now.Before(first.NotAfter) {
		t.Errorf("renewed at %s, after the end of the first at %s", now, first.NotAfter)
	}
}

// Else a new connection would be refused, and the pod pass unseen.
func TestACertificateOfANewCAIsServedOnlyOnceTheCAIsTrusted(t *testing.T) {
	t.Parallel()
	api := apitest.New(t)
	var asked atomic.Int32
	var trusted atomic.Bool
	s := newSource(api.Config(), testOptions(), logr.Discard(), func(*x509.Certificate) error {
		asked.Add(1)
		if !trusted.Load() {
			return errors.New("not yet")
		}
		return nil
	})
	start(t, s)
	eventually(t, "there is a certificate", func() bool { return s.Ready(nil) == nil })
	before := leaf(t, s).AuthorityKeyId

	api.Delete(authoritySecret(nil))
	eventually(t, "the new CA is asked for twice", func() bool { return asked.Load() >= 2 })
	if !bytes.Equal(leaf(t, s).AuthorityKeyId, before) {
		t.Fatal("the certificate of a CA that is not trusted is served")
	}
	trusted.Store(true)
	eventually(t, "the new CA's certificate is served", func() bool { return calls(t, s, testOptions().DNSNames[0], caOf(api)) == nil })
}

// A deleted Secret is how a person replaces a CA at once; an aged one is replaced by the same code of the library.
func TestAfterARotationOldAndNewCertificatesAreTrusted(t *testing.T) {
	t.Parallel()
	api := apitest.New(t)
	s := startSource(t, api, testOptions())
	eventually(t, "there is a certificate", func() bool { return s.Ready(nil) == nil })
	name, oldCA, oldLeaf := testOptions().DNSNames[0], caOf(api), leaf(t, s)

	api.Delete(authoritySecret(nil))
	eventually(t, "the new CA's certificate is served", func() bool {
		return caOf(api) != nil && string(caOf(api)) != string(oldCA) && calls(t, s, name, caOf(api)) == nil
	})
	if err := calls(t, s, name, oldCA); err == nil {
		t.Error("the old CA alone still suffices")
	}
	bundle, _, err := decideBundle(time.Now(), caOf(api), oldCA, testOptions().LeafDuration)
	if err != nil {
		t.Fatal(err)
	}
	if err := calls(t, s, name, bundle); err != nil {
		t.Errorf("the new certificate is not trusted: %v", err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(bundle)
	if _, err := oldLeaf.Verify(x509.VerifyOptions{Roots: roots, DNSName: name}); err != nil {
		t.Errorf("a replica that still serves the old certificate is not trusted: %v", err)
	}
}

func TestExpiryIsTheUnixTimeOfTheCertificatesEnd(t *testing.T) { //nolint:paralleltest // other tests sign as well
	setExpiry(caExpiry, today)
	if got := testutil.ToFloat64(caExpiry); got != float64(today.Unix()) {
		t.Errorf("%v, want %d", got, today.Unix())
	}
}
