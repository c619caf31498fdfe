package certs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
)

// caKey is the CA's certificate in the authority's Secret.
const caKey = "ca.crt"

// CacheByObject limits the manager's caches to the one Secret, without its key, and the two webhook configurations.
// Its entries belong into cache.Options.ByObject.
func CacheByObject(opts Options) map[client.Object]cache.ByObject {
	ofOurName := cache.ByObject{Field: fields.OneTermEqualSelector("metadata.name", opts.WebhookConfiguration)}
	return map[client.Object]cache.ByObject{
		&corev1.Secret{}: {
			Namespaces: map[string]cache.Config{opts.SecretNamespace: {
				FieldSelector: fields.OneTermEqualSelector("metadata.name", opts.SecretName),
			}},
			Transform: stripSecret,
		},
		&admissionv1.MutatingWebhookConfiguration{}:   ofOurName,
		&admissionv1.ValidatingWebhookConfiguration{}: ofOurName,
	}
}

// bundles are where a webhook configuration of either kind says which CA is trusted.
func bundles(configuration client.Object) (trusted []*[]byte) {
	switch c := configuration.(type) {
	case *admissionv1.MutatingWebhookConfiguration:
		for i := range c.Webhooks {
			trusted = append(trusted, &c.Webhooks[i].ClientConfig.CABundle)
		}
	case *admissionv1.ValidatingWebhookConfiguration:
		for i := range c.Webhooks {
			trusted = append(trusted, &c.Webhooks[i].ClientConfig.CABundle)
		}
	}
	return trusted
}

// stripSecret keeps the CA's certificate only: who needs the key is the authority, which has a watch of its own.
func stripSecret(obj any) (any, error) {
	secret, ok := obj.(*corev1.Secret)
	if !ok {
		return obj, nil
	}
	return &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: secret.Namespace, Name: secret.Name, UID: secret.UID, ResourceVersion: secret.ResourceVersion,
		},
		Data: map[string][]byte{caKey: secret.Data[caKey]},
	}, nil
}

// injector writes the CA into the caBundle of the webhook configurations: a mutating and a validating one, of the same name.
type injector struct {
	client client.Client // reads from the caches of CacheByObject
	clock  clock.PassiveClock
	opts   Options
}

// addInjector runs the injector on every replica: the webhook needs no leader for anything else, and a rotation is told
// to the API server by whoever sees it first. Replicas cannot undo each other's writes: see decideBundle.
func addInjector(mgr ctrl.Manager, opts Options) error {
	i := &injector{client: mgr.GetClient(), clock: clock.RealClock{}, opts: opts}
	everyReplica := false
	return ctrl.NewControllerManagedBy(mgr).
		Named("ca-bundle").
		WithOptions(controller.Options{NeedLeaderElection: &everyReplica}).
		For(&admissionv1.MutatingWebhookConfiguration{}).
		Watches(&admissionv1.ValidatingWebhookConfiguration{}, &handler.EnqueueRequestForObject{}).
		Watches(&corev1.Secret{}, handler.EnqueueRequestsFromMapFunc(i.configuration)).
		Complete(i)
}

func (i *injector) configuration(context.Context, client.Object) []reconcile.Request {
	return []reconcile.Request{{NamespacedName: types.NamespacedName{Name: i.opts.WebhookConfiguration}}}
}

// Reconcile makes the webhook configurations trust the CA of the Secret. What is not there it leaves: its event brings us back.
func (i *injector) Reconcile(ctx context.Context, req reconcile.Request) (reconcile.Result, error) {
	if req.Name != i.opts.WebhookConfiguration {
		return reconcile.Result{}, nil // the cache has no other; this is for a cache that was made without CacheByObject
	}
	var secret corev1.Secret
	if err := i.client.Get(ctx, client.ObjectKey{Namespace: i.opts.SecretNamespace, Name: i.opts.SecretName}, &secret); err != nil {
		return reconcile.Result{}, client.IgnoreNotFound(err)
	}
	ca, err := decodeCA(secret.Data[caKey])
	if err != nil {
		log.FromContext(ctx).V(1).Info("Waiting for the CA to be made again", "secret", client.ObjectKeyFromObject(&secret), "reason", err.Error())
		return reconcile.Result{}, nil // the authority replaces it, which brings us back
	}
	setExpiry(caExpiry, ca.NotAfter)

	var result reconcile.Result
	var failed []error // one configuration that cannot be written must not hold up the other
	for _, configuration := range []client.Object{&admissionv1.MutatingWebhookConfiguration{}, &admissionv1.ValidatingWebhookConfiguration{}} {
		lookAgain, err := i.keep(ctx, configuration, secret.Data[caKey])
		if err != nil {
			failed = append(failed, fmt.Errorf("writing the caBundle of %T %s: %w", configuration, req.Name, err))
		}
		result.RequeueAfter = sooner(result.RequeueAfter, lookAgain)
	}
	return result, errors.Join(failed...)
}

// keep makes one webhook configuration trust the CA, if it is there.
func (i *injector) keep(ctx context.Context, configuration client.Object, ca []byte) (lookAgain time.Duration, err error) {
	if err := i.client.Get(ctx, client.ObjectKey{Name: i.opts.WebhookConfiguration}, configuration); err != nil {
		return 0, client.IgnoreNotFound(err)
	}
	lookAgain, err = i.inject(ctx, configuration, ca)
	if apierrors.IsConflict(err) { // as a rule another replica was quicker, and its write brings us back anyway
		return time.Second, nil
	}
	return lookAgain, err
}

func (i *injector) inject(ctx context.Context, configuration client.Object, ca []byte) (lookAgain time.Duration, err error) {
	before := configuration.DeepCopyObject().(client.Object)
	changed := false
	for _, trusted := range bundles(configuration) {
		bundle, wait, err := decideBundle(i.clock.Now(), ca, *trusted, i.opts.LeafDuration)
		if err != nil {
			return 0, err
		}
		lookAgain = sooner(lookAgain, wait)
		if !bytes.Equal(bundle, *trusted) {
			*trusted, changed = bundle, true
		}
	}
	if !changed {
		return lookAgain, nil
	}
	log.FromContext(ctx).Info("Writing the CA into a webhook configuration", "configuration", configuration.GetName(), "kind", fmt.Sprintf("%T", configuration))
	// Optimistic lock: the bundle was made from the one that was read.
	patch := client.StrategicMergeFrom(before, client.MergeFromWithOptimisticLock{})
	return lookAgain, i.client.Patch(ctx, configuration, patch)
}

// sooner is the shorter of two times to wait; 0 is none.
func sooner(a, b time.Duration) time.Duration {
	if a == 0 || b == 0 {
		return max(a, b)
	}
	return min(a, b)
}
