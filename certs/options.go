package certs

import (
	"errors"
	"fmt"
	"net"
	"time"
)

// Defaults of Options.
const (
	DefaultCADuration   = 365 * 24 * time.Hour
	DefaultLeafDuration = 7 * 24 * time.Hour
)

// The shortest times that work. The library looks at its authority every 10 s, so that a third of its time must not be shorter; and
// certificates count in whole seconds.
const (
	minCADuration   = 30 * time.Second
	minLeafDuration = 3 * time.Second
)

// Options say where the certificate authority is kept, what it signs, and who has to trust it.
type Options struct {
	// SecretNamespace and SecretName say where the authority's certificate and key are kept.
	SecretNamespace, SecretName string
	// DNSNames are the names by which the API server calls the webhook, as in rbd-rescue-webhook.rbd-rescue.svc.
	DNSNames []string
	// IPs are the addresses by which the API server calls the webhook, where its configuration has a URL with an address.
	// Either a name or an address is needed.
	IPs []net.IP
	// WebhookConfiguration is the name of the MutatingWebhookConfiguration and of the ValidatingWebhookConfiguration that get the
	// caBundle.
	WebhookConfiguration string
	// CADuration is how long the authority's certificate is valid: a year by default; it is replaced after two thirds.
	CADuration time.Duration
	// LeafDuration is how long a serving certificate is valid: a week by default; it is replaced after two thirds, and at
	// once when the authority is replaced.
	LeafDuration time.Duration
}

// Validate names the first field that cannot work, and what to set instead.
func (o Options) Validate() error {
	o = o.withDefaults()
	switch {
	case o.SecretNamespace == "" || o.SecretName == "":
		return errors.New("certs: SecretNamespace and SecretName are needed: set both")
	case o.WebhookConfiguration == "":
		return errors.New("certs: WebhookConfiguration is empty: set the name of the webhook configurations")
	case len(o.DNSNames) == 0 && len(o.IPs) == 0:
		return errors.New("certs: neither DNSNames nor IPs is set: set the names by which the API server calls the webhook")
	case o.CADuration < minCADuration || o.LeafDuration < minLeafDuration:
		return fmt.Errorf("certs: CADuration is %s and LeafDuration %s: set them to %s and %s at least", o.CADuration, o.LeafDuration, minCADuration, minLeafDuration)
	case o.CADuration <= o.LeafDuration:
		return fmt.Errorf("certs: CADuration is %s and LeafDuration %s: set CADuration to the longer time", o.CADuration, o.LeafDuration)
	}
	for _, name := range o.DNSNames {
		if net.ParseIP(name) != nil { // it would be signed, and no client would accept it
			return fmt.Errorf("certs: DNSNames has the address %s: set it in IPs", name)
		}
	}
	return nil
}

func (o Options) withDefaults() Options {
	if o.CADuration == 0 {
		o.CADuration = DefaultCADuration
	}
	if o.LeafDuration == 0 {
		o.LeafDuration = DefaultLeafDuration
	}
	return o
}
