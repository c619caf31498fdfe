package certs

import (
	"context"
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

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

const host = "rbd-rescue-webhook.rbd-rescue.svc"

// writePair writes a serving certificate, which signs itself, and its key.
func writePair(t *testing.T, dir, name, host string, notBefore, notAfter time.Time) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, DNSNames: []string{host}, NotBefore: notBefore, NotAfter: notAfter,
	}
	certificate, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, dir, "tls.crt", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate}))
	writeFile(t, dir, "tls.key", pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}))
}

func writeFile(t *testing.T, dir, name string, text []byte) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
		t.Fatal(err)
	}
}

func hourAround() (notBefore, notAfter time.Time) {
	return time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
}

// testFiles have a gauge of their own: tests run side by side.
func testFiles(dir string, hosts ...string) *Files {
	f := newFiles(dir, hosts, logr.Discard())
	f.expiry = prometheus.NewGauge(prometheus.GaugeOpts{Name: "expiry", Help: "When it expires."})
	return f
}

func servedBy(f *Files) string {
	pair, err := f.GetCertificate(nil)
	if err != nil {
		return ""
	}
	return pair.Leaf.Subject.CommonName
}

func TestFilesServeWhatIsRenewedWithoutARestart(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	f := testFiles(dir, "another.example", host)
	f.every = 10 * time.Millisecond
	ctx, stop := context.WithCancel(t.Context())
	stopped := make(chan error, 1)
	go func() { stopped <- f.Start(ctx) }()

	eventually(t, "the missing file is told", func() bool {
		err := f.Ready(nil)
		return err != nil && strings.Contains(err.Error(), filepath.Join(dir, "tls.crt")+": no such file")
	})
	if _, err := f.GetCertificate(nil); err == nil {
		t.Error("a certificate before there is one")
	}
	notBefore, notAfter := hourAround()
	writePair(t, dir, "first", host, notBefore, notAfter)
	eventually(t, "the first certificate is served", func() bool { return servedBy(f) == "first" && f.Ready(nil) == nil })
	writePair(t, dir, "second", host, notBefore, notAfter.Add(time.Hour))
	eventually(t, "the second certificate is served", func() bool { return servedBy(f) == "second" && f.Ready(nil) == nil })
	if got := testutil.ToFloat64(f.expiry); got != float64(notAfter.Add(time.Hour).Unix()) {
		t.Errorf("the metric says that it expires at %v", got)
	}
	stop()
	if err := <-stopped; err != nil {
		t.Error(err)
	}
}

func TestFilesThatAreBrokenLeaveTheCertificateBefore(t *testing.T) {
	t.Parallel()
	notBefore, notAfter := hourAround()
	for name, broken := range map[string]func(t *testing.T, dir string){
		"no certificate": func(t *testing.T, dir string) { writeFile(t, dir, "tls.crt", []byte("text")) },
		"the key of another": func(t *testing.T, dir string) {
			other := t.TempDir()
			writePair(t, other, "other", host, notBefore, notAfter)
			text, err := os.ReadFile(filepath.Join(other, "tls.key"))
			if err != nil {
				t.Fatal(err)
			}
			writeFile(t, dir, "tls.key", text)
		},
		"no file": func(t *testing.T, dir string) {
			if err := os.Remove(filepath.Join(dir, "tls.key")); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			writePair(t, dir, "good", host, notBefore, notAfter)
			f := testFiles(dir, host)
			f.read()
			broken(t, dir)
			f.read()
			if err := f.Ready(nil); err != nil || servedBy(f) != "good" {
				t.Errorf("it serves %q, ready: %v", servedBy(f), err)
			}
			fresh := testFiles(dir, host)
			fresh.read()
			if err := fresh.Ready(nil); err == nil || !strings.Contains(err.Error(), "there is no serving certificate yet in "+dir) {
				t.Errorf("a replica that starts with it: %v", err)
			}
		})
	}
}

func TestFilesThatTheAPIServerCannotTrustAreNotReady(t *testing.T) {
	t.Parallel()
	notBefore, notAfter := hourAround()
	for name, test := range map[string]struct {
		host                string
		notBefore, notAfter time.Time
		want                string
	}{
		"expired":     {host, notBefore.Add(-time.Hour), time.Now().Add(-time.Minute), "the certificate expired at "},
		"early":       {host, time.Now().Add(time.Minute), notAfter, "the certificate is valid from "},
		"for another": {"webhook.example", notBefore, notAfter, "the certificate is not for " + host + ": renew it with that name"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			writePair(t, dir, name, test.host, test.notBefore, test.notAfter)
			f := testFiles(dir, host)
			f.read()
			if err := f.Ready(nil); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("ready: %v, want %q", err, test.want)
			}
		})
	}
}
