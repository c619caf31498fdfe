package auditor

import (
	"context"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/tools/events"
	clocktesting "k8s.io/utils/clock/testing"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	"github.com/rbd-rescue/rbd-rescue/api/v1alpha1"
	"github.com/rbd-rescue/rbd-rescue/ceph"
	"github.com/rbd-rescue/rbd-rescue/ceph/cephtest"
	"github.com/rbd-rescue/rbd-rescue/remediator/announce"
)

func TestReportsLongEntriesThatNoNodeFenceLists(t *testing.T) {
	t.Parallel()
	clock := clocktesting.NewFakeClock(time.Date(2026, 11, 23, 3, 0, 0, 0, time.UTC))
	cluster := cephtest.New(clock)
	for address, ttl := range map[string]time.Duration{
		"10.0.0.1:0/1": 300 * 24 * time.Hour, // a NodeFence's
		"10.0.0.1:0/2": 300 * 24 * time.Hour, // of one that was lifted
		"10.0.0.1:0/3": 300 * 24 * time.Hour, // of one that is gone
		"10.0.0.1:0/4": time.Hour,            // Ceph's own
	} {
		cluster.Tamper(ceph.MustParseAddress(address), clock.Now().Add(ttl))
	}
	scheme := runtime.NewScheme()
	if err := v1alpha1.AddToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	fence := func(name, address string, phase v1alpha1.NodeFencePhase) *v1alpha1.NodeFence {
		return &v1alpha1.NodeFence{ObjectMeta: metav1.ObjectMeta{Name: name}, Status: v1alpha1.NodeFenceStatus{
			Phase: phase, Clients: []v1alpha1.FencedClient{{ClusterID: "c1", Address: address}},
		}}
	}
	told := events.NewFakeRecorder(10)
	a := &Auditor{
		Reader: fake.NewClientBuilder().WithScheme(scheme).WithObjects(
			fence("active", "10.0.0.1:0/1", v1alpha1.PhaseRecovered), fence("over", "10.0.0.1:0/2", v1alpha1.PhaseLifted)).Build(),
		Clusters:  ceph.NewClusters(map[string]ceph.Dial{"c1": func(context.Context) (ceph.Conn, error) { return cluster, nil }}),
		Announcer: announce.New(told, clock), Clock: clock, Namespace: "rbd-rescue",
	}
	if err := a.look(context.Background(), "c1"); err != nil {
		t.Fatal(err)
	}
	select {
	case event := <-told.Events:
		if !strings.Contains(event, "UnknownEntries") || !strings.Contains(event, "lists: 10.0.0.1:0/2, 10.0.0.1:0/3.") {
			t.Errorf("told %q", event)
		}
	default:
		t.Error("told nothing")
	}
	cluster.FailNext("osd dump", ceph.ErrInDoubt)
	if err := a.look(context.Background(), "c1"); err == nil {
		t.Error("a cluster that does not answer has no unknown entry")
	}
}
