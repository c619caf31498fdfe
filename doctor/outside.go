package doctor

import (
	"crypto/x509"
	"time"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	appsv1 "k8s.io/api/apps/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
)

// Outside is what the rights of a person who administers the cluster show.
type Outside struct {
	// Now is the API server's time.
	Now time.Time
	// Namespace is rbd-rescue's own, Version that of the program that asks; "development" for none.
	Namespace, Version string

	// Lease of the remediator that leads; nil if there is none.
	Lease *coordinationv1.Lease
	// Deployments of rbd-rescue by name; one that is not there is missing.
	Deployments map[string]*appsv1.Deployment
	// CRD of NodeFences; nil if there is none.
	CRD *apiextensionsv1.CustomResourceDefinition
	// Policies and Bindings of admission, by name.
	Policies map[string]*admissionv1.ValidatingAdmissionPolicy
	Bindings map[string]*admissionv1.ValidatingAdmissionPolicyBinding

	Webhook Webhook

	Namespaces []corev1.Namespace
	Nodes      []corev1.Node
	Actors     []Actor
	Unread     Unread
}

// Webhook is how the API server calls the webhook, and what came of it.
type Webhook struct {
	// Mutating and Validating are its configurations; nil if there is none.
	Mutating   *admissionv1.MutatingWebhookConfiguration
	Validating *admissionv1.ValidatingWebhookConfiguration
	// Called tells whether the API server has called it when it was tried; TryError says why it was not tried.
	Called   bool
	TryError error
	// Served is the certificate that it served to the remediator's pod, with those that came along; ServedError says why there is none.
	Served      []*x509.Certificate
	ServedError string
}

// Actor is something else in the cluster that may fence nodes, or release what they hold.
type Actor struct {
	// What it is and does, in words: "NodeHealthCheck workers remediates nodes that are not Ready".
	What string
	// Advice is what to do about it.
	Advice string
}

// Findings of all checks that are made outside.
func (f Outside) Findings() []Finding {
	return findings(f, f.Unread, []look[Outside]{
		{CheckRemediator, leader},
		{CheckReplicas, replicas},
		{CheckVersions, versions},
		{CheckCRD, crd},
		{CheckPolicies, policies},
		{CheckWebhook, webhook},
		{CheckCertificates, certificates},
		{CheckNamespaces, namespaces},
		{CheckPauses, pauses},
		{CheckOtherActors, otherActors},
	})
}
