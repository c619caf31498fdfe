package certs

import (
	"net"
	"testing"
	"time"
)

func TestOptionsNameTheFieldAndTheFix(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		change func(*Options)
		want   string
	}{
		"with a name":             {change: func(*Options) {}},
		"with an address only":    {change: func(o *Options) { o.DNSNames, o.IPs = nil, []net.IP{net.IPv4(10, 88, 0, 1)} }},
		"without a Secret":        {change: func(o *Options) { o.SecretName = "" }, want: "certs: SecretNamespace and SecretName are needed: set both"},
		"without a configuration": {change: func(o *Options) { o.WebhookConfiguration = "" }, want: "certs: WebhookConfiguration is empty: set the name of the webhook configurations"},
		"without any name":        {change: func(o *Options) { o.DNSNames = nil }, want: "certs: neither DNSNames nor IPs is set: set the names by which the API server calls the webhook"},
		"with an address as name": {change: func(o *Options) { o.DNSNames = []string{"10.88.0.1"} }, want: "certs: DNSNames has the address 10.88.0.1: set it in IPs"},
		"with a CA that is shorter than what it signs": {
			change: func(o *Options) { o.CADuration = time.Hour },
			want:   "certs: CADuration is 1h0m0s and LeafDuration 168h0m0s: set CADuration to the longer time",
		},
		"with a CA that would be over before anybody looks": {
			change: func(o *Options) { o.CADuration, o.LeafDuration = 29*time.Second, 9*time.Second },
			want:   "certs: CADuration is 29s and LeafDuration 9s: set them to 30s and 3s at least",
		},
		"with serving certificates of less than whole seconds": {
			change: func(o *Options) { o.LeafDuration = time.Second },
			want:   "certs: CADuration is 8760h0m0s and LeafDuration 1s: set them to 30s and 3s at least",
		},
	} {
		opts := testOptions()
		test.change(&opts)
		got := ""
		if err := opts.Validate(); err != nil {
			got = err.Error()
		}
		if got != test.want {
			t.Errorf("%s: %q, want %q", name, got, test.want)
		}
	}
}
