package certificates

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"testing"
)

// The serving certificates are renewed several times, then the CA itself; and then somebody deletes the CA's Secret.
func TestCertificatesAreReplacedWithoutADroppedAdmission(t *testing.T) {
	// The library looks at the CA every 10 s, and replaces it after two thirds of its time.
	replicas := startReplicas(t, "--ca-duration=40s", "--cert-duration=9s")
	first := hasCA(t, nil)
	l := startLoad(t)
	defer l.nothingDropped(t)
	serve(t, l, first)

	second := hasCA(t, first)
	serve(t, l, second)
	for i := range ports {
		if n := renewals(l.seen(i), first); n < 2 {
			t.Errorf("replica %d served %d certificates of the first CA, want them renewed", i, n)
		}
	}

	trustsOnly(t, second, first)

	deleteSecret(t.Context(), t)
	serve(t, l, hasCA(t, second))
	for _, replica := range replicas {
		if replica.Ended() {
			t.Errorf("%s has ended: %v", replica.Name(), replica.Err())
		}
	}
}

// hasCA waits for another CA than before.
func hasCA(t *testing.T, before []byte) (ca []byte) {
	t.Helper()
	if err := eventually(t.Context(), "there is a new CA", func(ctx context.Context) (err error) {
		ca, err = currentCA(ctx)
		if err == nil && (ca == nil || bytes.Equal(ca, before)) {
			err = errors.New("the CA is still the old one")
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return ca
}

// serve waits until both replicas serve certificates of ca.
func serve(t *testing.T, l *load, ca []byte) {
	t.Helper()
	if err := eventually(t.Context(), "the replicas serve certificates of the CA", func(context.Context) error {
		if serving := l.serving(); len(serving) != len(ports) || renewals(serving, ca) != len(ports) {
			return errors.New("not yet")
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
}

// renewals counts the certificates that ca has signed.
func renewals(served []*x509.Certificate, ca []byte) (n int) {
	block, _ := pem.Decode(ca)
	authority, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return 0
	}
	for _, certificate := range served {
		if certificate.CheckSignatureFrom(authority) == nil {
			n++
		}
	}
	return n
}

// trustsOnly waits until the CA before is trusted no more: no certificate of it can be served by now.
func trustsOnly(t *testing.T, ca, before []byte) {
	t.Helper()
	if err := eventually(t.Context(), "only the new CA is trusted", func(ctx context.Context) error {
		c, err := readConfigurations(ctx)
		if err != nil {
			return err
		}
		for _, bundle := range [][]byte{c.mutating.Webhooks[0].ClientConfig.CABundle, c.validating.Webhooks[0].ClientConfig.CABundle} {
			if !bytes.Contains(bundle, ca) || bytes.Contains(bundle, before) {
				return fmt.Errorf("trusted are:\n%s", bundle)
			}
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
}
