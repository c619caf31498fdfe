package certs

import (
	"context"
	"crypto/x509"
	"errors"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
)

func TestACAIsTrustedWhereEveryWebhookTrustsIt(t *testing.T) {
	t.Parallel()
	current, previous := ca(t, "current", -1, 364), ca(t, "previous", -240, 125)
	signed, err := decodeCA(current) // by itself
	if err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		configurations []client.Object
		refused        error
		want           bool
	}{
		"there are no configurations":        {want: true},
		"both trust it":                      {configurations: []client.Object{webhookConfiguration("rbd-rescue-webhook", current), validatingConfiguration(join(previous, current))}, want: true},
		"only one trusts it":                 {configurations: []client.Object{webhookConfiguration("rbd-rescue-webhook", current), validatingConfiguration(previous)}},
		"one of a configuration's trusts it": {configurations: []client.Object{webhookConfiguration("rbd-rescue-webhook", current, nil)}},
		"somebody else's does not":           {configurations: []client.Object{webhookConfiguration("somebody-else", previous)}, want: true},
		"it cannot be read":                  {refused: errors.New("forbidden")},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := fake.NewClientBuilder().WithObjects(test.configurations...).WithInterceptorFuncs(interceptor.Funcs{
				Get: func(ctx context.Context, c client.WithWatch, key client.ObjectKey, obj client.Object, opts ...client.GetOption) error {
					if test.refused != nil {
						return test.refused
					}
					return c.Get(ctx, key, obj, opts...)
				},
			}).Build()
			if err := trusted(t.Context(), c, "rbd-rescue-webhook", signed); (err == nil) != test.want || test.refused != nil && !errors.Is(err, test.refused) {
				t.Errorf("%v, want trusted %t", err, test.want)
			}
		})
	}
}

func TestWhenACertificateIsServedTooSoon(t *testing.T) {
	t.Parallel()
	of := func(ca byte, from, to int) *x509.Certificate {
		return &x509.Certificate{AuthorityKeyId: []byte{ca}, NotBefore: today.Add(time.Duration(from) * day), NotAfter: today.Add(time.Duration(to) * day)}
	}
	notYet := errors.New("not yet")
	for name, test := range map[string]struct {
		serving *x509.Certificate
		trusted []error // each time that the library asks
		want    []bool
	}{
		"the first one is never":                      {trusted: []error{notYet}, want: []bool{false}},
		"one of the same CA is never":                 {serving: of(2, -1, 6), trusted: []error{notYet}, want: []bool{false}},
		"one of a CA that is not trusted is":          {serving: of(1, -1, 6), trusted: []error{notYet, notYet}, want: []bool{true, true}},
		"one of a trusted CA is for a moment":         {serving: of(1, -1, 6), trusted: []error{nil, nil}, want: []bool{true, false}},
		"trust that comes and goes begins anew":       {serving: of(1, -1, 6), trusted: []error{nil, notYet, nil, nil}, want: []bool{true, true, true, false}},
		"the one before has expired, so that none is": {serving: of(1, -7, 0), trusted: []error{notYet}, want: []bool{false}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var answer error
			s := &signer{log: logr.Discard(), serving: test.serving, trusted: func(*x509.Certificate) error { return answer }}
			for i := range test.trusted {
				answer = test.trusted[i]
				if got := s.tooSoon(of(2, 0, 7)); got != test.want[i] {
					t.Errorf("asked the %d. time: %t, want %t", i+1, got, test.want[i])
				}
			}
		})
	}
}
