package auditor

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/tools/events"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	"github.com/rbd-rescue/rbd-rescue/api/v1alpha1"
	"github.com/rbd-rescue/rbd-rescue/ceph"
	"github.com/rbd-rescue/rbd-rescue/ceph/cephtest"
	"github.com/rbd-rescue/rbd-rescue/remediator/announce"
)

func TestACephClusterThatDoesNotAnswerIsAskedAgainAfterAMinute(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		cluster := cephtest.New(clock.RealClock{})
		scheme := runtime.NewScheme()
		if err := v1alpha1.AddToScheme(scheme); err != nil {
			t.Fatal(err)
		}
		a := &Auditor{
			Reader:    fake.NewClientBuilder().WithScheme(scheme).Build(),
			Clusters:  ceph.NewClusters(map[string]ceph.Dial{"asked-again": func(context.Context) (ceph.Conn, error) { return cluster, nil }}),
			Announcer: announce.New(events.NewFakeRecorder(10), clock.RealClock{}), Clock: clock.RealClock{}, Namespace: "rbd-rescue",
		}
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		check := func(when string, want float64) {
			t.Helper()
			synctest.Wait()
			if got := testutil.ToFloat64(reachable.WithLabelValues("asked-again")); got != want {
				t.Errorf("%s: reachable is %v, want %v", when, got, want)
			}
		}
		cluster.FailNext("osd dump", ceph.ErrInDoubt)
		go a.Start(ctx) //nolint:errcheck // it gives none
		check("no answer", 0)
		time.Sleep(again) // of the test's own time
		check("an answer, a minute later", 1)
		cluster.FailNext("osd dump", ceph.ErrInDoubt)
		time.Sleep(every)
		check("no answer, ten minutes later", 0)
	})
}
