package webhook

import (
	"crypto/tls"
	"testing"
)

func TestOptionsNameTheFieldAndTheFix(t *testing.T) {
	t.Parallel()
	certificate := func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return nil, nil }
	for name, test := range map[string]struct {
		opts Options
		want string
	}{
		"own certificates":    {opts: Options{Port: 9443, GetCertificate: certificate}},
		"certificate files":   {opts: Options{Port: 9443, CertDir: "/certs"}},
		"no port":             {opts: Options{CertDir: "/certs"}, want: "webhook: Port is 0: set it to 1 to 65535, as in 9443"},
		"no certificate":      {opts: Options{Port: 9443}, want: "webhook: neither GetCertificate nor CertDir is set: set one of them"},
		"two certificates":    {opts: Options{Port: 9443, GetCertificate: certificate, CertDir: "/certs"}, want: "webhook: both GetCertificate and CertDir are set: set one of them"},
		"a port out of range": {opts: Options{Port: 65536, CertDir: "/certs"}, want: "webhook: Port is 65536: set it to 1 to 65535, as in 9443"},
	} {
		got := ""
		if err := test.opts.Validate(); err != nil {
			got = err.Error()
		}
		if got != test.want {
			t.Errorf("%s: %q, want %q", name, got, test.want)
		}
	}
}
