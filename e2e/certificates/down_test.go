package certificates

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
)

const (
	// bound is how long the API server may take to make a pod, whatever the webhook does: its time-out, and some slack.
	bound = 3*time.Second + 10*time.Second
	// creations is how many pods a median is of.
	creations = 15
)

// No webhook is left, one hangs, or its certificate is not one that the API server trusts: pods are created all the same.
func TestPodsAreCreatedThoughTheWebhookIsBroken(t *testing.T) {
	replicas := startReplicas(t)
	without := pod()
	without.Spec.Volumes = nil // about such a pod nobody is asked
	alone := median(t, without, creations, false)
	report := func(what string, took time.Duration) {
		t.Logf("the webhook %s: a pod takes %s, %s more than one that the webhook is not asked about",
			what, took.Round(100*time.Microsecond), (took - alone).Round(100*time.Microsecond))
	}
	report("is up", median(t, pod(), creations, true))

	for _, replica := range replicas {
		if err := replica.Freeze(); err != nil {
			t.Fatal(err)
		}
	}
	report("hangs", median(t, pod(), 1, false))

	for _, replica := range replicas {
		if err := replica.Kill(); err != nil {
			t.Fatal(err)
		}
	}
	report("is killed", median(t, pod(), creations, false))

	// The configurations trust a CA that has signed nothing, and the webhook serves a certificate of nobody's.
	foreign, served := selfSigned(t), t.TempDir()
	if err := trust(t.Context(), foreign["tls.crt"]); err != nil {
		t.Fatal(err)
	}
	for name, data := range selfSigned(t) {
		if err := os.WriteFile(filepath.Join(served, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for i := range ports {
		replicas[i] = startReplica(t, i, "--cert-dir="+served)
		notTrusted(t, i)
	}
	report("serves a certificate that is not trusted", median(t, pod(), creations, false))

	for i := range ports {
		if err := replicas[i].Kill(); err != nil {
			t.Fatal(err)
		}
		startReplica(t, i)
	}
	becomesCalled(t)
}

// A caBundle that somebody has overwritten is mended by the replicas, and so is a Secret that holds no CA.
func TestBrokenCertificatesAreMended(t *testing.T) {
	startReplicas(t)
	for name, bundle := range map[string][]byte{"another CA": selfSigned(t)["tls.crt"], "nothing": nil} {
		if err := trust(t.Context(), bundle); err != nil {
			t.Fatalf("trusting %s: %v", name, err)
		}
		becomesTrusted(t)
		becomesCalled(t)
	}
	s := secret()
	s.Data = map[string][]byte{"ca.crt": []byte("x"), "tls.crt": []byte("x"), "tls.key": []byte("x")}
	if err := admin.Update(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	hasCA(t, s.Data["ca.crt"])
	becomesTrusted(t)
	becomesCalled(t)
}

// becomesTrusted waits until both replicas can be asked over new connections.
func becomesTrusted(t *testing.T) {
	t.Helper()
	if err := eventually(t.Context(), "both replicas' certificates are trusted", func(ctx context.Context) error {
		for i := range ports {
			if _, err := askedAnew(ctx, i); err != nil {
				return err
			}
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
}

// median creates some pods, and says how long one took. Each is created in time, and asked is whether by way of the webhook.
func median(t *testing.T, like *corev1.Pod, pods int, asked bool) time.Duration {
	t.Helper()
	took := make([]time.Duration, 0, pods)
	for range pods {
		p := like.DeepCopy()
		begin := time.Now()
		if err := admin.Create(t.Context(), p); err != nil {
			t.Fatalf("a pod is not created: %v", err)
		}
		took = append(took, time.Since(begin))
		if changed(p) != asked {
			t.Fatalf("the webhook was asked: %t, want %t", !asked, asked)
		}
	}
	slices.Sort(took)
	if longest := took[len(took)-1]; longest > bound {
		t.Errorf("a pod took %s, want %s at most", longest, bound)
	}
	return took[len(took)/2]
}

// notTrusted waits until a replica serves a certificate that who trusts the configurations' caBundle refuses.
func notTrusted(t *testing.T, replica int) {
	t.Helper()
	if err := eventually(t.Context(), "the webhook serves a certificate that is not trusted", func(ctx context.Context) error {
		_, err := askedAnew(ctx, replica)
		if !errors.As(err, new(*tls.CertificateVerificationError)) {
			return fmt.Errorf("asking it: %v", err) //nolint:errorlint // it may be nil
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
}

// selfSigned is a serving certificate for the webhook's address that signs itself.
func selfSigned(t *testing.T) map[string][]byte {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "foreign"}, IPAddresses: []net.IP{net.ParseIP(address)},
		BasicConstraintsValid: true, IsCA: true, NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(time.Hour),
	}
	certificate, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return map[string][]byte{
		"tls.crt": pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate}),
		"tls.key": pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}),
	}
}
