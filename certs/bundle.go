package certs

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"time"
)

// maxBundle is how many certificates a caBundle may have. One more than the current one is usual; many would only be
// there if somebody deletes the authority's Secret again and again, and must not outgrow what the API server stores.
const maxBundle = 5

// decideBundle says which caBundle makes the API server trust every serving certificate that may still be served, and
// when to look again (zero: nothing will change by itself). In the order newest first, it has:
//   - the current CA;
//   - a CA that is newer than the current one: another replica has seen a rotation that this one has not seen yet;
//   - an older CA until leafDuration after the current one was made: by then what it signed is over, and so may be the
//     trust in it, which matters if the Secret was deleted because its key had leaked;
//   - nothing that has expired or cannot be read, and never more than maxBundle.
//
// If existing has just these, it is returned as it is, whatever their order, so that replicas never undo each other's
// writes.
func decideBundle(now time.Time, current, existing []byte, leafDuration time.Duration) (bundle []byte, lookAgain time.Duration, err error) {
	ca, err := decodeCA(current)
	if err != nil {
		return nil, 0, err
	}
	before, clean := decodeBundle(existing)
	keep := []*x509.Certificate{ca}
	for _, other := range before {
		gone := other.NotAfter
		if end := ca.NotBefore.Add(leafDuration); other.NotBefore.Before(ca.NotBefore) && end.Before(gone) {
			gone = end
		}
		if !now.Before(gone) || slices.ContainsFunc(keep, other.Equal) {
			continue
		}
		keep = append(keep, other)
		if wait := gone.Sub(now); lookAgain == 0 || wait < lookAgain {
			lookAgain = wait
		}
	}
	newestFirst := func(a, b *x509.Certificate) int { return b.NotBefore.Compare(a.NotBefore) }
	slices.SortStableFunc(keep[1:], newestFirst)
	keep = keep[:min(len(keep), maxBundle)]
	if clean && sameCertificates(keep, before) {
		return existing, lookAgain, nil
	}
	slices.SortStableFunc(keep, newestFirst)
	for _, certificate := range keep {
		bundle = append(bundle, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate.Raw})...)
	}
	return bundle, lookAgain, nil
}

func decodeCA(data []byte) (*x509.Certificate, error) {
	block, _ := pem.Decode(data)
	if block == nil || block.Type != "CERTIFICATE" {
		return nil, errors.New("decoding the CA: it is not a certificate in PEM")
	}
	certificate, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("decoding the CA: %w", err)
	}
	return certificate, nil
}

// decodeBundle reads the certificates of a caBundle; clean is false if there is anything else in it.
func decodeBundle(data []byte) (certificates []*x509.Certificate, clean bool) {
	clean = true
	for {
		block, rest := pem.Decode(data)
		if block == nil {
			return certificates, clean && len(bytes.TrimSpace(data)) == 0
		}
		certificate, err := x509.ParseCertificate(block.Bytes)
		if block.Type == "CERTIFICATE" && err == nil {
			certificates = append(certificates, certificate)
		} else {
			clean = false
		}
		data = rest
	}
}

func sameCertificates(a, b []*x509.Certificate) bool {
	return len(a) == len(b) && !slices.ContainsFunc(a, func(c *x509.Certificate) bool { return !slices.ContainsFunc(b, c.Equal) })
}
