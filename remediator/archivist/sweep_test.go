package archivist

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/rbd-rescue/rbd-rescue/api/v1alpha1"
)

// sweeping starts a sweep over two namespaces with 150 claims each, of which one has opted in, and gives its queue.
func sweeping(t *testing.T, funcs interceptor.Funcs) queue {
	t.Helper()
	builder := fake.NewClientBuilder().WithInterceptorFuncs(funcs).WithObjects(
		&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "shop", Annotations: map[string]string{v1alpha1.AnnotationMode: "rescue"}}},
		&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "plain"}},
	)
	for _, namespace := range []string{"shop", "plain"} {
		for i := range 150 {
			builder.WithObjects(&corev1.PersistentVolumeClaim{
				ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: fmt.Sprint(i)}, Spec: corev1.PersistentVolumeClaimSpec{VolumeName: fmt.Sprintf("%s-%d", namespace, i)},
			})
		}
	}
	c := &Controller{Client: builder.Build()}
	q := workqueue.NewTypedRateLimitingQueue(workqueue.DefaultTypedControllerRateLimiter[reconcile.Request]())
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(func() { cancel(); q.ShutDown() })
	go c.sweep(ctx, q)
	synctest.Wait()
	return q
}

// drain takes what waits, as the controller's workers do.
func drain(q queue) (names []string) {
	for q.Len() > 0 {
		request, _ := q.Get()
		q.Done(request)
		names = append(names, request.Name)
	}
	return names
}

func TestASweepLooksAtAllVolumesOfOptedInNamespacesAFewAtATime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		q := sweeping(t, interceptor.Funcs{})
		for _, when := range []string{"at the start", "a day later"} {
			if q.Len() != waitingAtMost {
				t.Errorf("%s %d volumes wait", when, q.Len())
			}
			seen := drain(q)
			time.Sleep(2 * time.Second)
			seen = append(seen, drain(q)...)
			slices.Sort(seen)
			if len(slices.Compact(seen)) != 150 || seen[0] != "shop-0" {
				t.Errorf("%s it looked at %d: %v", when, len(seen), seen)
			}
			time.Sleep(sweepEvery + time.Second)
		}
	})
}

func TestASweepThatCanNotReadIsTriedAgain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		reads := 0
		q := sweeping(t, interceptor.Funcs{List: func(ctx context.Context, c client.WithWatch, list client.ObjectList, options ...client.ListOption) error {
			if reads++; reads == 1 {
				return errors.New("the API is away")
			}
			return c.List(ctx, list, options...)
		}})
		if q.Len() != 0 {
			t.Errorf("%d volumes wait", q.Len())
		}
		time.Sleep(2 * time.Minute)
		if q.Len() != waitingAtMost {
			t.Errorf("%d volumes wait after the API is back", q.Len())
		}
	})
}

func TestOnlyChangesAreLookedAtBesidesTheSweep(t *testing.T) {
	t.Parallel()
	pv := func(version string) client.Object {
		return &corev1.PersistentVolume{ObjectMeta: metav1.ObjectMeta{Name: "pv", ResourceVersion: version}}
	}
	for name, test := range map[string]struct{ got, want bool }{
		"there at the start":       {changes.Create(event.CreateEvent{Object: pv("1"), IsInInitialList: true}), false},
		"made":                     {changes.Create(event.CreateEvent{Object: pv("1")}), true},
		"told again":               {changes.Update(event.UpdateEvent{ObjectOld: pv("1"), ObjectNew: pv("1")}), false},
		"changed":                  {changes.Update(event.UpdateEvent{ObjectOld: pv("1"), ObjectNew: pv("2")}), true},
		"gone, and counted so far": {changes.Delete(event.DeleteEvent{Object: pv("1")}), true},
	} {
		if test.got != test.want {
			t.Errorf("%s: %v", name, test.got)
		}
	}
}
