package look

import (
	"context"
	"fmt"
	"slices"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rbd-rescue/rbd-rescue/doctor"
)

// rival is a kind of custom resource whose objects have somebody fence nodes, or release what they hold.
type rival struct {
	crd string
	// acts says of an object what it does; empty if nothing.
	acts   func(*unstructured.Unstructured) string
	advice string
}

const (
	twoFences = "Let one of the two fence: the other lifts its entries by its own rules, and rbd-rescue writes its own again within a minute."
	noFence   = "Have it not act on nodes with RBD volumes, or not before rbd-rescue has fenced them: a node is released by its taint or the deletion of its pods with no proof that its writes have ended."
)

var networkFences = "networkfences.csiaddons.openshift.io"

var rivals = []rival{
	{networkFences, func(o *unstructured.Unstructured) string {
		state, _, _ := unstructured.NestedString(o.Object, "spec", "fenceState")
		cidrs, _, _ := unstructured.NestedStringSlice(o.Object, "spec", "cidrs")
		if state == "Unfenced" {
			return ""
		}
		return fmt.Sprintf("cuts off %s (csi-addons)", strings.Join(cidrs, ", "))
	}, twoFences},
	{"drivers.csi.ceph.io", func(o *unstructured.Unstructured) string {
		if enabled, _, _ := unstructured.NestedBool(o.Object, "spec", "enableFencing"); !enabled {
			return ""
		}
		return "has ceph-csi fence nodes by itself (spec.enableFencing)"
	}, twoFences},
	{"nodehealthchecks.remediation.medik8s.io", always("remediates nodes that are not Ready (medik8s)"), noFence},
	{"selfnoderemediations.self-node-remediation.medik8s.io", always("remediates a node now (medik8s)"), noFence},
	{"fenceagentsremediations.fence-agents-remediation.medik8s.io", always("remediates a node now (medik8s)"), noFence},
	{"machinedeletionremediations.machine-deletion-remediation.medik8s.io", always("deletes the machine of a node now (medik8s)"), noFence},
}

func always(what string) func(*unstructured.Unstructured) string {
	return func(*unstructured.Unstructured) string { return what }
}

// operators are known by their images.
var operators = []struct{ image, what, advice string }{
	{"kube-fencing", "fences nodes and deletes what runs there", noFence},
	{"openstorage/stork", "deletes pods and VolumeAttachments of nodes that are offline, whatever their driver (health-monitor)", "Start Stork with --health-monitor=false: it waits for no fence."},
	{"self-node-remediation", "restarts its node, or releases what that holds, when the node is remediated (medik8s)", noFence},
}

// actors looks for custom resources, workloads and settings of others.
func (p Person) actors(ctx context.Context, f *doctor.Outside) error {
	installed := map[string]*apiextensionsv1.CustomResourceDefinition{}
	for _, r := range rivals {
		crd := &apiextensionsv1.CustomResourceDefinition{}
		there, err := get(ctx, p.Client, "", r.crd, crd)
		if err != nil {
			return err
		}
		if !there {
			continue
		}
		installed[r.crd] = crd
		if err := p.customResources(ctx, f, crd, r); err != nil {
			return err
		}
	}
	if err := p.workloads(ctx, f); err != nil {
		return err
	}
	if installed[networkFences] == nil {
		return nil
	}
	return p.rook(ctx, f)
}

func (p Person) customResources(ctx context.Context, f *doctor.Outside, crd *apiextensionsv1.CustomResourceDefinition, r rival) error {
	list := &unstructured.UnstructuredList{}
	for _, version := range crd.Spec.Versions {
		if version.Served {
			list.SetGroupVersionKind(schemaKind(crd.Spec.Group+"/"+version.Name, crd.Spec.Names.Kind+"List"))
		}
	}
	_, err := eachObject(ctx, p.Client, list, func(o client.Object) {
		if what := r.acts(o.(*unstructured.Unstructured)); what != "" {
			name := strings.TrimPrefix(o.GetNamespace()+"/"+o.GetName(), "/")
			f.Actors = append(f.Actors, doctor.Actor{What: fmt.Sprintf("%s %s %s", crd.Spec.Names.Kind, name, what), Advice: r.advice})
		}
	})
	return err
}

// workloads looks at the containers of everybody's Deployments and DaemonSets.
func (p Person) workloads(ctx context.Context, f *doctor.Outside) error {
	see := func(kind string, o client.Object, pod corev1.PodSpec) {
		name := fmt.Sprintf("%s %s/%s", kind, o.GetNamespace(), o.GetName())
		for _, c := range pod.Containers {
			if fences(c) {
				f.Actors = append(f.Actors, doctor.Actor{What: name + " fences nodes by itself (ceph-csi, --enable-fencing)", Advice: twoFences})
			}
			for _, known := range operators {
				if strings.Contains(c.Image, known.image) {
					f.Actors = append(f.Actors, doctor.Actor{What: name + " " + known.what, Advice: known.advice})
				}
			}
		}
	}
	if _, err := eachObject(ctx, p.Client, &appsv1.DeploymentList{}, func(o client.Object) {
		see("Deployment", o, o.(*appsv1.Deployment).Spec.Template.Spec)
	}); err != nil {
		return err
	}
	_, err := eachObject(ctx, p.Client, &appsv1.DaemonSetList{}, func(o client.Object) {
		see("DaemonSet", o, o.(*appsv1.DaemonSet).Spec.Template.Spec)
	})
	return err
}

func fences(c corev1.Container) bool {
	return slices.ContainsFunc(slices.Concat(c.Command, c.Args), func(arg string) bool {
		flag, value, given := strings.Cut(strings.TrimLeft(arg, "-"), "=")
		return flag == "enable-fencing" && strings.HasPrefix(arg, "-") && (!given || value == "true")
	})
}

// rook fences a node that is tainted as out of service, with a NetworkFence, unless it is told not to.
func (p Person) rook(ctx context.Context, f *doctor.Outside) error {
	const setting = "ROOK_WATCH_FOR_NODE_FAILURE"
	var settings corev1.ConfigMapList
	if err := p.Client.List(ctx, &settings, client.MatchingFields{"metadata.name": "rook-ceph-operator-config"}); err != nil {
		return fmt.Errorf("listing the settings of Rook: %w", err)
	}
	for _, s := range settings.Items {
		if s.Data[setting] != "false" {
			f.Actors = append(f.Actors, doctor.Actor{
				What:   fmt.Sprintf("Rook's operator in namespace %s fences a node that is tainted out-of-service, by a NetworkFence of its own", s.Namespace),
				Advice: fmt.Sprintf("%s To leave it to rbd-rescue: kubectl -n %s patch configmap %s --type merge -p '{\"data\":{\"%s\":\"false\"}}'.", twoFences, s.Namespace, s.Name, setting),
			})
		}
	}
	return nil
}
