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
		"right":               {opts: Options{Port: 9443, GetCertificate: certificate}},
		"no port":             {opts: Options{GetCertificate: certificate}, want: "webhook: Port is 0: set it to 1 to 65535, as in 9443"},
		"a port out of range": {opts: Options{Port: 65536, GetCertificate: certificate}, want: "webhook: Port is 65536: set it to 1 to 65535, as in 9443"},
		"no certificate":      {opts: Options{Port: 9443}, want: "webhook: GetCertificate is nil: set where the certificate is from"},
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
