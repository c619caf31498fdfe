package e2e

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rbd-rescue/rbd-rescue/api/v1alpha1"
	"github.com/rbd-rescue/rbd-rescue/e2e/lab"
)

// The release changes over to cert-manager and back. Its certificate is served, and its renewal too, without a restart.
func TestCertificatesOfCertManager(t *testing.T) {
	s := begin(t, v1alpha1.ModeRescue)
	manager, err := s.lab.StartCertManager(s.ctx)
	s.must(err)
	t.Cleanup(func() { _ = manager.Kill() })
	_, err = s.lab.Rescue.Upgrade(s.ctx, "--set=certs.mode=cert-manager")
	s.must(err)
	t.Cleanup(s.ownCertificatesAgain)

	serving := s.secretOf("rbd-rescue-webhook-tls")
	s.trusts(serving.Data["ca.crt"])
	s.must(s.lab.Rescue.KillWebhook())
	webhook, err := s.lab.Rescue.LaunchWebhook(s.ctx)
	s.must(err)
	s.must(s.lab.Rescue.WebhookReady(s.ctx))
	s.called()

	s.must(s.lab.Client.Delete(s.ctx, serving))
	s.eventually(soon, "cert-manager has renewed the certificate", func() (bool, error) {
		return !bytes.Equal(s.secretOf("rbd-rescue-webhook-tls").Data["tls.crt"], serving.Data["tls.crt"]), nil
	})
	s.must(s.lab.Rescue.RemountWebhook(s.ctx))
	s.serves(s.secretOf("rbd-rescue-webhook-tls").Data["tls.crt"])
	s.called()
	if webhook.Ended() {
		t.Error("the webhook has ended")
	}
}

// The release changes over to a Secret of one's own and back. A webhook without a certificate, or with one for another name, runs,
// is not ready, says why, and gets ready as soon as the right one is there.
func TestCertificateOfOnesOwn(t *testing.T) {
	s := begin(t, v1alpha1.ModeRescue)
	bundle := filepath.Join(t.TempDir(), "ca.crt")
	right, wrong := selfSigned(t, "localhost"), selfSigned(t, "webhook.example")
	s.must(os.WriteFile(bundle, right["tls.crt"], 0o600))
	_, err := s.lab.Rescue.Upgrade(s.ctx, "--set=certs.mode=secret", "--set=certs.secretName=own", "--set-file=certs.caBundle="+bundle)
	s.must(err)
	t.Cleanup(s.ownCertificatesAgain)
	s.trusts(right["tls.crt"])

	s.must(s.lab.Rescue.KillWebhook())
	webhook, err := s.lab.Rescue.LaunchWebhook(s.ctx)
	s.must(err)
	says := func(what string) {
		s.Helper()
		s.eventually(soon, "the webhook says: "+what, func() (bool, error) {
			text, err := os.ReadFile(webhook.Log())
			return strings.Contains(string(text), what), err
		})
	}
	says("tls.crt: no such file or directory")
	secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: lab.Namespace, Name: "own"}, Type: corev1.SecretTypeTLS, Data: wrong}
	s.must(s.lab.Client.Create(s.ctx, secret))
	t.Cleanup(func() { _ = s.lab.Client.Delete(s.ctx, secret) })
	s.must(s.lab.Rescue.RemountWebhook(s.ctx))
	says("the certificate is not for rbd-rescue-webhook.rbd-rescue.svc or localhost")
	secret.Data = right
	s.must(s.lab.Client.Update(s.ctx, secret))
	s.must(s.lab.Rescue.RemountWebhook(s.ctx))
	s.must(s.lab.Rescue.WebhookReady(s.ctx))
	s.called()
	if webhook.Ended() {
		t.Error("the webhook has ended")
	}
}

// ownCertificatesAgain brings the release back to what the lab has installed.
func (s *scenario) ownCertificatesAgain() {
	s.Helper()
	_, err := s.lab.Rescue.Upgrade(s.ctx)
	s.must(err)
	s.must(s.lab.Rescue.KillWebhook())
	s.must(s.lab.Rescue.StartWebhook(s.ctx))
	s.trusts(s.secretOf("rbd-rescue-webhook-ca").Data["ca.crt"])
	s.called()
}

func (s *scenario) secretOf(name string) *corev1.Secret {
	s.Helper()
	secret := &corev1.Secret{}
	s.eventually(soon, "Secret "+name+" is there", func() (bool, error) {
		err := s.lab.Client.Get(s.ctx, client.ObjectKey{Namespace: lab.Namespace, Name: name}, secret)
		return err == nil && len(secret.Data) > 0, client.IgnoreNotFound(err)
	})
	return secret
}

// trusts waits until the API server trusts this CA.
func (s *scenario) trusts(ca []byte) {
	s.Helper()
	s.eventually(soon, "the webhook configuration has the CA", func() (bool, error) {
		return bytes.Contains(s.webhookConfiguration().Webhooks[0].ClientConfig.CABundle, bytes.TrimSpace(ca)), nil
	})
}

func (s *scenario) serves(certificate []byte) {
	s.Helper()
	block, _ := pem.Decode(certificate)
	s.eventually(soon, "the webhook serves the certificate", func() (bool, error) {
		served, err := s.lab.Rescue.ServedCertificate(s.ctx)
		return err == nil && bytes.Equal(served.Raw, block.Bytes), err
	})
}

// called waits until the API server calls the webhook for a new pod: it makes the pod anyway, so that only the webhook can tell.
func (s *scenario) called() {
	s.Helper()
	s.eventually(soon, "the webhook is called for a new pod", func() (bool, error) {
		before, err := s.lab.Rescue.PodsSeen(s.ctx)
		if err != nil {
			return false, err
		}
		if err := s.lab.Client.Create(s.ctx, podWithClaim(s.namespace), client.DryRunAll); err != nil {
			return false, err
		}
		after, err := s.lab.Rescue.PodsSeen(s.ctx)
		return after > before, err
	})
}

// selfSigned is a serving certificate that signs itself.
func selfSigned(t *testing.T, host string) map[string][]byte {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: host}, DNSNames: []string{host}, BasicConstraintsValid: true, IsCA: true,
		NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(time.Hour),
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
