// Package certificates tries the webhook's own certificates against a real API server: they are renewed and replaced while pods are
// created all the time, and where they are broken, or no webhook is left, pods are created all the same.
package certificates

import (
	"context"
	"errors"
	"fmt"
	"os"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/wait"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rbd-rescue/rbd-rescue/api/v1alpha1"
	"github.com/rbd-rescue/rbd-rescue/e2e/lab/apiserver"
	"github.com/rbd-rescue/rbd-rescue/e2e/lab/build"
	"github.com/rbd-rescue/rbd-rescue/e2e/lab/chart"
	"github.com/rbd-rescue/rbd-rescue/e2e/lab/kube"
	"github.com/rbd-rescue/rbd-rescue/e2e/lab/process"
)

const (
	// dir is short: see kube.Options.
	dir = "/run/rbdlab-certificates"
	// address is the loopback interface's, and nobody else's in the lab, so that these tests run beside it.
	address = "127.0.68.1"

	ownNamespace = "rbd-rescue"
	// shop has opted in, with failoverAfter: a pod of it shows by its tolerations whether the webhook was asked.
	shop          = "shop"
	failoverAfter = 30
)

var (
	api        *kube.ControlPlane
	binaries   build.Binaries
	supervisor *process.Supervisor
	admin      client.Client
)

func TestMain(m *testing.M) {
	os.Exit(apiserver.Run(m, dir, address, "the webhook's own certificates are", prepare))
}

func prepare(ctx context.Context, lab apiserver.Lab) (err error) {
	api, binaries, supervisor = lab.API, lab.Binaries, lab.Supervisor
	config, scheme := api.RESTConfig(), runtime.NewScheme()
	config.QPS = -1
	if err := clientgoscheme.AddToScheme(scheme); err != nil {
		return err
	}
	if admin, err = client.New(config, client.Options{Scheme: scheme}); err != nil {
		return err
	}
	return install(ctx)
}

// install makes what the chart has. Pods are asked about at the first replica and namespaces at the second: no Service routes here.
func install(ctx context.Context) error {
	optedIn := map[string]string{v1alpha1.AnnotationMode: "rescue", v1alpha1.AnnotationFailoverAfter: fmt.Sprintf("%ds", failoverAfter)}
	for name, annotations := range map[string]map[string]string{ownNamespace: nil, shop: optedIn} {
		namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name, Annotations: annotations}}
		account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: name, Name: "default"}} // else no pod can be made
		if err := errors.Join(admin.Create(ctx, namespace), admin.Create(ctx, account)); err != nil {
			return err
		}
	}
	if err := chart.Install(ctx, admin, binaries, ownNamespace, fmt.Sprintf("https://%s:%d", address, ports[0])); err != nil {
		return err
	}
	return changeConfigurations(ctx, func(c configurations) {
		*c.validating.Webhooks[0].ClientConfig.URL = fmt.Sprintf("https://%s:%d/validate-v1-namespace", address, ports[1])
	})
}

func eventually(ctx context.Context, what string, check func(context.Context) error) error {
	var last error
	err := wait.PollUntilContextTimeout(ctx, 50*time.Millisecond, 3*time.Minute, true, func(ctx context.Context) (bool, error) {
		last = check(ctx)
		return last == nil, nil
	})
	if err != nil {
		return fmt.Errorf("waiting until %s: %w", what, errors.Join(last, err))
	}
	return nil
}
