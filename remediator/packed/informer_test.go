package packed

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	toolscache "k8s.io/client-go/tools/cache"
)

// told notes what a handler is told.
type told struct {
	lock sync.Mutex
	all  []string
}

func (h *told) note(format string, args ...any) {
	h.lock.Lock()
	defer h.lock.Unlock()
	h.all = append(h.all, fmt.Sprintf(format, args...))
}

func (h *told) OnAdd(o any, first bool) {
	h.note("add %s on %s, first %v", o.(*corev1.Pod).Name, o.(*corev1.Pod).Spec.NodeName, first)
}

func (h *told) OnUpdate(before, now any) {
	h.note("update %s from %s to %s", now.(*corev1.Pod).Name, before.(*corev1.Pod).Spec.NodeName, now.(*corev1.Pod).Spec.NodeName)
}

func (h *told) OnDelete(o any) { h.note("delete %s", o.(*corev1.Pod).Name) }

func (h *told) take() []string {
	h.lock.Lock()
	defer h.lock.Unlock()
	all := h.all
	h.all = nil
	slices.Sort(all)
	return all
}

// server lists pods page by page, and streams them if it can.
type server struct {
	streams bool
	pods    []*corev1.Pod
	watcher *watch.FakeWatcher
	pages   []metav1.ListOptions
}

func (s *server) ListWithContext(_ context.Context, options metav1.ListOptions) (runtime.Object, error) {
	s.pages = append(s.pages, options)
	at := len(options.Continue)
	list := &corev1.PodList{ListMeta: metav1.ListMeta{ResourceVersion: "5"}}
	for _, p := range s.pods[at:min(at+2, len(s.pods))] {
		list.Items = append(list.Items, *p)
	}
	if at+2 < len(s.pods) {
		list.Continue = "abcdefgh"[:at+2]
	}
	return list, nil
}

func (s *server) WatchWithContext(_ context.Context, options metav1.ListOptions) (watch.Interface, error) {
	s.watcher = watch.NewFakeWithChanSize(100, false)
	if options.SendInitialEvents != nil {
		if !s.streams {
			return nil, fmt.Errorf("it does not stream")
		}
		for _, p := range s.pods {
			s.watcher.Add(p)
		}
		end := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{ResourceVersion: "5", Annotations: map[string]string{metav1.InitialEventsAnnotationKey: "true"}}}
		s.watcher.Action(watch.Bookmark, end)
	}
	return s.watcher, nil
}

func (s *server) List(options metav1.ListOptions) (runtime.Object, error) {
	return s.ListWithContext(context.Background(), options)
}

func (s *server) Watch(options metav1.ListOptions) (watch.Interface, error) {
	return s.WatchWithContext(context.Background(), options)
}

func run(t *testing.T, s *server, resync time.Duration) *Informer {
	t.Helper()
	informer := NewInformer(pods, s, &corev1.Pod{}, resync, indexers)
	err := informer.SetTransform(func(o any) (any, error) {
		p := o.(*corev1.Pod).DeepCopy()
		p.Spec.Hostname = "" // not kept
		return p, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	go informer.RunWithContext(t.Context())
	synctest.Wait()
	return informer
}

func expect(t *testing.T, h *told, want ...string) {
	t.Helper()
	synctest.Wait()
	slices.Sort(want)
	if got := h.take(); !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestAnInformerTellsWhatChanges(t *testing.T) {
	t.Parallel()
	for name, streams := range map[string]bool{"where the server streams": true, "where it lists": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				done := pod("done", "node-a")
				done.Status.Phase = corev1.PodSucceeded
				s := &server{streams: streams, pods: []*corev1.Pod{pod("a", "node-a"), done, pod("b", "node-b")}}
				informer := run(t, s, 0)
				if !informer.HasSynced() {
					time.Sleep(time.Minute) // it has to find out that the server does not stream
				}
				h := &told{}
				registration, err := informer.AddEventHandler(h)
				if err != nil || !registration.HasSynced() {
					t.Fatalf("synced %v, error %v", registration.HasSynced(), err)
				}
				expect(t, h, "add a on node-a, first true", "add b on node-b, first true")
				s.watcher.Modify(pod("a", "node-b"))
				s.watcher.Add(pod("c", "node-c"))
				s.watcher.Delete(pod("b", "node-b"))
				s.watcher.Delete(pod("unknown", "node-b"))
				s.watcher.Modify(done)
				expect(t, h, "update a from node-a to node-b", "add c on node-c, first false", "delete b")
				over := pod("c", "node-c")
				over.Status.Phase = corev1.PodSucceeded
				s.watcher.Modify(over)
				expect(t, h, "delete c")
				if keys, err := informer.GetIndexer().IndexKeys("node", "node-b"); !slices.Equal(keys, []string{"shop/a"}) || err != nil {
					t.Errorf("on node-b: %v, %v", keys, err)
				}
				if err := informer.RemoveEventHandler(registration); err != nil {
					t.Error(err)
				}
				s.watcher.Add(pod("d", "node-d"))
				expect(t, h)
			})
		})
	}
}

// A list from the server's cache comes as a whole: of 120,000 pods that is a gigabyte.
func TestAListComesInPages(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &server{pods: []*corev1.Pod{pod("a", ""), pod("b", ""), pod("c", ""), pod("d", ""), pod("e", "")}}
		informer := run(t, s, 0)
		time.Sleep(time.Minute)
		if keys := informer.GetStore().ListKeys(); len(keys) != 5 {
			t.Errorf("got %v", keys)
		}
		if len(s.pages) != 3 {
			t.Errorf("%d pages", len(s.pages))
		}
		for _, options := range s.pages {
			if options.Limit == 0 || options.ResourceVersion != "" {
				t.Errorf("asked for %+v", options)
			}
		}
	})
}

// After the API server was away everything is read again; only what has changed meanwhile is told.
func TestAfterAnotherListOnlyChangesAreTold(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &server{streams: true, pods: []*corev1.Pod{pod("a", "node-a"), pod("b", "node-b"), pod("c", "node-c")}}
		informer := run(t, s, 0)
		h := &told{}
		if _, err := informer.AddEventHandler(h); err != nil {
			t.Fatal(err)
		}
		h.take()
		s.pods = []*corev1.Pod{pod("a", "node-a"), pod("b", "node-c"), pod("d", "node-d")}
		s.watcher.Error(&metav1.Status{Status: metav1.StatusFailure, Code: 410, Reason: metav1.StatusReasonExpired})
		time.Sleep(time.Minute)
		expect(t, h, "update b from node-b to node-c", "delete c", "add d on node-d, first false")
	})
}

func TestAResyncTellsAllAgain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &server{streams: true, pods: []*corev1.Pod{pod("a", "node-a")}}
		informer := run(t, s, time.Hour)
		h := &told{}
		if _, err := informer.AddEventHandler(h); err != nil {
			t.Fatal(err)
		}
		h.take()
		time.Sleep(time.Hour + time.Minute)
		expect(t, h, "update a from node-a to node-a")
	})
}

func TestAnInformerThatHasStoppedSaysSo(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		informer := NewInformer(pods, &server{streams: true}, &corev1.Pod{}, 0, nil)
		stop := make(chan struct{})
		go informer.Run(stop)
		synctest.Wait()
		if !toolscache.IsDone(informer.HasSyncedChecker()) || informer.IsStopped() || informer.LastSyncResourceVersion() != "5" {
			t.Errorf("synced %v, stopped %v, version %s", informer.HasSynced(), informer.IsStopped(), informer.LastSyncResourceVersion())
		}
		close(stop)
		synctest.Wait()
		if !informer.IsStopped() {
			t.Error("it runs on")
		}
	})
}
