package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rbd-rescue/rbd-rescue/api/v1alpha1"
	"github.com/rbd-rescue/rbd-rescue/cmd/rbd-rescue/config"
	"github.com/rbd-rescue/rbd-rescue/e2e/lab"
	"github.com/rbd-rescue/rbd-rescue/remediator/plan"
)

// The release is upgraded, rolled back and uninstalled while a node is fenced. Nothing is left that stops a pod; the fence stays,
// Helm says so, and the next installation lifts it.
func TestUninstallKeepsTheFence(t *testing.T) {
	s := begin(t, v1alpha1.ModeRescue)
	db := s.workload("db", "node-a", true, patience)
	s.must(s.lab.Nodes["node-a"].Kill())
	s.movesAway("node-a", db)
	fence := s.reaches("node-a", v1alpha1.PhaseRecovered)

	if _, err := s.lab.Helm(s.ctx, "install", "another", s.lab.Chart(), "--namespace=default", "--values="+filepath.Join(s.lab.Chart(), "ci", "plain-values.yaml")); err == nil ||
		!strings.Contains(err.Error(), "cannot be imported into the current release") {
		t.Errorf("a second release: %v", err)
	}
	trusted := s.webhookConfiguration().Webhooks[0].ClientConfig.CABundle
	_, err := s.lab.Rescue.Upgrade(s.ctx, "--set=settings.stuckAfter=6s", "--set=webhook.timeoutSeconds=4")
	s.must(err)
	s.expect(4, trusted)
	_, err = s.lab.Helm(s.ctx, "rollback", lab.Release)
	s.must(err)
	s.expect(3, trusted)

	out, err := s.lab.Helm(s.ctx, "uninstall", lab.Release)
	s.must(err)
	if !strings.Contains(out, "kept due to the resource policy") || !strings.Contains(out, "nodefences.rbd-rescue.io") {
		t.Errorf("helm uninstall does not say what it keeps: %s", out)
	}
	s.must(s.lab.Rescue.KillWebhook())
	s.must(s.lab.Rescue.KillRemediator())
	s.nothingInTheWay()
	kept := &v1alpha1.NodeFence{}
	s.must(s.lab.Client.Get(s.ctx, client.ObjectKeyFromObject(fence), kept))
	if kept.UID != fence.UID || kept.DeletionTimestamp != nil || len(kept.Finalizers) == 0 {
		t.Errorf("the NodeFence is not as it was: %+v", kept.ObjectMeta)
	}
	listed, err := s.lab.Ceph.Blocklist(s.ctx)
	s.must(err)
	for _, cut := range fence.Status.Clients {
		if !slices.Contains(listed, cut.Address) {
			t.Errorf("%s is not cut off any more: %v", cut.Address, listed)
		}
	}

	out, err = s.lab.Rescue.Install(s.ctx)
	s.must(err)
	if !strings.Contains(out, "kubectl annotate namespace NAMESPACE rbd-rescue.io/mode=rescue") || strings.Contains(out, "waits for Secret") {
		t.Errorf("the notes do not say what is next: %s", out)
	}
	s.must(s.lab.Rescue.StartWebhook(s.ctx))
	s.must(s.lab.Rescue.StartRemediator(s.ctx))
	s.must(s.lab.Nodes["node-a"].Reboot(s.ctx))
	s.reaches("node-a", v1alpha1.PhaseLifted)
	s.proveData(db)
}

func (s *scenario) webhookConfiguration() *admissionv1.MutatingWebhookConfiguration {
	s.Helper()
	configuration := &admissionv1.MutatingWebhookConfiguration{}
	s.must(s.lab.Client.Get(s.ctx, client.ObjectKey{Name: "rbd-rescue-webhook"}, configuration))
	return configuration
}

// expect looks at a webhook configuration after Helm has written it: what rbd-rescue has written into it stays.
func (s *scenario) expect(timeoutSeconds int32, trusted []byte) {
	s.Helper()
	webhook := s.webhookConfiguration().Webhooks[0]
	if *webhook.TimeoutSeconds != timeoutSeconds {
		s.Errorf("the webhook's timeout is %d s, want %d s", *webhook.TimeoutSeconds, timeoutSeconds)
	}
	if !bytes.Equal(webhook.ClientConfig.CABundle, trusted) {
		s.Error("Helm took the CA from the webhook configuration")
	}
}

// nothingInTheWay: without rbd-rescue there is nothing of it that is called when a pod is made, and no right of it.
func (s *scenario) nothingInTheWay() {
	s.Helper()
	var mutating admissionv1.MutatingWebhookConfigurationList
	var validating admissionv1.ValidatingWebhookConfigurationList
	var policies admissionv1.ValidatingAdmissionPolicyList
	var roles rbacv1.ClusterRoleList
	for _, list := range []client.ObjectList{&mutating, &validating, &policies, &roles} {
		s.must(s.lab.Client.List(s.ctx, list, client.MatchingLabels{"app.kubernetes.io/name": "rbd-rescue"}))
	}
	if n := len(mutating.Items) + len(validating.Items) + len(policies.Items) + len(roles.Items); n > 0 {
		s.Errorf("%d of rbd-rescue's objects are left: %v %v %v %v", n, mutating.Items, validating.Items, policies.Items, roles.Items)
	}
	s.must(s.lab.Client.Create(s.ctx, podWithClaim(s.namespace), client.DryRunAll))
}

// podWithClaim is a pod that the webhook is called for.
func podWithClaim(namespace string) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "with-a-claim"},
		Spec: corev1.PodSpec{
			Containers: []corev1.Container{{Name: "c", Image: "none"}},
			Volumes: []corev1.Volume{{Name: "data", VolumeSource: corev1.VolumeSource{
				PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: "db"},
			}}},
		},
	}
}

// Everything that the chart's examples render is taken by the API server as it stands, in a namespace that admits restricted pods
// alone, and the remediator takes its file.
func TestEveryExampleOfTheChartIsAccepted(t *testing.T) {
	only(t, beside)
	t.Parallel()
	strict := newStrictClient(t)
	files, err := filepath.Glob(filepath.Join(shared.Chart(), "ci", "*-values.yaml"))
	if err != nil || len(files) == 0 {
		t.Fatalf("the chart has no examples: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), "-values.yaml"), func(t *testing.T) {
			objects := render(t, file)
			if problems := strict.apply(t, objects); problems != nil {
				t.Error(problems)
			}
			configuration := configurationIn(t, objects)
			if filepath.Base(file) == "rook-values.yaml" && configuration.Settings() != plan.DefaultSettings() {
				t.Errorf("the chart's settings are %+v, and the remediator's own %+v", configuration.Settings(), plan.DefaultSettings())
			}
		})
	}
	rook := filepath.Join(shared.Chart(), "ci", "rook-values.yaml")
	for name, test := range map[string]struct{ set, want string }{
		"a pod that may do more": {"securityContext.allowPrivilegeEscalation=true", "would violate PodSecurity"},
		"a field that is none":   {"webhook.objectSelector.matchExpressions[0].keys=a", "unknown field"},
		"CEL that is none":       {`webhook.matchConditions[0].name=x,webhook.matchConditions[0].expression=1 +`, "Syntax error"},
	} {
		t.Run("notices "+name, func(t *testing.T) {
			if problems := strict.apply(t, render(t, rook, "--set="+test.set)); problems == nil || !strings.Contains(problems.Error(), test.want) {
				t.Errorf("got %v, want %q in it", problems, test.want)
			}
		})
	}
}

// strictClient applies nothing: it asks the API server whether it would, and takes a warning for a refusal.
type strictClient struct {
	client.Client
	mu       sync.Mutex
	warnings []string
}

func newStrictClient(t *testing.T) *strictClient {
	t.Helper()
	s := &strictClient{}
	config := shared.Kube.RESTConfig()
	config.WarningHandlerWithContext = s
	var err error
	if s.Client, err = client.New(config, client.Options{}); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"examples", "rook-ceph", "ceph-csi"} {
		namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: lab.Restricted}}
		if err := shared.Client.Create(t.Context(), namespace); client.IgnoreAlreadyExists(err) != nil {
			t.Fatal(err)
		}
	}
	if err := shared.InstallCertManager(t.Context()); err != nil {
		t.Fatal(err)
	}
	return s
}

// HandleWarningHeaderWithContext keeps a warning.
func (s *strictClient) HandleWarningHeaderWithContext(_ context.Context, _ int, _, text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.warnings = append(s.warnings, text)
}

func (s *strictClient) apply(t *testing.T, objects []*unstructured.Unstructured) error {
	t.Helper()
	s.warnings = nil
	var problems []error
	for _, object := range objects {
		before := len(s.warnings)
		if err := s.write(t.Context(), object); err != nil {
			problems = append(problems, fmt.Errorf("%s %s: %w", object.GetKind(), object.GetName(), err))
		}
		if object.GetKind() == "DaemonSet" { // the agents are root on their machines: they need a namespace that admits them (docs/node.md)
			s.warnings = append(s.warnings[:before], slices.DeleteFunc(s.warnings[before:], func(w string) bool {
				return strings.Contains(w, "would violate PodSecurity")
			})...)
		}
	}
	for _, warning := range s.warnings {
		problems = append(problems, errors.New(warning))
	}
	return errors.Join(problems...)
}

// write makes an object, or replaces the lab's own of that name, in a dry run.
func (s *strictClient) write(ctx context.Context, object *unstructured.Unstructured) error {
	strict := client.FieldValidation(metav1.FieldValidationStrict)
	err := s.Create(ctx, object.DeepCopy(), client.DryRunAll, strict)
	if !apierrors.IsAlreadyExists(err) {
		return err
	}
	live := object.DeepCopy()
	if err := s.Get(ctx, client.ObjectKeyFromObject(object), live); err != nil {
		return err
	}
	object.SetResourceVersion(live.GetResourceVersion())
	return s.Update(ctx, object, client.DryRunAll, strict)
}

// render renders the chart with a file of values, into a namespace of its own.
func render(t *testing.T, values string, args ...string) []*unstructured.Unstructured {
	t.Helper()
	out, err := shared.Helm(t.Context(), append([]string{"template", lab.Release, shared.Chart(), "--namespace=examples", "--kube-version=1.37.0", "--values=" + values}, args...)...)
	if err != nil {
		t.Fatal(err)
	}
	return decode(t, out)
}

func decode(t *testing.T, text string) []*unstructured.Unstructured {
	t.Helper()
	var objects []*unstructured.Unstructured
	decoder := utilyaml.NewYAMLOrJSONDecoder(strings.NewReader(text), 4096)
	for {
		object := &unstructured.Unstructured{}
		err := decoder.Decode(object)
		if errors.Is(err, io.EOF) {
			return objects
		}
		if err != nil {
			t.Fatal(err)
		}
		if object.Object != nil {
			objects = append(objects, object)
		}
	}
}

func configurationIn(t *testing.T, objects []*unstructured.Unstructured) *config.Configuration {
	t.Helper()
	for _, object := range objects {
		if object.GetKind() == "ConfigMap" && object.GetName() == "rbd-rescue-remediator" {
			text, _, err := unstructured.NestedString(object.Object, "data", "config.yaml")
			if err != nil {
				t.Fatal(err)
			}
			configuration, err := config.Parse([]byte(text))
			if err != nil {
				t.Fatalf("the remediator does not take its file: %v", err)
			}
			return configuration
		}
	}
	t.Fatal("there is no file for the remediator")
	return nil
}
