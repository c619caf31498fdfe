package observe

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// pagedReader is an API that gives pods one at a time, and counts how often it is asked.
type pagedReader struct {
	client.Reader
	pods  []corev1.Pod
	asked int
}

func (p *pagedReader) List(_ context.Context, into client.ObjectList, options ...client.ListOption) error {
	p.asked++
	asked := client.ListOptions{}
	asked.ApplyOptions(options)
	if asked.Limit == 0 || asked.FieldSelector != nil || asked.Namespace != "" {
		return fmt.Errorf("asked for %+v", asked)
	}
	list, at := into.(*corev1.PodList), 0
	if asked.Continue != "" {
		if _, err := fmt.Sscan(asked.Continue, &at); err != nil {
			return err
		}
	}
	list.Items = []corev1.Pod{p.pods[at]}
	if at+1 < len(p.pods) {
		list.Continue = fmt.Sprint(at + 1)
	}
	return nil
}

func TestListedAnswersAsACacheDoesFromOneList(t *testing.T) {
	t.Parallel()
	other := *userOn("node-a", "b-0", corev1.PodRunning)
	other.Namespace = "web"
	unkept := *userOn("node-a", "unkept", corev1.PodRunning)
	from := &pagedReader{pods: []corev1.Pod{*userOn("node-a", "c-0", corev1.PodRunning), *userOn("node-b", "a-0", corev1.PodRunning), other, unkept}}
	listed, err := NewListed(t.Context(), from, func(o client.Object) client.Object {
		if o.GetName() == "unkept" {
			return nil
		}
		return o
	})
	if err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		options []client.ListOption
		want    []string
	}{
		"all":                       {nil, []string{"shop/a-0", "shop/c-0", "web/b-0"}},
		"by index":                  {[]client.ListOption{client.MatchingFields{indexPodNode: "node-a"}}, []string{"shop/c-0", "web/b-0"}},
		"by namespace":              {[]client.ListOption{client.InNamespace("web")}, []string{"web/b-0"}},
		"by index and by namespace": {[]client.ListOption{client.InNamespace("shop"), client.MatchingFields{indexPodClaim: "data"}}, []string{"shop/a-0", "shop/c-0"}},
		"nothing":                   {[]client.ListOption{client.MatchingFields{indexPodNode: "node-c"}}, nil},
	} {
		var pods corev1.PodList
		if err := listed.List(t.Context(), &pods, test.options...); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		var got []string
		for _, pod := range pods.Items {
			got = append(got, pod.Namespace+"/"+pod.Name)
		}
		if !slices.Equal(got, test.want) {
			t.Errorf("%s: %v, want %v", name, got, test.want)
		}
	}
	pod := &corev1.Pod{}
	if err := listed.Get(t.Context(), client.ObjectKey{Namespace: "shop", Name: "a-0"}, pod); err != nil || pod.Spec.NodeName != "node-b" {
		t.Errorf("got %v (%v)", pod, err)
	}
	if err := listed.Get(t.Context(), client.ObjectKey{Namespace: "shop", Name: "unkept"}, pod); !apierrors.IsNotFound(err) {
		t.Errorf("found what is not there: %v", err)
	}
	if from.asked != len(from.pods) {
		t.Errorf("asked %d times for %d pagedReader", from.asked, len(from.pods))
	}
}

// The pods that it keeps have no address, and a CSI provisioner's is not among them.
func TestListedHasTheAPIFindThePodsOfAnAddress(t *testing.T) {
	t.Parallel()
	listed, err := NewListed(t.Context(), apiWith(podAt("10.128.0.9", "node-b", "provisioner", corev1.PodRunning)), func(client.Object) client.Object { return nil })
	if err != nil {
		t.Fatal(err)
	}
	o := &Observer{Reader: listed, Live: listed}
	if got, err := o.NodeOfPod(t.Context(), netip.MustParseAddr("10.128.0.9"), "node-a"); got != "node-b" || err != nil {
		t.Errorf("got %q (%v)", got, err)
	}
}

func TestListedRefusesWhatItCannotAnswer(t *testing.T) {
	t.Parallel()
	listed, err := NewListed(t.Context(), &pagedReader{pods: []corev1.Pod{{ObjectMeta: metav1.ObjectMeta{Name: "a"}}}}, func(o client.Object) client.Object { return o })
	if err != nil {
		t.Fatal(err)
	}
	if err := listed.List(t.Context(), &corev1.PodList{}, client.MatchingFields{"no.index": "x"}); err == nil {
		t.Error("answered by an index that there is not")
	}
	if err := listed.List(t.Context(), &corev1.SecretList{}); err == nil {
		t.Error("listed secrets")
	}
}
