package certs

import (
	"bytes"
	"context"
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

// CacheByObject limits the manager's caches to the one Secret, without its key, and the one MutatingWebhookConfiguration.
// Its entries belong into cache.Options.ByObject.
func CacheByObject(opts Options) map[client.Object]cache.ByObject {
	return map[client.Object]cache.ByObject{
		&corev1.Secret{}: {
			Namespaces: map[string]cache.Config{opts.SecretNamespace: {
				FieldSelector: fields.OneTermEqualSelector("metadata.name", opts.SecretName),
			}},
			Transform: stripSecret,
		},
		&admissionv1.MutatingWebhookConfiguration{}: {
			Field: fields.OneTermEqualSelector("metadata.name", opts.WebhookConfiguration),
		},
	}
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

// injector writes the CA into the caBundle of the webhook configuration.
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
		Watches(&corev1.Secret{}, handler.EnqueueRequestsFromMapFunc(i.configuration)).
		Complete(i)
}

func (i *injector) configuration(context.Context, client.Object) []reconcile.Request {
	return []reconcile.Request{{NamespacedName: types.NamespacedName{Name: i.opts.WebhookConfiguration}}}
}

// Reconcile makes the webhook configuration trust the CA of the Secret. While one of the two is not there it does
// nothing: its event brings us back.
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

	var configuration admissionv1.MutatingWebhookConfiguration
	if err := i.client.Get(ctx, client.ObjectKey{Name: req.Name}, &configuration); err != nil {
		return reconcile.Result{}, client.IgnoreNotFound(err)
	}
	lookAgain, err := i.inject(ctx, &configuration, secret.Data[caKey])
	if apierrors.IsConflict(err) { // as a rule another replica was quicker, and its write brings us back anyway
		return reconcile.Result{RequeueAfter: time.Second}, nil
	}
	if err != nil {
		return reconcile.Result{}, fmt.Errorf("writing the caBundle of MutatingWebhookConfiguration %s: %w", req.Name, err)
	}
	return reconcile.Result{RequeueAfter: lookAgain}, nil
}

func (i *injector) inject(ctx context.Context, configuration *admissionv1.MutatingWebhookConfiguration, ca []byte) (lookAgain time.Duration, err error) {
	before := configuration.DeepCopy()
	changed := false
	for n := range configuration.Webhooks {
		trusted := &configuration.Webhooks[n].ClientConfig.CABundle
		bundle, wait, err := decideBundle(i.clock.Now(), ca, *trusted, i.opts.LeafDuration)
		if err != nil {
			return 0, err
		}
		if wait > 0 && (lookAgain == 0 || wait < lookAgain) {
			lookAgain = wait
		}
		if !bytes.Equal(bundle, *trusted) {
			*trusted, changed = bundle, true
		}
	}
	if !changed {
		return lookAgain, nil
	}
	log.FromContext(ctx).Info("Writing the CA into the webhook configuration", "configuration", configuration.Name)
	// Optimistic lock: the bundle was made from the one that was read.
	patch := client.StrategicMergeFrom(before, client.MergeFromWithOptimisticLock{})
	return lookAgain, i.client.Patch(ctx, configuration, patch)
}
