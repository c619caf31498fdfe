package certs

import (
	"context"
	"crypto/x509"
	"fmt"
	"slices"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// trusted fails unless each webhook of the configurations that are there trusts the CA that signed the certificate.
func trusted(ctx context.Context, configurations client.Reader, name string, certificate *x509.Certificate) error {
	for _, configuration := range []client.Object{&admissionv1.MutatingWebhookConfiguration{}, &admissionv1.ValidatingWebhookConfiguration{}} {
		if err := configurations.Get(ctx, client.ObjectKey{Name: name}, configuration); client.IgnoreNotFound(err) != nil {
			return fmt.Errorf("reading what %T %s trusts: %w", configuration, name, err)
		}
		for _, bundle := range bundles(configuration) {
			authorities, _ := decodeBundle(*bundle)
			if !slices.ContainsFunc(authorities, func(ca *x509.Certificate) bool { return certificate.CheckSignatureFrom(ca) == nil }) {
				return fmt.Errorf("%T %s does not trust the CA yet", configuration, name)
			}
		}
	}
	return nil
}
