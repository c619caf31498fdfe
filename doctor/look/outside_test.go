package look

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/rbd-rescue/rbd-rescue/doctor"
)

func person(t *testing.T, objects []client.Object, funcs interceptor.Funcs) Person {
	t.Helper()
	scheme := runtime.NewScheme()
	if err := errors.Join(clientgoscheme.AddToScheme(scheme), apiextensionsv1.AddToScheme(scheme)); err != nil {
		t.Fatal(err)
	}
	builder := fake.NewClientBuilder().WithScheme(scheme)
	for _, object := range objects {
		builder.WithObjects(object.DeepCopyObject().(client.Object)) // the fake writes to what it is given, and tests share theirs
		if u, is := object.(*unstructured.Unstructured); is {
			kind := u.GroupVersionKind()
			scheme.AddKnownTypeWithName(kind, &unstructured.Unstructured{})
			scheme.AddKnownTypeWithName(kind.GroupVersion().WithKind(kind.Kind+"List"), &unstructured.UnstructuredList{})
		}
	}
	server := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(server.Close)
	return Person{
		Client: builder.
			WithIndex(&corev1.ConfigMap{}, "metadata.name", func(o client.Object) []string { return []string{o.GetName()} }). // as the API server has it
			WithInterceptorFuncs(funcs).Build(),
		REST: &rest.Config{Host: server.URL}, Namespace: "rbd-rescue", Version: "development",
	}
}

func crd(name, group, version, kind string) *apiextensionsv1.CustomResourceDefinition {
	return &apiextensionsv1.CustomResourceDefinition{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: apiextensionsv1.CustomResourceDefinitionSpec{
			Group: group, Names: apiextensionsv1.CustomResourceDefinitionNames{Kind: kind},
			Versions: []apiextensionsv1.CustomResourceDefinitionVersion{{Name: version, Served: true}},
		},
	}
}

func custom(apiVersion, kind, name string, spec map[string]any) *unstructured.Unstructured {
	return &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": apiVersion, "kind": kind, "metadata": map[string]any{"name": name}, "spec": spec,
	}}
}

func runs(kind client.Object, name, image string, args ...string) client.Object {
	template := corev1.PodTemplateSpec{Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: image, Args: args}}}}
	meta := metav1.ObjectMeta{Namespace: "storage", Name: name}
	switch kind.(type) {
	case *appsv1.DaemonSet:
		return &appsv1.DaemonSet{ObjectMeta: meta, Spec: appsv1.DaemonSetSpec{Template: template}}
	default:
		return &appsv1.Deployment{ObjectMeta: meta, Spec: appsv1.DeploymentSpec{Template: template}}
	}
}

func TestOtherActorsAreFound(t *testing.T) {
	t.Parallel()
	fences := crd("networkfences.csiaddons.openshift.io", "csiaddons.openshift.io", "v1alpha1", "NetworkFence")
	health := crd("nodehealthchecks.remediation.medik8s.io", "remediation.medik8s.io", "v1alpha1", "NodeHealthCheck")
	drivers := crd("drivers.csi.ceph.io", "csi.ceph.io", "v1", "Driver")
	rook := func(data map[string]string) *corev1.ConfigMap {
		return &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "rook-ceph", Name: "rook-ceph-operator-config"}, Data: data}
	}
	for name, test := range map[string]struct {
		objects []client.Object
		want    []string
	}{
		"nobody": {},
		"ceph-csi that fences": {
			[]client.Object{runs(&appsv1.DaemonSet{}, "csi-rbdplugin", "cephcsi:3", "--nodeserver=true", "--enable-fencing"), runs(&appsv1.Deployment{}, "provisioner", "cephcsi:3", "--enable-fencing=true")},
			[]string{"Deployment storage/provisioner fences nodes by itself (ceph-csi, --enable-fencing)", "DaemonSet storage/csi-rbdplugin fences nodes by itself (ceph-csi, --enable-fencing)"},
		},
		"ceph-csi that does not": {[]client.Object{runs(&appsv1.Deployment{}, "provisioner", "cephcsi:3", "--enable-fencing=false")}, nil},
		"the ceph-csi operator, told to fence": {
			[]client.Object{drivers, custom("csi.ceph.io/v1", "Driver", "rbd", map[string]any{"enableFencing": true}), custom("csi.ceph.io/v1", "Driver", "other", map[string]any{})},
			[]string{"Driver rbd has ceph-csi fence nodes by itself (spec.enableFencing)"},
		},
		"a NetworkFence, and one that is lifted": {
			[]client.Object{
				fences, custom("csiaddons.openshift.io/v1alpha1", "NetworkFence", "on", map[string]any{"fenceState": "Fenced", "cidrs": []any{"10.0.0.5/32"}}),
				custom("csiaddons.openshift.io/v1alpha1", "NetworkFence", "off", map[string]any{"fenceState": "Unfenced"}),
			},
			[]string{"NetworkFence on cuts off 10.0.0.5/32 (csi-addons)"},
		},
		"Rook, which makes NetworkFences": {
			[]client.Object{fences, rook(nil)},
			[]string{"Rook's operator in namespace rook-ceph fences a node that is tainted out-of-service, by a NetworkFence of its own"},
		},
		"Rook, told not to":          {[]client.Object{fences, rook(map[string]string{"ROOK_WATCH_FOR_NODE_FAILURE": "false"})}, nil},
		"Rook, where there are none": {[]client.Object{rook(nil)}, nil},
		"medik8s": {
			[]client.Object{health, custom("remediation.medik8s.io/v1alpha1", "NodeHealthCheck", "workers", map[string]any{})},
			[]string{"NodeHealthCheck workers remediates nodes that are not Ready (medik8s)"},
		},
		"medik8s, installed and not used": {[]client.Object{health}, nil},
		"Stork": {
			[]client.Object{runs(&appsv1.Deployment{}, "stork", "docker.io/openstorage/stork:2")},
			[]string{"Deployment storage/stork deletes pods and VolumeAttachments of nodes that are offline, whatever their driver (health-monitor)"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := person(t, test.objects, interceptor.Funcs{}).Look(t.Context())
			if err := f.Unread[doctor.CheckOtherActors]; err != nil {
				t.Fatal(err)
			}
			var found []string
			for _, actor := range f.Actors {
				found = append(found, actor.What)
				if actor.Advice == "" {
					t.Errorf("no advice about %s", actor.What)
				}
			}
			if diff := cmp.Diff(test.want, found); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestWhoReachesTheWebhookIsToldByADryRun(t *testing.T) {
	t.Parallel()
	namespaces := schema.GroupResource{Resource: "namespaces"}
	for name, test := range map[string]struct {
		answer       error
		called, told bool
	}{
		"it is refused by the webhook": {
			answer: apierrors.NewForbidden(namespaces, "x", errors.New(`admission webhook "namespaces.rbd-rescue.io" denied the request: "tried-by-doctor" is not a mode`)), called: true, told: true,
		},
		"it passes: the webhook was not reached": {told: true},
		"the webhook was not reached, and is not to be passed by": {
			answer: apierrors.NewInternalError(errors.New(`failed calling webhook "namespaces.rbd-rescue.io": connection refused`)), told: true,
		},
		"the person may not":              {answer: apierrors.NewForbidden(namespaces, "x", errors.New(`User "jane" cannot create resource "namespaces"`))},
		"another webhook minds a dry run": {answer: apierrors.NewBadRequest("admission webhook \"other\" does not support dry run")},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := person(t, nil, interceptor.Funcs{Create: func(_ context.Context, _ client.WithWatch, _ client.Object, options ...client.CreateOption) error {
				o := client.CreateOptions{}
				o.ApplyOptions(options)
				if len(o.DryRun) != 1 || o.DryRun[0] != metav1.DryRunAll {
					return fmt.Errorf("no dry run: %v", o)
				}
				return test.answer
			}})
			called, err := p.try(t.Context(), "namespaces.rbd-rescue.io")
			if called != test.called || (err == nil) != test.told {
				t.Errorf("called %v, error %v", called, err)
			}
		})
	}
}

func TestWhatAPersonMayNotReadIsToldByCheck(t *testing.T) {
	t.Parallel()
	refused := apierrors.NewForbidden(schema.GroupResource{Resource: "deployments"}, "", errors.New("no"))
	f := person(t, nil, interceptor.Funcs{Get: func(ctx context.Context, c client.WithWatch, key client.ObjectKey, object client.Object, options ...client.GetOption) error {
		if _, is := object.(*appsv1.Deployment); is {
			return refused
		}
		return c.Get(ctx, key, object, options...)
	}}).Look(t.Context())
	for _, check := range doctor.Checks {
		_, unread := f.Unread[check]
		if want := check == doctor.CheckReplicas || check == doctor.CheckVersions; unread != want {
			t.Errorf("%s is unread: %v (%v)", check, unread, f.Unread[check])
		}
	}
}
