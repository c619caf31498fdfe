package certificates

import (
	"context"
	"errors"
	"slices"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	"k8s.io/client-go/util/retry"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// configurations are the chart's webhook configurations. Each has one webhook.
type configurations struct {
	mutating   admissionv1.MutatingWebhookConfiguration
	validating admissionv1.ValidatingWebhookConfiguration
}

func readConfigurations(ctx context.Context) (c configurations, err error) {
	key := client.ObjectKey{Name: "rbd-rescue-webhook"}
	return c, errors.Join(admin.Get(ctx, key, &c.mutating), admin.Get(ctx, key, &c.validating))
}

// caBundle is what the API server trusts when it asks about pods.
func (c configurations) caBundle() []byte { return c.mutating.Webhooks[0].ClientConfig.CABundle }

// changeConfigurations writes both as an administrator does.
func changeConfigurations(ctx context.Context, change func(configurations)) error {
	return retry.RetryOnConflict(retry.DefaultRetry, func() error {
		c, err := readConfigurations(ctx)
		if err != nil {
			return err
		}
		change(c)
		return errors.Join(admin.Update(ctx, &c.mutating), admin.Update(ctx, &c.validating))
	})
}

// trust makes the API server trust nothing but bundle.
func trust(ctx context.Context, bundle []byte) error {
	return changeConfigurations(ctx, func(c configurations) {
		c.mutating.Webhooks[0].ClientConfig.CABundle = slices.Clone(bundle)
		c.validating.Webhooks[0].ClientConfig.CABundle = slices.Clone(bundle)
	})
}
