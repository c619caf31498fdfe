package look

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	appsv1 "k8s.io/api/apps/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rbd-rescue/rbd-rescue/api/v1alpha1"
	"github.com/rbd-rescue/rbd-rescue/doctor"
)

// Person is what a look with somebody's own rights works with.
type Person struct {
	Client client.Client
	REST   *rest.Config
	// Namespace is rbd-rescue's own, Version that of the program that asks.
	Namespace, Version string
}

// NewPerson makes the client that the look needs.
func NewPerson(config *rest.Config, namespace, version string) (Person, error) {
	scheme := runtime.NewScheme()
	if err := errors.Join(clientgoscheme.AddToScheme(scheme), apiextensionsv1.AddToScheme(scheme)); err != nil {
		return Person{}, fmt.Errorf("registering kinds: %w", err)
	}
	asks, err := client.New(config, client.Options{Scheme: scheme})
	if err != nil {
		return Person{}, fmt.Errorf("making a client of the Kubernetes API: %w", err)
	}
	return Person{Client: asks, REST: config, Namespace: namespace, Version: version}, nil
}

// Look gathers the facts. What is served to the remediator's pod is not among them.
func (p Person) Look(ctx context.Context) doctor.Outside {
	f := doctor.Outside{
		Namespace: p.Namespace, Version: p.Version, Unread: doctor.Unread{}, Deployments: map[string]*appsv1.Deployment{},
		Policies: map[string]*admissionv1.ValidatingAdmissionPolicy{}, Bindings: map[string]*admissionv1.ValidatingAdmissionPolicyBinding{},
	}
	for check, read := range map[string]func(context.Context, *doctor.Outside) error{
		doctor.CheckRemediator:  p.lease,
		doctor.CheckReplicas:    p.deployments,
		doctor.CheckCRD:         p.crd,
		doctor.CheckPolicies:    p.policies,
		doctor.CheckWebhook:     p.webhook,
		doctor.CheckNamespaces:  p.namespaces,
		doctor.CheckPauses:      p.nodes,
		doctor.CheckOtherActors: p.actors,
	} {
		if err := read(ctx, &f); err != nil {
			f.Unread[check] = err
		}
	}
	var err error
	if f.Now, err = APITime(ctx, p.REST); err != nil { // after the Lease: that must not seem to be of the future
		f.Unread[doctor.CheckRemediator], f.Unread[doctor.CheckCertificates] = err, err
	}
	for check, needs := range map[string][]string{
		doctor.CheckVersions:     {doctor.CheckReplicas},
		doctor.CheckCertificates: {doctor.CheckWebhook},
		doctor.CheckPauses:       {doctor.CheckNamespaces},
		doctor.CheckOtherActors:  {doctor.CheckPauses},
	} {
		for _, other := range needs {
			if err := f.Unread[other]; err != nil && f.Unread[check] == nil {
				f.Unread[check] = err
			}
		}
	}
	return f
}

// get reads an object; there is false if there is none.
func get[T client.Object](ctx context.Context, from client.Reader, namespace, name string, object T) (there bool, err error) {
	switch err := from.Get(ctx, client.ObjectKey{Namespace: namespace, Name: name}, object); {
	case apierrors.IsNotFound(err):
		return false, nil
	case err != nil:
		return false, fmt.Errorf("reading %T %s: %w", object, name, err)
	}
	return true, nil
}

func (p Person) lease(ctx context.Context, f *doctor.Outside) error {
	lease := &coordinationv1.Lease{}
	there, err := get(ctx, p.Client, p.Namespace, doctor.RemediatorName, lease)
	if err != nil || !there {
		return err
	}
	f.Lease = lease
	return nil
}

func (p Person) deployments(ctx context.Context, f *doctor.Outside) error {
	for _, name := range []string{doctor.RemediatorName, doctor.WebhookName} {
		deployment := &appsv1.Deployment{}
		there, err := get(ctx, p.Client, p.Namespace, name, deployment)
		if err != nil {
			return err
		}
		if there {
			f.Deployments[name] = deployment
		}
	}
	return nil
}

func (p Person) crd(ctx context.Context, f *doctor.Outside) error {
	crd := &apiextensionsv1.CustomResourceDefinition{}
	there, err := get(ctx, p.Client, "", doctor.CRDName, crd)
	if there {
		f.CRD = crd
	}
	return err
}

func (p Person) policies(ctx context.Context, f *doctor.Outside) error {
	for _, name := range append(slices.Clone(doctor.PolicyNames), doctor.AgentPolicy) {
		policy, binding := &admissionv1.ValidatingAdmissionPolicy{}, &admissionv1.ValidatingAdmissionPolicyBinding{}
		there, err := get(ctx, p.Client, "", name, policy)
		if err != nil {
			return err
		}
		if there {
			f.Policies[name] = policy
		}
		if there, err = get(ctx, p.Client, "", name, binding); err != nil {
			return err
		}
		if there {
			f.Bindings[name] = binding
		}
	}
	return nil
}

func (p Person) namespaces(ctx context.Context, f *doctor.Outside) error {
	_, err := eachObject(ctx, p.Client, &corev1.NamespaceList{}, func(o client.Object) { f.Namespaces = append(f.Namespaces, *o.(*corev1.Namespace)) })
	return err
}

func (p Person) nodes(ctx context.Context, f *doctor.Outside) error {
	_, err := eachObject(ctx, p.Client, &corev1.NodeList{}, func(o client.Object) { f.Nodes = append(f.Nodes, *o.(*corev1.Node)) })
	return err
}

func (p Person) webhook(ctx context.Context, f *doctor.Outside) error {
	mutating, validating := &admissionv1.MutatingWebhookConfiguration{}, &admissionv1.ValidatingWebhookConfiguration{}
	there, err := get(ctx, p.Client, "", doctor.WebhookName, mutating)
	if err != nil {
		return err
	}
	if there {
		f.Webhook.Mutating = mutating
	}
	if there, err = get(ctx, p.Client, "", doctor.WebhookName, validating); err != nil {
		return err
	}
	if there && len(validating.Webhooks) > 0 {
		f.Webhook.Validating = validating
		f.Webhook.Called, f.Webhook.TryError = p.try(ctx, validating.Webhooks[0].Name)
	}
	return nil
}

// tryTimeout is more than the API server waits for any webhook.
const tryTimeout = 35 * time.Second

// try has the API server ask the webhook about a namespace that it must refuse, in a dry run: nothing is made, and a webhook that is not
// reached lets it pass.
func (p Person) try(ctx context.Context, webhook string) (called bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, tryTimeout)
	defer cancel()
	wrong := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{
		GenerateName: "rbd-rescue-doctor-", Annotations: map[string]string{v1alpha1.AnnotationMode: "tried-by-doctor"},
	}}
	err = p.Client.Create(ctx, wrong, client.DryRunAll)
	switch {
	case err == nil:
		return false, nil
	case strings.Contains(err.Error(), fmt.Sprintf("admission webhook %q denied the request", webhook)): // the API server has no other word for it
		return true, nil
	case apierrors.IsInternalError(err) && strings.Contains(err.Error(), fmt.Sprintf("failed calling webhook %q", webhook)): // failurePolicy Fail
		return false, nil
	default:
		return false, err
	}
}
