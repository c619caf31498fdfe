package doctor

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	appsv1 "k8s.io/api/apps/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"github.com/rbd-rescue/rbd-rescue/api/v1alpha1"
)

func deployment(name, image string) *appsv1.Deployment {
	return &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"app.kubernetes.io/version": "1.2.3"}},
		Spec: appsv1.DeploymentSpec{Replicas: new(int32(2)), Template: corev1.PodTemplateSpec{
			Spec: corev1.PodSpec{Containers: []corev1.Container{{Image: image}}},
		}},
		Status: appsv1.DeploymentStatus{Replicas: 2, ReadyReplicas: 2, UpdatedReplicas: 2},
	}
}

func namespace(name string, annotations map[string]string) corev1.Namespace {
	return corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name, Annotations: annotations, Labels: map[string]string{"kubernetes.io/metadata.name": name}}}
}

func healthyOutside(t *testing.T) Outside {
	t.Helper()
	f := Outside{
		Now: now, Namespace: "rbd-rescue", Version: "1.2.3",
		Lease: &coordinationv1.Lease{Spec: coordinationv1.LeaseSpec{
			HolderIdentity: new("remediator-1"), LeaseDurationSeconds: new(int32(15)), RenewTime: new(metav1.NewMicroTime(now.Add(-2 * time.Second))),
		}},
		Deployments: map[string]*appsv1.Deployment{RemediatorName: deployment(RemediatorName, "i:1.2.3"), WebhookName: deployment(WebhookName, "i:1.2.3")},
		CRD:         chartsCRD(t),
		Policies:    map[string]*admissionv1.ValidatingAdmissionPolicy{}, Bindings: map[string]*admissionv1.ValidatingAdmissionPolicyBinding{},
		Namespaces: []corev1.Namespace{namespace("rbd-rescue", nil), namespace("shop", map[string]string{v1alpha1.AnnotationMode: "rescue"})},
		Nodes:      []corev1.Node{node("a", "10.0.0.1")},
	}
	for _, name := range PolicyNames {
		f.Policies[name] = &admissionv1.ValidatingAdmissionPolicy{}
		f.Bindings[name] = &admissionv1.ValidatingAdmissionPolicyBinding{Spec: admissionv1.ValidatingAdmissionPolicyBindingSpec{
			PolicyName: name, ValidationActions: []admissionv1.ValidationAction{admissionv1.Deny},
		}}
	}
	f.trust(t, authority(t, now.Add(-24*time.Hour), now.Add(364*24*time.Hour)), now.Add(-time.Hour), now.Add(7*24*time.Hour), "rbd-rescue-webhook.rbd-rescue.svc")
	return f
}

type signer struct {
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
}

func authority(t *testing.T, from, until time.Time) signer {
	t.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "ca"}, NotBefore: from, NotAfter: until, IsCA: true, BasicConstraintsValid: true,
	}
	return sign(t, template, nil)
}

func sign(t *testing.T, template *x509.Certificate, by *signer) signer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	parent := signer{template, key}
	if by != nil {
		parent = *by
	}
	raw, err := x509.CreateCertificate(rand.Reader, template, parent.certificate, key.Public(), parent.key)
	if err != nil {
		t.Fatal(err)
	}
	certificate, err := x509.ParseCertificate(raw)
	if err != nil {
		t.Fatal(err)
	}
	return signer{certificate, key}
}

// trust has a webhook serve a certificate for a host, and both configurations trust who signed it.
func (f *Outside) trust(t *testing.T, ca signer, from, until time.Time, host string) {
	t.Helper()
	leaf := sign(t, &x509.Certificate{SerialNumber: big.NewInt(2), NotBefore: from, NotAfter: until, DNSNames: []string{host}}, &ca)
	bundle := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: ca.certificate.Raw})
	client := admissionv1.WebhookClientConfig{CABundle: bundle, Service: &admissionv1.ServiceReference{Namespace: "rbd-rescue", Name: WebhookName}}
	f.Webhook = Webhook{
		Mutating: &admissionv1.MutatingWebhookConfiguration{Webhooks: []admissionv1.MutatingWebhook{{
			ClientConfig: client, FailurePolicy: new(admissionv1.Ignore), NamespaceSelector: &metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{
				{Key: "kubernetes.io/metadata.name", Operator: metav1.LabelSelectorOpNotIn, Values: []string{"kube-system", "rbd-rescue"}},
			}},
		}}},
		Validating: &admissionv1.ValidatingWebhookConfiguration{Webhooks: []admissionv1.ValidatingWebhook{{ClientConfig: client}}},
		Called:     true,
		Served:     []*x509.Certificate{leaf.certificate},
	}
}

func chartsCRD(t *testing.T) *apiextensionsv1.CustomResourceDefinition {
	t.Helper()
	text, err := os.ReadFile("../charts/rbd-rescue/files/crds/rbd-rescue.io_nodefences.yaml")
	if err != nil {
		t.Fatal(err)
	}
	crd := &apiextensionsv1.CustomResourceDefinition{}
	if err := yaml.Unmarshal(text, crd); err != nil {
		t.Fatal(err)
	}
	crd.Status.Conditions = []apiextensionsv1.CustomResourceDefinitionCondition{{Type: apiextensionsv1.Established, Status: apiextensionsv1.ConditionTrue}}
	return crd
}

func TestOutsideAHealthyClusterAllIsWell(t *testing.T) {
	t.Parallel()
	found := healthyOutside(t).Findings()
	compare(t, found, nil)
	everyCheck(t, found, Checks[10:])
}

func TestOutside(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		fault func(*Outside)
		want  []string
	}{
		"no remediator has ever led": {
			func(f *Outside) { f.Lease = nil },
			[]string{"error remediator: No remediator has ever led: there is no Lease rbd-rescue/rbd-rescue-remediator. Nothing is recorded, and nothing would be fenced."},
		},
		"the one that led is gone": {
			func(f *Outside) { f.Lease.Spec.RenewTime = new(metav1.NewMicroTime(now.Add(-time.Minute))) },
			[]string{"error remediator: No remediator leads: remediator-1 renewed Lease rbd-rescue/rbd-rescue-remediator 1m0s ago, which holds for 15s."},
		},
		"the one that led has given up": {
			func(f *Outside) { f.Lease.Spec.HolderIdentity = new("") },
			[]string{"error remediator: No remediator leads: Lease rbd-rescue/rbd-rescue-remediator has no holder."},
		},
		"a replica is not ready": {
			func(f *Outside) { f.Deployments[WebhookName].Status.ReadyReplicas = 1 },
			[]string{"warning replicas: Only 1 of the 2 replicas of Deployment rbd-rescue/rbd-rescue-webhook are ready."},
		},
		"none is ready": {
			func(f *Outside) { f.Deployments[RemediatorName].Status.ReadyReplicas = 0 },
			[]string{"error replicas: None of the 2 replicas of Deployment rbd-rescue/rbd-rescue-remediator is ready."},
		},
		"there is one alone": {
			func(f *Outside) {
				f.Deployments[RemediatorName].Spec.Replicas = new(int32(1))
			},
			[]string{"warning replicas: Deployment rbd-rescue/rbd-rescue-remediator has one replica: if its own node fails, nobody acts until Kubernetes has moved it."},
		},
		"somebody scaled it down": {
			func(f *Outside) { f.Deployments[RemediatorName].Spec.Replicas = new(int32(0)) },
			[]string{"error replicas: Deployment rbd-rescue/rbd-rescue-remediator is scaled to 0 replicas."},
		},
		"it is not installed there": {
			func(f *Outside) { delete(f.Deployments, RemediatorName) },
			[]string{"error replicas: There is no Deployment rbd-rescue/rbd-rescue-remediator."},
		},
		"the two are of different versions": {
			func(f *Outside) { f.Deployments[WebhookName].Spec.Template.Spec.Containers[0].Image = "i:1.2.2" },
			[]string{"warning versions: The remediator runs image i:1.2.3 and the webhook i:1.2.2."},
		},
		"a roll-out hangs": {
			func(f *Outside) { f.Deployments[WebhookName].Status.UpdatedReplicas = 1 },
			[]string{"warning versions: 1 of the 2 replicas of Deployment rbd-rescue/rbd-rescue-webhook run another version than it says."},
		},
		"the plugin is of another version": {
			func(f *Outside) { f.Version = "1.3.0" },
			[]string{"warning versions: This program is of version 1.3.0, and rbd-rescue in namespace rbd-rescue of 1.2.3."},
		},
		"there is no CRD": {
			func(f *Outside) { f.CRD = nil },
			[]string{"error crd: There is no CustomResourceDefinition nodefences.rbd-rescue.io: no node can be fenced."},
		},
		"the CRD is of an older version": {
			func(f *Outside) {
				schema := f.CRD.Spec.Versions[0].Schema.OpenAPIV3Schema
				delete(schema.Properties["status"].Properties["clients"].Items.Schema.Properties, "until")
				delete(schema.Properties["spec"].Properties, "bootID")
			},
			[]string{"error crd: CustomResourceDefinition nodefences.rbd-rescue.io is of an older version: it does not know spec.bootID, status.clients[].until."},
		},
		"the CRD serves another version": {
			func(f *Outside) { f.CRD.Spec.Versions[0].Served = false },
			[]string{"error crd: CustomResourceDefinition nodefences.rbd-rescue.io does not serve version v1alpha1."},
		},
		"the CRD is not established": {
			func(f *Outside) { f.CRD.Status.Conditions = nil },
			[]string{"error crd: CustomResourceDefinition nodefences.rbd-rescue.io is not established."},
		},
		"there are no policies": {
			func(f *Outside) { clear(f.Policies); clear(f.Bindings) },
			[]string{"warning policies: No admission policy is installed: whoever may write pods, nodes or PersistentVolumes may forge flags, gates, the taint and the records."},
		},
		"a policy is missing": {
			func(f *Outside) { delete(f.Policies, "rbd-rescue-pods") },
			[]string{"error policies: Admission policies are missing: rbd-rescue-pods."},
		},
		"a policy is not bound, another one only warns": {
			func(f *Outside) {
				delete(f.Bindings, "rbd-rescue-pods")
				f.Bindings["rbd-rescue-nodes"].Spec.ValidationActions = []admissionv1.ValidationAction{admissionv1.Warn}
			},
			[]string{"error policies: Admission policies are not bound, or do not deny: rbd-rescue-nodes, rbd-rescue-pods."},
		},
		"the API server doubts an expression": {
			func(f *Outside) {
				f.Policies["rbd-rescue-pods"].Status.TypeChecking = &admissionv1.TypeChecking{ExpressionWarnings: []admissionv1.ExpressionWarning{{}}}
			},
			[]string{"warning policies: The API server has doubts about the expressions of admission policies: rbd-rescue-pods."},
		},
		"there are no webhook configurations": {
			func(f *Outside) { f.Webhook = Webhook{} },
			[]string{
				"error webhook: There is no MutatingWebhookConfiguration rbd-rescue-webhook: new pods are neither gated nor flagged when they are created, and failover-after has no effect.",
				"error webhook: There is no ValidatingWebhookConfiguration rbd-rescue-webhook: a typo in an annotation switches the protection of a namespace off without a word.",
			},
		},
		"pods wait for the webhook": {
			func(f *Outside) { f.Webhook.Mutating.Webhooks[0].FailurePolicy = new(admissionv1.Fail) },
			[]string{"warning webhook: MutatingWebhookConfiguration rbd-rescue-webhook has failurePolicy Fail: no pod with a claim is created while the webhook is down."},
		},
		"a selector leaves a namespace out": {
			func(f *Outside) {
				f.Webhook.Mutating.Webhooks[0].NamespaceSelector.MatchLabels = map[string]string{"rescue": "yes"}
			},
			[]string{"warning webhook: Namespace shop has opted in, and the namespaceSelector of MutatingWebhookConfiguration rbd-rescue-webhook leaves it out: its new pods are not gated."},
		},
		"the API server does not reach the webhook": {
			func(f *Outside) { f.Webhook.Called = false },
			[]string{"error webhook: The API server did not reach the webhook: a namespace with a wrong annotation passed in a dry run. New pods are not gated."},
		},
		"it could not be tried": {
			func(f *Outside) { f.Webhook.Called, f.Webhook.TryError = false, errors.New("namespaces is forbidden") },
			[]string{"warning webhook: Whether the API server reaches the webhook could not be tried: namespaces is forbidden."},
		},
		"nobody has written the CA": {
			func(f *Outside) { f.Webhook.Validating.Webhooks[0].ClientConfig.CABundle = nil },
			[]string{"error certificates: ValidatingWebhookConfiguration rbd-rescue-webhook has no CA: the API server trusts no certificate of the webhook."},
		},
		"the certificate is by another CA": {
			func(f *Outside) {
				other := authority(t, now.Add(-time.Hour), now.Add(365*24*time.Hour)).certificate.Raw
				f.Webhook.Mutating.Webhooks[0].ClientConfig.CABundle = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: other})
			},
			[]string{"error certificates: The API server does not trust the webhook's certificate, by MutatingWebhookConfiguration rbd-rescue-webhook: x509: certificate signed by unknown authority " +
				`(possibly because of "x509: ECDSA verification failure" while trying to verify candidate authority certificate "ca").`},
		},
		"the certificate is for another name": {
			func(f *Outside) {
				f.trust(t, authority(t, now.Add(-24*time.Hour), now.Add(364*24*time.Hour)), now.Add(-time.Hour), now.Add(7*24*time.Hour), "elsewhere.example")
			},
			[]string{
				"error certificates: The API server does not trust the webhook's certificate, by MutatingWebhookConfiguration rbd-rescue-webhook: x509: certificate is valid for elsewhere.example, not rbd-rescue-webhook.rbd-rescue.svc.",
				"error certificates: The API server does not trust the webhook's certificate, by ValidatingWebhookConfiguration rbd-rescue-webhook: x509: certificate is valid for elsewhere.example, not rbd-rescue-webhook.rbd-rescue.svc.",
			},
		},
		"the certificate was not renewed": {
			func(f *Outside) {
				f.trust(t, authority(t, now.Add(-24*time.Hour), now.Add(364*24*time.Hour)), now.Add(-6*24*time.Hour), now.Add(24*time.Hour), "rbd-rescue-webhook.rbd-rescue.svc")
			},
			[]string{"warning certificates: The webhook's certificate ends at 2026-11-27 03:00:00 and should have been renewed."},
		},
		"the CA was not renewed": {
			func(f *Outside) {
				f.trust(t, authority(t, now.Add(-360*24*time.Hour), now.Add(5*24*time.Hour)), now.Add(-time.Hour), now.Add(4*24*time.Hour), "rbd-rescue-webhook.rbd-rescue.svc")
			},
			[]string{`warning certificates: The CA "ca" of the webhook's certificate ends at 2026-12-01 03:00:00 and should have been renewed.`},
		},
		"nobody serves one": {
			func(f *Outside) {
				f.Webhook.Called, f.Webhook.Served, f.Webhook.ServedError = false, nil, "calling rbd-rescue-webhook.rbd-rescue.svc:443: connection refused"
			},
			[]string{
				"error webhook: The API server did not reach the webhook: a namespace with a wrong annotation passed in a dry run. New pods are not gated.",
				"warning certificates: The webhook's certificate could not be looked at: calling rbd-rescue-webhook.rbd-rescue.svc:443: connection refused.",
			},
		},
		"the remediator's pod may not call the webhook, and the API server does": {
			func(f *Outside) { f.Webhook.Served, f.Webhook.ServedError = nil, "calling it: timed out" }, nil,
		},
		"a value means nothing": {
			func(f *Outside) { f.Namespaces[1].Annotations[v1alpha1.AnnotationMode] = "resuce" },
			[]string{`error namespaces: Namespace shop is not protected, because a value means nothing: annotation rbd-rescue.io/mode: "resuce" is not a mode: use "rescue", "observe", or remove the annotation.`},
		},
		"an annotation means nothing": {
			func(f *Outside) { f.Namespaces[1].Annotations["rbd-rescue.io/snapshots"] = "on" },
			[]string{"warning namespaces: Annotation rbd-rescue.io/snapshots of namespace shop means nothing."},
		},
		"failover-after has no effect": {
			func(f *Outside) {
				f.Namespaces = append(f.Namespaces, namespace("seen", map[string]string{v1alpha1.AnnotationMode: "observe", v1alpha1.AnnotationFailoverAfter: "30s"}))
			},
			[]string{"warning namespaces: Annotation rbd-rescue.io/failover-after of namespace seen has no effect without mode rescue."},
		},
		"nobody opted in": {
			func(f *Outside) { f.Namespaces = f.Namespaces[:1] },
			[]string{"warning namespaces: No namespace has opted in: nothing would be rescued."},
		},
		"rbd-rescue and a node are paused": {
			func(f *Outside) {
				f.Namespaces[0].Annotations = map[string]string{v1alpha1.AnnotationPaused: "true"}
				f.Nodes[0].Annotations = map[string]string{v1alpha1.AnnotationPaused: "true"}
			},
			[]string{
				"warning pauses: rbd-rescue is paused (annotation on namespace rbd-rescue): nothing new is fenced.",
				"warning pauses: Node a is paused: it would not be fenced.",
			},
		},
		"a node is tainted as out of service": {
			func(f *Outside) { f.Nodes[0].Spec.Taints = []corev1.Taint{{Key: corev1.TaintNodeOutOfService}} },
			[]string{"warning other-actors: Node a is tainted node.kubernetes.io/out-of-service: Kubernetes releases its volumes by itself as soon as it is not Ready, and waits for no fence."},
		},
		"somebody else fences": {
			func(f *Outside) {
				f.Actors = []Actor{{What: "NodeHealthCheck workers remediates nodes that are not Ready (medik8s)", Advice: "Leave it to one."}}
			},
			[]string{"warning other-actors: NodeHealthCheck workers remediates nodes that are not Ready (medik8s)."},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := healthyOutside(t)
			test.fault(&f)
			compare(t, f.Findings(), test.want)
		})
	}
}

func TestACertificateThatNobodyHasSeenIsNotCalledTrusted(t *testing.T) {
	t.Parallel()
	f := healthyOutside(t)
	f.Webhook.Called, f.Webhook.Served = false, nil
	for _, finding := range f.Findings() {
		if finding.Check == CheckCertificates {
			t.Errorf("told %+v", finding)
		}
	}
}

func TestTheWebhooksAddressIsThatOfItsConfiguration(t *testing.T) {
	t.Parallel()
	for want, client := range map[string]admissionv1.WebhookClientConfig{
		"rbd-rescue-webhook.apart.svc:443":  {Service: &admissionv1.ServiceReference{Namespace: "apart", Name: WebhookName}},
		"rbd-rescue-webhook.apart.svc:8443": {Service: &admissionv1.ServiceReference{Namespace: "apart", Name: WebhookName, Port: new(int32(8443))}},
		"localhost:9443":                    {URL: new("https://localhost:9443/mutate-v1-pod")},
		"webhook.example:443":               {URL: new("https://webhook.example/mutate-v1-pod")},
		"[fd00::7]:443":                     {URL: new("https://[fd00::7]/mutate-v1-pod")},
		"":                                  {},
	} {
		w := Webhook{Mutating: &admissionv1.MutatingWebhookConfiguration{Webhooks: []admissionv1.MutatingWebhook{{ClientConfig: client}}}}
		if got := w.Address(); got != want {
			t.Errorf("%+v: %q, want %q", client, got, want)
		}
	}
}

func TestEveryPolicyOfTheChartIsLookedFor(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("../charts/rbd-rescue/templates/policies/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	var names []string
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for document := range strings.SplitSeq(string(text), "\n---\n") {
			_, after, is := strings.Cut(document, "kind: ValidatingAdmissionPolicy\nmetadata:\n  name: ")
			if name, _, _ := strings.Cut(after, "\n"); is {
				names = append(names, name)
			}
		}
	}
	slices.Sort(names)
	if want := slices.Sorted(slices.Values(append(slices.Clone(PolicyNames), AgentPolicy))); !slices.Equal(names, want) {
		t.Errorf("the chart has %v, looked for are %v", names, want)
	}
}
