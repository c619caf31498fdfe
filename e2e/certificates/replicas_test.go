package certificates

import (
	"context"
	"fmt"
	"path/filepath"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rbd-rescue/rbd-rescue/e2e/lab/process"
)

// ports of the two replicas; the webhook listens on every address, and the lab's own has 9443.
var ports = [2]int{9463, 9464}

const caSecret = "rbd-rescue-webhook-ca"

// startReplicas runs the webhook twice with its own token, so under its own rights and restraints, until both are called. They are
// killed after the test, and the next one makes a new CA.
func startReplicas(t *testing.T, flags ...string) (replicas []*process.Process) {
	t.Helper()
	t.Cleanup(func() { deleteSecret(context.WithoutCancel(t.Context()), t) })
	for i := range ports {
		replicas = append(replicas, startReplica(t, i, flags...))
	}
	becomesCalled(t)
	return replicas
}

func startReplica(t *testing.T, i int, flags ...string) *process.Process {
	t.Helper()
	kubeconfig, err := api.KubeconfigFor(t.Context(), ownNamespace, "rbd-rescue-webhook")
	if err != nil {
		t.Fatal(err)
	}
	p, err := supervisor.Start(process.Spec{
		Name: fmt.Sprintf("rbd-rescue-webhook-%d", i), Path: filepath.Join(binaries.Dir, "rbd-rescue"),
		Args: append([]string{
			"webhook", "--kubeconfig=" + kubeconfig, "--namespace=" + ownNamespace, "--metrics-bind-address=0", "--health-probe-bind-address=0",
			fmt.Sprintf("--port=%d", ports[i]), "--ip-addresses=" + address,
		}, flags...),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Kill(); err != nil {
			t.Error(err)
		}
	})
	return p
}

func becomesCalled(t *testing.T) {
	t.Helper()
	if err := eventually(t.Context(), "both replicas are called", func(ctx context.Context) error {
		if err := podIsChanged(ctx); err != nil {
			return err
		}
		return namespaceIsRefused(ctx)
	}); err != nil {
		t.Fatalf("%v; the webhooks' logs are in %s", err, supervisor.Logs())
	}
}

func secret() *corev1.Secret {
	return &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: ownNamespace, Name: caSecret}}
}

func deleteSecret(ctx context.Context, t *testing.T) {
	t.Helper()
	if err := admin.Delete(ctx, secret()); client.IgnoreNotFound(err) != nil {
		t.Error(err)
	}
}

// currentCA is the certificate in the Secret; nil while there is none.
func currentCA(ctx context.Context) ([]byte, error) {
	s := secret()
	err := admin.Get(ctx, client.ObjectKeyFromObject(s), s)
	return s.Data["ca.crt"], client.IgnoreNotFound(err)
}
