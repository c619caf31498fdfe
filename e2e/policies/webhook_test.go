package policies

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rbd-rescue/rbd-rescue/e2e/lab/process"
)

// startWebhook runs the webhook with its own token, so under its own rights and restraints, until the API server trusts it.
func startWebhook(t *testing.T) *process.Process {
	t.Helper()
	kubeconfig, err := api.KubeconfigFor(t.Context(), ownNamespace, "rbd-rescue-webhook")
	if err != nil {
		t.Fatal(err)
	}
	p, err := supervisor.Start(process.Spec{
		Name: "rbd-rescue-webhook", Path: filepath.Join(binaries.Dir, "rbd-rescue"),
		Args: []string{
			"webhook", "--kubeconfig=" + kubeconfig, "--namespace=" + ownNamespace, "--metrics-bind-address=0",
			fmt.Sprintf("--port=%d", webhookPort), "--ip-addresses=" + address, fmt.Sprintf("--health-probe-bind-address=%s:%d", address, webhookProbes),
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	err = eventually(t.Context(), "the API server trusts the webhook", func(ctx context.Context) error {
		var mutating admissionv1.MutatingWebhookConfiguration
		var validating admissionv1.ValidatingWebhookConfiguration
		key := client.ObjectKey{Name: "rbd-rescue-webhook"}
		if err := errors.Join(users["admin"].Get(ctx, key, &mutating), users["admin"].Get(ctx, key, &validating)); err != nil {
			return err
		}
		if mutating.Webhooks[0].ClientConfig.CABundle == nil || validating.Webhooks[0].ClientConfig.CABundle == nil {
			return fmt.Errorf("no caBundle yet; the webhook's log is %s", p.Log())
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func namespace(name string, annotations map[string]string) *corev1.Namespace {
	return &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name, Annotations: annotations}}
}

func TestTheWebhookWithItsOwnRights(t *testing.T) {
	t.Parallel()
	webhook := startWebhook(t)
	const asMode = `"resuce" is not a mode: use "rescue", "observe", or remove the annotation`
	// The API server takes a moment to use what it was told to trust; until then it lets everything pass.
	err := eventually(t.Context(), "a typo is refused, and a toleration is set", func(ctx context.Context) error {
		if users["organizer"].Create(ctx, namespace("typo", map[string]string{"rbd-rescue.io/mode": "resuce"}), client.DryRunAll) == nil {
			return errors.New("the typo was allowed")
		}
		if seconds := *tolerations(ctx, t, "quick")[0].TolerationSeconds; seconds == 300 {
			return errors.New("Kubernetes' default stands")
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Run("namespaces", func(t *testing.T) {
		mistaken, plain, own := namespace("mistaken", nil), namespace("plain", nil), namespace(ownNamespace, nil)
		try(t, by([]string{"organizer", "admin"}, map[string]attempt{
			"makes one without annotations":   {do: create(namespace("new", nil))},
			"makes one that opts in":          {do: create(namespace("new", map[string]string{"rbd-rescue.io/mode": "rescue", "rbd-rescue.io/failover-after": "30s"}))},
			"makes one with a typo":           {do: create(namespace("new", map[string]string{"rbd-rescue.io/mode": "resuce"})), refused: asMode},
			"opts in with a typo":             {do: merge(plain, `{"metadata":{"annotations":{"rbd-rescue.io/mode":"resuce"}}}`), refused: asMode},
			"has a wrong time":                {do: merge(plain, `{"metadata":{"annotations":{"rbd-rescue.io/failover-after":"300"}}}`), refused: "use whole seconds from 5s to 1h"},
			"has a wrong name":                {do: merge(plain, `{"metadata":{"annotations":{"rbd-rescue.io/modus":"rescue"}}}`), refused: "did you mean rbd-rescue.io/mode?"},
			"labels one with an old mistake":  {do: merge(mistaken, `{"metadata":{"labels":{"a":"b"}}}`)},
			"takes an old mistake away":       {do: merge(mistaken, `{"metadata":{"annotations":null}}`)},
			"corrects an old mistake":         {do: merge(mistaken, `{"metadata":{"annotations":{"rbd-rescue.io/mode":"rescue"}}}`)},
			"makes another mistake":           {do: merge(mistaken, `{"metadata":{"annotations":{"rbd-rescue.io/mode":"yes"}}}`), refused: `"yes" is not a mode`},
			"deletes one with an old mistake": {do: remove(mistaken)},
			"pauses rbd-rescue":               {do: merge(own, `{"metadata":{"annotations":{"rbd-rescue.io/paused":"true"}}}`)},
		}))
	})
	t.Run("failover-after", func(t *testing.T) {
		for name, want := range map[string]int64{"quick": 30, "shop": 300} {
			for _, toleration := range tolerations(t.Context(), t, name) {
				if toleration.TolerationSeconds == nil || *toleration.TolerationSeconds != want {
					t.Errorf("a pod of %s tolerates %s for %v s, want %d", name, toleration.Key, toleration.TolerationSeconds, want)
				}
			}
		}
	})
	if err := webhook.Kill(); err != nil {
		t.Fatal(err)
	}
	t.Run("killed", func(t *testing.T) {
		begin := time.Now()
		if err := users["organizer"].Create(t.Context(), namespace("typo", map[string]string{"rbd-rescue.io/mode": "resuce"}), client.DryRunAll); err != nil {
			t.Errorf("a namespace is refused while the webhook is down: %v", err)
		}
		for _, toleration := range tolerations(t.Context(), t, "quick") {
			if *toleration.TolerationSeconds != 300 {
				t.Errorf("somebody has set %s to %d s", toleration.Key, *toleration.TolerationSeconds)
			}
		}
		if took := time.Since(begin); took > 10*time.Second {
			t.Errorf("a namespace and a pod took %s", took)
		}
	})
}

// tolerations of a new pod with a claim, as the API server would store it: two of Kubernetes' own.
func tolerations(ctx context.Context, t *testing.T, namespace string) []corev1.Toleration {
	t.Helper()
	p := pod(namespace, "failover", nil)
	if err := users["admin"].Create(ctx, p, client.DryRunAll); err != nil {
		t.Fatal(err)
	}
	if len(p.Spec.Tolerations) != 2 {
		t.Fatalf("tolerations %v, want two", p.Spec.Tolerations)
	}
	return p.Spec.Tolerations
}
