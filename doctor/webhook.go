package doctor

import (
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"net"
	"net/url"
	"slices"
	"time"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/rbd-rescue/rbd-rescue/api/v1alpha1"
)

// webhook: the API server knows the webhook, calls it, and is not held up by it.
func webhook(f Outside, r *report) string {
	remedy := "helm upgrade writes it anew."
	w := f.Webhook
	if w.Mutating == nil || len(w.Mutating.Webhooks) == 0 {
		r.fail(remedy, "There is no MutatingWebhookConfiguration %s: new pods are neither gated nor flagged when they are created, and failover-after has no effect.", WebhookName)
	} else {
		pods := w.Mutating.Webhooks[0]
		if pods.FailurePolicy == nil || *pods.FailurePolicy == admissionv1.Fail {
			r.warn("Set webhook.failurePolicy=Ignore in the chart's values: the remediator flags what the webhook missed.",
				"MutatingWebhookConfiguration %s has failurePolicy Fail: no pod with a claim is created while the webhook is down.", WebhookName)
		}
		for _, name := range f.unseenNamespaces(pods.NamespaceSelector) {
			r.warn("Change webhook.namespaceSelector in the chart's values, or the namespace's labels.",
				"Namespace %s has opted in, and the namespaceSelector of MutatingWebhookConfiguration %s leaves it out: its new pods are not gated.", name, WebhookName)
		}
	}
	if w.Validating == nil || len(w.Validating.Webhooks) == 0 {
		r.fail(remedy, "There is no ValidatingWebhookConfiguration %s: a typo in an annotation switches the protection of a namespace off without a word.", WebhookName)
		return ""
	}
	switch {
	case w.TryError != nil:
		r.warn("Run doctor as somebody who may create namespaces (nothing is created: it is a dry run).", "Whether the API server reaches the webhook could not be tried: %v.", w.TryError)
	case !w.Called:
		r.fail(fmt.Sprintf("See whether its pods are ready (kubectl -n %s get pods), the check %q, and whether the API server reaches %s (a NetworkPolicy, a firewall to port 9443, webhook.url).",
			f.Namespace, CheckCertificates, w.Address()),
			"The API server did not reach the webhook: a namespace with a wrong annotation passed in a dry run. New pods are not gated.")
	}
	return "The API server calls the webhook."
}

// unseenNamespaces have opted in, and a selector leaves them out.
func (f Outside) unseenNamespaces(selector *metav1.LabelSelector) []string {
	selects, err := metav1.LabelSelectorAsSelector(selector)
	if err != nil || selector == nil {
		return nil
	}
	var unseen []string
	for _, namespace := range f.Namespaces {
		policy, err := v1alpha1.ParsePolicy(namespace.Annotations)
		if err == nil && policy.OptedIn() && !selects.Matches(labels.Set(namespace.Labels)) {
			unseen = append(unseen, namespace.Name)
		}
	}
	return unseen
}

// Address is host:port at which the API server calls the webhook, as far as its configuration says.
func (w Webhook) Address() string {
	if w.Mutating == nil || len(w.Mutating.Webhooks) == 0 {
		return ""
	}
	client := w.Mutating.Webhooks[0].ClientConfig
	switch {
	case client.URL != nil:
		at, err := url.Parse(*client.URL)
		if err != nil {
			return ""
		}
		if at.Port() == "" {
			return net.JoinHostPort(at.Hostname(), "443")
		}
		return at.Host
	case client.Service != nil:
		port := int32(443)
		if client.Service.Port != nil {
			port = *client.Service.Port
		}
		return net.JoinHostPort(fmt.Sprintf("%s.%s.svc", client.Service.Name, client.Service.Namespace), fmt.Sprint(port))
	default:
		return ""
	}
}

// certificates: what the webhook serves is trusted by both configurations, and was renewed in time.
func certificates(f Outside, r *report) string {
	w := f.Webhook
	for _, c := range w.bundles() {
		if len(c.authorities) == 0 {
			r.fail("In mode self the webhook writes it when it runs; in mode cert-manager cert-manager's cainjector does; in mode secret it is certs.caBundle.",
				"%s %s has no CA: the API server trusts no certificate of the webhook.", c.kind, WebhookName)
			continue
		}
		f.trusts(c, r)
	}
	switch {
	case len(w.Served) > 0:
	case w.Called: // a NetworkPolicy may keep the remediator's pod from it
		return "The API server trusts the webhook's certificate: it has called it."
	case w.ServedError != "":
		r.warn("See whether the webhook's pods are ready, and a NetworkPolicy lets the remediator's reach them.", "The webhook's certificate could not be looked at: %s.", w.ServedError)
		return ""
	default:
		return ""
	}
	leaf := w.Served[0]
	f.renewed(leaf, "The webhook's certificate", r)
	return fmt.Sprintf("The webhook's certificate is trusted, and valid until %s.", leaf.NotAfter.UTC().Format(time.DateTime))
}

// trusts: the served certificate verifies by a configuration's CA.
func (f Outside) trusts(c bundle, r *report) {
	if len(f.Webhook.Served) == 0 {
		return
	}
	leaf := f.Webhook.Served[0]
	host, _, err := net.SplitHostPort(f.Webhook.Address())
	if err != nil {
		host = ""
	}
	options := x509.VerifyOptions{Roots: x509.NewCertPool(), Intermediates: x509.NewCertPool(), DNSName: host, CurrentTime: f.Now}
	for _, authority := range c.authorities {
		options.Roots.AddCert(authority)
	}
	for _, between := range f.Webhook.Served[1:] {
		options.Intermediates.AddCert(between)
	}
	chains, err := leaf.Verify(options)
	if err != nil {
		r.fail("In mode self restart the webhook; in mode cert-manager see the Certificate and cainjector's log; in mode secret give certs.caBundle and the Secret anew.",
			"The API server does not trust the webhook's certificate, by %s %s: %v.", c.kind, WebhookName, err)
		return
	}
	for _, authority := range chains[0][1:] {
		f.renewed(authority, fmt.Sprintf("The CA %q of the webhook's certificate", authority.Subject.CommonName), r)
	}
}

// renewed: rbd-rescue and cert-manager renew a certificate when a third of its time is left, so that half of that means that they
// do not.
func (f Outside) renewed(certificate *x509.Certificate, what string, r *report) {
	left, whole := certificate.NotAfter.Sub(f.Now), certificate.NotAfter.Sub(certificate.NotBefore)
	finding := Finding{
		Check: r.check, Severity: Warning, Message: fmt.Sprintf("%s ends at %s and should have been renewed.", what, certificate.NotAfter.UTC().Format(time.DateTime)),
		Remedy: "docs/runbooks/CertificateExpiring.md says what to look at; in mode secret renew it.",
	}
	if left > 0 && left < whole/6 && !slices.Contains(r.found, finding) { // both configurations have the same CA
		r.found = append(r.found, finding)
	}
}

type bundle struct {
	kind        string
	authorities []*x509.Certificate
}

func (w Webhook) bundles() []bundle {
	var all []bundle
	if w.Mutating != nil && len(w.Mutating.Webhooks) > 0 {
		all = append(all, bundle{"MutatingWebhookConfiguration", Certificates(w.Mutating.Webhooks[0].ClientConfig.CABundle)})
	}
	if w.Validating != nil && len(w.Validating.Webhooks) > 0 {
		all = append(all, bundle{"ValidatingWebhookConfiguration", Certificates(w.Validating.Webhooks[0].ClientConfig.CABundle)})
	}
	return all
}

// Certificates reads those that are in PEM; what is none is left out.
func Certificates(text []byte) []*x509.Certificate {
	var all []*x509.Certificate
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		if certificate, err := x509.ParseCertificate(block.Bytes); err == nil {
			all = append(all, certificate)
		}
	}
	return all
}
