// Package policies tries what the chart's admission policies, the CRD's own rules and the webhook of namespaces allow and refuse,
// against a real API server: as tenants, administrators, kubelets, and with the tokens of rbd-rescue's own ServiceAccounts.
package policies

import (
	"context"
	"errors"
	"fmt"
	"os"
	"testing"
	"time"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/wait"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
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
	dir = "/run/rbdlab-policies"
	// address is the loopback interface's, and nobody else's in the lab, so that these tests run beside it.
	address = "127.0.66.1"

	webhookPort, webhookProbes = 9443, 9082

	ownNamespace = "rbd-rescue"
)

// users of the API, by name.
var users map[string]client.Client

// api is the API server of all tests, and supervisor what else runs beside it.
var (
	api        *kube.ControlPlane
	binaries   build.Binaries
	supervisor *process.Supervisor
)

func TestMain(m *testing.M) {
	os.Exit(apiserver.Run(m, dir, address, "the admission policies are", prepare))
}

func prepare(ctx context.Context, lab apiserver.Lab) error {
	api, binaries, supervisor = lab.API, lab.Binaries, lab.Supervisor
	admin, err := clientOf(api.RESTConfig())
	if err != nil {
		return err
	}
	users = map[string]client.Client{"admin": admin}
	for _, step := range []func(context.Context, client.Client) error{install, makePeople, makeTokens, policiesHold} {
		if err := step(ctx, admin); err != nil {
			return err
		}
	}
	return nil
}

func clientOf(config *rest.Config) (client.Client, error) {
	config.QPS = -1
	scheme := runtime.NewScheme()
	if err := errors.Join(clientgoscheme.AddToScheme(scheme), v1alpha1.AddToScheme(scheme)); err != nil {
		return nil, err
	}
	return client.New(config, client.Options{Scheme: scheme})
}

// install makes what the chart has, but for what runs containers and routes to them.
func install(ctx context.Context, admin client.Client) error {
	for name, annotations := range map[string]map[string]string{
		ownNamespace: nil, "plain": nil, "watched": {v1alpha1.AnnotationMode: "observe"}, "shop": {v1alpha1.AnnotationMode: "rescue"},
		"quick": {v1alpha1.AnnotationMode: "rescue", v1alpha1.AnnotationFailoverAfter: "30s"}, "mistaken": {v1alpha1.AnnotationMode: "resuce"},
	} {
		namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name, Annotations: annotations}}
		account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: name, Name: "default"}} // else no pod can be made
		if err := errors.Join(admin.Create(ctx, namespace), admin.Create(ctx, account)); err != nil {
			return err
		}
	}
	url := fmt.Sprintf("https://%s:%d", address, webhookPort)
	if err := chart.Install(ctx, admin, binaries, ownNamespace, url, "--set", "node.enabled=true"); err != nil {
		return err
	}
	return eventually(ctx, "NodeFences are served", func(ctx context.Context) error { return admin.List(ctx, &v1alpha1.NodeFenceList{}) })
}

// makePeople are those who share a cluster with rbd-rescue: nobody here has more than the rights that are named.
func makePeople(ctx context.Context, admin client.Client) error {
	all := func(group string, resources ...string) rbacv1.PolicyRule {
		return rbacv1.PolicyRule{APIGroups: []string{group}, Resources: resources, Verbs: []string{"*"}}
	}
	for name, rules := range map[string][]rbacv1.PolicyRule{
		"owner": {all("", "pods", "pods/status", "pods/eviction")},
		"operator": {all("", "nodes", "nodes/status", "persistentvolumes", "persistentvolumes/status"), all("rbd-rescue.io", "nodefences/status"),
			{APIGroups: []string{"rbd-rescue.io"}, Resources: []string{"nodefences"}, Verbs: []string{"get", "list", "create", "update", "patch", "delete"}}},
		"namespaces": {all("", "namespaces", "namespaces/finalize")},
	} {
		if err := admin.Create(ctx, &rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: name}, Rules: rules}); err != nil {
			return err
		}
	}
	for _, grant := range []struct{ user, role, namespace string }{
		{"tenant", "owner", "shop"},
		{"opener", "owner", "shop"}, {"opener", "rbd-rescue-override", "shop"},
		{"operator", "operator", ""},
		{"overrider", "operator", ""}, {"overrider", "owner", "shop"}, {"overrider", "rbd-rescue-override", ""},
		{"organizer", "namespaces", ""},
	} {
		meta := metav1.ObjectMeta{Name: grant.user + "-" + grant.role, Namespace: grant.namespace}
		subjects := []rbacv1.Subject{{Kind: "User", Name: grant.user, APIGroup: rbacv1.GroupName}}
		role := rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: grant.role}
		var binding client.Object = &rbacv1.ClusterRoleBinding{ObjectMeta: meta, Subjects: subjects, RoleRef: role}
		if grant.namespace != "" {
			binding = &rbacv1.RoleBinding{ObjectMeta: meta, Subjects: subjects, RoleRef: role}
		}
		if err := admin.Create(ctx, binding); err != nil {
			return err
		}
	}
	for user, groups := range map[string][]string{
		"tenant": nil, "opener": nil, "operator": nil, "overrider": nil, "organizer": nil, "system:node:node-a": {"system:nodes"},
	} {
		config := api.RESTConfig()
		config.Impersonate = rest.ImpersonationConfig{UserName: user, Groups: append(groups, "system:authenticated")}
		var err error
		if users[user], err = clientOf(config); err != nil {
			return err
		}
	}
	return nil
}

// agentNode is where the agent runs whose token is "agent"'s.
const agentNode = "node-agent"

// makeTokens are those of rbd-rescue's own ServiceAccounts, as its pods have them; "anywhere" is an agent whose token names no node.
func makeTokens(ctx context.Context, admin client.Client) error {
	if err := admin.Create(ctx, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: agentNode}}); err != nil {
		return err
	}
	for user, kubeconfig := range map[string]func() (string, error){
		"remediator": func() (string, error) { return api.KubeconfigFor(ctx, ownNamespace, "rbd-rescue-remediator") },
		"webhook":    func() (string, error) { return api.KubeconfigFor(ctx, ownNamespace, "rbd-rescue-webhook") },
		"anywhere":   func() (string, error) { return api.KubeconfigFor(ctx, ownNamespace, "rbd-rescue-node") },
		"agent":      func() (string, error) { return api.KubeconfigOnNode(ctx, ownNamespace, "rbd-rescue-node", agentNode) },
	} {
		path, err := kubeconfig()
		if err != nil {
			return err
		}
		config, err := clientcmd.BuildConfigFromFlags("", path)
		if err != nil {
			return err
		}
		if users[user], err = clientOf(config); err != nil {
			return err
		}
	}
	return nil
}

// policiesHold waits until the API server has heard of all policies: of the one that is made last.
func policiesHold(ctx context.Context, admin client.Client) error {
	meta := metav1.ObjectMeta{Name: "last"}
	policy := &admissionv1.ValidatingAdmissionPolicy{ObjectMeta: meta, Spec: admissionv1.ValidatingAdmissionPolicySpec{
		MatchConstraints: &admissionv1.MatchResources{ResourceRules: []admissionv1.NamedRuleWithOperations{{RuleWithOperations: admissionv1.RuleWithOperations{
			Operations: []admissionv1.OperationType{admissionv1.Create},
			Rule:       admissionv1.Rule{APIGroups: []string{""}, APIVersions: []string{"v1"}, Resources: []string{"configmaps"}},
		}}}},
		Validations: []admissionv1.Validation{{Expression: "object.metadata.name != 'last'", Message: "the policies hold"}},
	}}
	binding := &admissionv1.ValidatingAdmissionPolicyBinding{ObjectMeta: meta, Spec: admissionv1.ValidatingAdmissionPolicyBindingSpec{
		PolicyName: policy.Name, ValidationActions: []admissionv1.ValidationAction{admissionv1.Deny},
	}}
	if err := errors.Join(admin.Create(ctx, policy), admin.Create(ctx, binding)); err != nil {
		return err
	}
	return eventually(ctx, "the policies hold", func(ctx context.Context) error {
		err := admin.Create(ctx, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "plain", Name: "last"}}, client.DryRunAll)
		if apierrors.IsInvalid(err) {
			return nil
		}
		return fmt.Errorf("answer: %w", err)
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
