package certs

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	clocktesting "k8s.io/utils/clock/testing"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
)

func authoritySecret(ca []byte) *corev1.Secret {
	return &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: "rbd-rescue", Name: "rbd-rescue-webhook-ca"},
		Data:       map[string][]byte{"ca.crt": ca},
	}
}

func webhookConfiguration(name string, bundles ...[]byte) *admissionv1.MutatingWebhookConfiguration {
	configuration := &admissionv1.MutatingWebhookConfiguration{ObjectMeta: metav1.ObjectMeta{Name: name}}
	path := "/mutate-v1-pod"
	for i, bundle := range bundles {
		configuration.Webhooks = append(configuration.Webhooks, admissionv1.MutatingWebhook{
			Name: string(rune('a'+i)) + ".rbd-rescue.io",
			ClientConfig: admissionv1.WebhookClientConfig{
				Service:  &admissionv1.ServiceReference{Namespace: "rbd-rescue", Name: "rbd-rescue-webhook", Path: &path},
				CABundle: bundle,
			},
		})
	}
	return configuration
}

func testOptions() Options {
	return Options{
		SecretNamespace: "rbd-rescue", SecretName: "rbd-rescue-webhook-ca", WebhookConfiguration: "rbd-rescue-webhook",
		DNSNames: []string{"rbd-rescue-webhook.rbd-rescue.svc"},
	}.withDefaults()
}

func reconcileBundle(t *testing.T, c client.Client) (reconcile.Result, error) {
	t.Helper()
	i := &injector{client: c, clock: clocktesting.NewFakePassiveClock(today), opts: testOptions()}
	return i.Reconcile(t.Context(), reconcile.Request{NamespacedName: types.NamespacedName{Name: "rbd-rescue-webhook"}})
}

func TestInjector(t *testing.T) {
	t.Parallel()
	current, previous := ca(t, "current", -1, 364), ca(t, "previous", -240, 125)
	for name, test := range map[string]struct {
		objects   []client.Object
		want      [][]string // by webhook of the configuration
		lookAgain time.Duration
		writes    int
	}{
		"writes the CA into every webhook of the configuration, and keeps the rest": {
			objects: []client.Object{authoritySecret(current), webhookConfiguration("rbd-rescue-webhook", nil, nil)},
			want:    [][]string{{"current"}, {"current"}}, writes: 1,
		},
		"keeps the previous CA, and looks again when it is to go": {
			objects: []client.Object{authoritySecret(current), webhookConfiguration("rbd-rescue-webhook", previous)},
			want:    [][]string{{"current", "previous"}}, writes: 1, lookAgain: 6 * day,
		},
		"writes nothing if the caBundle is right": {
			objects: []client.Object{authoritySecret(current), webhookConfiguration("rbd-rescue-webhook", current)},
			want:    [][]string{{"current"}},
		},
		"waits for the Secret": {
			objects: []client.Object{webhookConfiguration("rbd-rescue-webhook", nil)},
			want:    [][]string{nil},
		},
		"waits for a Secret that holds no CA to be made again": {
			objects: []client.Object{authoritySecret([]byte("x")), webhookConfiguration("rbd-rescue-webhook", previous)},
			want:    [][]string{{"previous"}},
		},
		"waits for the webhook configuration": {
			objects: []client.Object{authoritySecret(current)},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			writes := 0
			c := fake.NewClientBuilder().WithObjects(test.objects...).
				WithObjects(webhookConfiguration("somebody-else", previous)).
				WithInterceptorFuncs(interceptor.Funcs{
					Patch: func(ctx context.Context, c client.WithWatch, obj client.Object, patch client.Patch, opts ...client.PatchOption) error {
						writes++
						return c.Patch(ctx, obj, patch, opts...)
					},
				}).Build()
			result, err := reconcileBundle(t, c)
			if err != nil {
				t.Fatal(err)
			}
			if result.RequeueAfter != test.lookAgain {
				t.Errorf("look again after %s, want %s", result.RequeueAfter, test.lookAgain)
			}
			if _, err := reconcileBundle(t, c); err != nil { // once more changes nothing
				t.Fatal(err)
			}
			if writes != test.writes {
				t.Errorf("%d writes, want %d", writes, test.writes)
			}
			var configuration admissionv1.MutatingWebhookConfiguration
			if err := c.Get(t.Context(), client.ObjectKey{Name: "rbd-rescue-webhook"}, &configuration); client.IgnoreNotFound(err) != nil {
				t.Fatal(err)
			}
			if len(configuration.Webhooks) != len(test.want) {
				t.Fatalf("%d webhooks, want %d", len(configuration.Webhooks), len(test.want))
			}
			for i, webhook := range configuration.Webhooks {
				if got := names(webhook.ClientConfig.CABundle); !slices.Equal(got, test.want[i]) {
					t.Errorf("webhook %s trusts %v, want %v", webhook.Name, got, test.want[i])
				}
				if webhook.ClientConfig.Service == nil || *webhook.ClientConfig.Service.Path != "/mutate-v1-pod" {
					t.Errorf("webhook %s lost its service", webhook.Name)
				}
			}
			if err := c.Get(t.Context(), client.ObjectKey{Name: "somebody-else"}, &configuration); err != nil {
				t.Fatal(err)
			}
			if got := names(configuration.Webhooks[0].ClientConfig.CABundle); !slices.Equal(got, []string{"previous"}) {
				t.Errorf("somebody else's webhook trusts %v", got)
			}
		})
	}
}

func TestInjectorLooksAgainAfterAConflict(t *testing.T) {
	t.Parallel()
	current := ca(t, "current", -1, 364)
	c := fake.NewClientBuilder().WithObjects(authoritySecret(current), webhookConfiguration("rbd-rescue-webhook", nil)).
		WithInterceptorFuncs(interceptor.Funcs{
			Get: func(ctx context.Context, c client.WithWatch, key client.ObjectKey, obj client.Object, opts ...client.GetOption) error {
				err := c.Get(ctx, key, obj, opts...)
				if _, ok := obj.(*admissionv1.MutatingWebhookConfiguration); ok {
					obj.SetResourceVersion("1") // a cache that is behind
				}
				return err
			},
		}).Build()
	result, err := reconcileBundle(t, c)
	if err != nil || result.RequeueAfter != time.Second {
		t.Errorf("result %+v, error %v; want to look again soon", result, err)
	}
}

func validatingConfiguration(bundle []byte) *admissionv1.ValidatingWebhookConfiguration {
	return &admissionv1.ValidatingWebhookConfiguration{
		ObjectMeta: metav1.ObjectMeta{Name: "rbd-rescue-webhook"},
		Webhooks:   []admissionv1.ValidatingWebhook{{Name: "a.rbd-rescue.io", ClientConfig: admissionv1.WebhookClientConfig{CABundle: bundle}}},
	}
}

func TestInjectorKeepsTheValidatingConfigurationToo(t *testing.T) {
	t.Parallel()
	current, previous := ca(t, "current", -1, 364), ca(t, "previous", -240, 125)
	for name, test := range map[string]struct {
		mutating  []client.Object
		refuse    bool // writes of the mutating one
		lookAgain time.Duration
	}{
		"beside the mutating one":                   {mutating: []client.Object{webhookConfiguration("rbd-rescue-webhook", nil)}, lookAgain: 6 * day},
		"where there is no mutating one":            {lookAgain: 6 * day},
		"though the mutating one cannot be written": {mutating: []client.Object{webhookConfiguration("rbd-rescue-webhook", nil)}, refuse: true, lookAgain: 6 * day},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := fake.NewClientBuilder().WithObjects(authoritySecret(current), validatingConfiguration(previous)).WithObjects(test.mutating...).
				WithInterceptorFuncs(interceptor.Funcs{
					Patch: func(ctx context.Context, c client.WithWatch, obj client.Object, patch client.Patch, opts ...client.PatchOption) error {
						if _, mutating := obj.(*admissionv1.MutatingWebhookConfiguration); mutating && test.refuse {
							return errors.New("forbidden")
						}
						return c.Patch(ctx, obj, patch, opts...)
					},
				}).Build()
			result, err := reconcileBundle(t, c)
			if (err != nil) != test.refuse || result.RequeueAfter != test.lookAgain {
				t.Errorf("%+v, %v", result, err)
			}
			var configuration admissionv1.ValidatingWebhookConfiguration
			if err := c.Get(t.Context(), client.ObjectKey{Name: "rbd-rescue-webhook"}, &configuration); err != nil {
				t.Fatal(err)
			}
			if got := names(configuration.Webhooks[0].ClientConfig.CABundle); !slices.Equal(got, []string{"current", "previous"}) {
				t.Errorf("it trusts %v", got)
			}
		})
	}
}

func TestInjectorReportsARefusedWrite(t *testing.T) {
	t.Parallel()
	refused := errors.New("forbidden")
	c := fake.NewClientBuilder().WithObjects(authoritySecret(ca(t, "current", -1, 364)), webhookConfiguration("rbd-rescue-webhook", nil)).
		WithInterceptorFuncs(interceptor.Funcs{
			Patch: func(context.Context, client.WithWatch, client.Object, client.Patch, ...client.PatchOption) error {
				return refused
			},
		}).Build()
	if _, err := reconcileBundle(t, c); !errors.Is(err, refused) {
		t.Errorf("error %v, want the cause", err)
	}
}

func TestTheCacheNeverHoldsTheKey(t *testing.T) {
	t.Parallel()
	secret := authoritySecret([]byte("certificate"))
	secret.Data["tls.key"] = []byte("key")
	secret.Annotations = map[string]string{"last-applied": "key"}
	got, err := stripSecret(secret)
	if err != nil {
		t.Fatal(err)
	}
	stripped := got.(*corev1.Secret)
	if len(stripped.Data) != 1 || string(stripped.Data["ca.crt"]) != "certificate" || stripped.Annotations != nil {
		t.Errorf("the cache holds %v, %v", stripped.Data, stripped.Annotations)
	}
}
