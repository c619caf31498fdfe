package remediator

import (
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/cache"

	"github.com/rbd-rescue/rbd-rescue/api/v1alpha1"
	"github.com/rbd-rescue/rbd-rescue/doctor/look"
)

type informer struct {
	cache.Informer
	version string
}

func (i informer) LastSyncResourceVersion() string { return i.version }

func TestCachesTellUpToWhereTheyHaveHeard(t *testing.T) {
	t.Parallel()
	h := newHearing()
	for _, heard := range []error{
		h.of(&corev1.Pod{}, informer{version: "7"}),
		h.of(&corev1.Pod{}, informer{version: "123456789"}), // of the manager after that one
		h.of(&corev1.Node{}, informer{}),                    // has not listed yet
		h.of(&v1alpha1.NodeFence{}, informer{version: "42"}),
	} {
		if heard != nil {
			t.Fatal(heard)
		}
	}
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(h)
	want := `# HELP rbd_rescue_cache_resource_version resourceVersion up to which the remediator has heard of changes of a kind; it grows with these.
# TYPE rbd_rescue_cache_resource_version gauge
rbd_rescue_cache_resource_version{kind="NodeFence"} 42
rbd_rescue_cache_resource_version{kind="Pod"} 1.23456789e+08
`
	if err := testutil.GatherAndCompare(registry, strings.NewReader(want), look.CacheMetric); err != nil {
		t.Error(err)
	}
	if h.of(&corev1.Pod{}, struct{ cache.Informer }{}) == nil {
		t.Error("an informer that tells nothing is taken")
	}
}
