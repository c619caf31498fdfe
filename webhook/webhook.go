package webhook

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"

	"github.com/go-logr/logr"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	crwebhook "sigs.k8s.io/controller-runtime/pkg/webhook"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"
)

const (
	// PodPath is where new pods are admitted; the MutatingWebhookConfiguration names it.
	PodPath = "/mutate-v1-pod"
	// NamespacePath is where annotations of namespaces are checked; the ValidatingWebhookConfiguration names it.
	NamespacePath = "/validate-v1-namespace"
)

// Options of the webhook server.
type Options struct {
	// Host is the address to listen on; empty means all of them.
	Host string
	// Port to listen on, 1 to 65535.
	Port int
	// GetCertificate gives the serving certificate, as certs.Source and certs.Files do.
	GetCertificate func(*tls.ClientHelloInfo) (*tls.Certificate, error)
}

// Validate names the first field that cannot work, and what to set instead.
func (o Options) Validate() error {
	switch {
	case o.Port < 1 || o.Port > 65535:
		return fmt.Errorf("webhook: Port is %d: set it to 1 to 65535, as in 9443", o.Port)
	case o.GetCertificate == nil:
		return errors.New("webhook: GetCertificate is nil: set where the certificate is from")
	default:
		return nil
	}
}

// Add makes the manager serve the webhook on every replica, with a server of its own. The manager's cache has to be made
// with CacheOptions. Two readiness checks are added: "held-volumes" is ready once the caches have synced and the index of
// held volumes is filled, "webhook-server" once it answers with a certificate.
func Add(ctx context.Context, mgr ctrl.Manager, opts Options) error {
	if err := opts.Validate(); err != nil {
		return err
	}
	handlers, err := Handlers(ctx, mgr)
	if err != nil {
		return err
	}
	server := newServer(opts)
	for path, handler := range handlers {
		server.Register(path, &admission.Webhook{
			Handler: handler,
			// The default one builds a logger for each request, which costs more than the rest of an idle admission.
			LogConstructor: func(base logr.Logger, _ *admission.Request) logr.Logger { return base },
		})
	}
	if err := mgr.Add(server); err != nil {
		return fmt.Errorf("adding the webhook server: %w", err)
	}
	if err := mgr.AddReadyzCheck("webhook-server", server.StartedChecker()); err != nil {
		return fmt.Errorf("adding a readiness check: %w", err)
	}
	return nil
}

// Handlers are what the server serves, by path; the manager keeps what they know up to date.
func Handlers(ctx context.Context, mgr ctrl.Manager) (map[string]admission.Handler, error) {
	// Every informer is made here, before the manager starts: the first fill waits for those that there are, and the
	// controller would make its own only while it starts. Namespaces have no controller at all.
	for obj := range CacheOptions().ByObject {
		if _, err := mgr.GetCache().GetInformer(ctx, obj, cache.BlockUntilSynced(false)); err != nil {
			return nil, fmt.Errorf("watching %T: %w", obj, err)
		}
	}
	volumes := newVolumes(mgr.GetCache())
	x := newIndex(volumes)
	if err := x.watch(mgr, volumes); err != nil {
		return nil, fmt.Errorf("watching for held volumes: %w", err)
	}
	if err := mgr.Add(&firstFill{index: x, volumes: volumes, cache: mgr.GetCache()}); err != nil {
		return nil, fmt.Errorf("adding the first fill of the held volumes: %w", err)
	}
	if err := mgr.AddReadyzCheck("held-volumes", x.ready); err != nil {
		return nil, fmt.Errorf("adding a readiness check: %w", err)
	}
	return map[string]admission.Handler{
		PodPath:       &podHandler{held: x, namespaces: mgr.GetCache()},
		NamespacePath: namespaceHandler{},
	}, nil
}

func newServer(opts Options) crwebhook.Server {
	return crwebhook.NewServer(crwebhook.Options{
		Host: opts.Host, Port: opts.Port,
		TLSOpts: []func(*tls.Config){func(c *tls.Config) {
			c.MinVersion, c.GetCertificate = tls.VersionTLS12, opts.GetCertificate
		}},
	})
}

// ready is the readiness check of the index: fill is done after the caches have synced.
func (x *index) ready(*http.Request) error {
	if _, known := x.Held(); !known {
		return errors.New("the held volumes are not known yet")
	}
	return nil
}

// firstFill fills the index once all caches have synced.
type firstFill struct {
	index   *index
	volumes *volumes
	cache   interface {
		WaitForCacheSync(ctx context.Context) bool
	}
}

// Start fills the index and returns.
func (f *firstFill) Start(ctx context.Context) error {
	if !f.cache.WaitForCacheSync(ctx) || !f.volumes.waitForSync(ctx) {
		return nil // the manager is stopping
	}
	if err := f.index.fill(ctx); err != nil {
		return fmt.Errorf("filling the index of held volumes: %w", err)
	}
	return nil
}

// NeedLeaderElection is false: every replica admits pods.
func (f *firstFill) NeedLeaderElection() bool { return false }
