package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/go-logr/logr"
	"golang.org/x/sys/unix"
	admissionapi "k8s.io/api/admission/v1"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	kruntime "k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/healthz"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	"github.com/rbd-rescue/rbd-rescue/webhook"
)

// replica is everything that a replica of the webhook runs, in this process and with real informers, but for its server.
type replica struct {
	ctrl.Manager

	// handler is asked as such; server also reads the request's text and writes the answer's, as for the API server, but has no
	// network.
	handler admission.Handler
	server  http.Handler
	ready   healthz.Checker
}

// AddReadyzCheck keeps the check of the index.
func (r *replica) AddReadyzCheck(_ string, check healthz.Checker) error {
	r.ready = check
	return nil
}

// startReplica returns when the index is filled. It ends with ctx.
func (c *cluster) startReplica(ctx context.Context) (*replica, error) {
	mgr, err := ctrl.NewManager(c.api.RESTConfig(), ctrl.Options{Cache: webhook.CacheOptions(), Metrics: metricsserver.Options{BindAddress: "0"}})
	if err != nil {
		return nil, fmt.Errorf("setting the manager up: %w", err)
	}
	r := &replica{Manager: mgr}
	handlers, err := webhook.Handlers(ctx, r)
	if err != nil {
		return nil, err
	}
	r.handler = handlers[webhook.PodPath]
	r.server = serve(r.handler)
	ended := make(chan error, 1)
	go func() { ended <- mgr.Start(ctx) }()
	for r.ready(nil) != nil {
		select {
		case err := <-ended:
			return nil, fmt.Errorf("the replica ended: %w", err)
		case <-time.After(100 * time.Millisecond):
		}
	}
	return r, nil
}

func serve(handler admission.Handler) http.Handler {
	return &admission.Webhook{Handler: handler, LogConstructor: func(base logr.Logger, _ *admission.Request) logr.Logger { return base }}
}

// request is what the API server sends about a new pod.
func request(pod *corev1.Pod) (*admissionapi.AdmissionRequest, error) {
	text, err := json.Marshal(pod)
	if err != nil {
		return nil, fmt.Errorf("encoding a pod: %w", err)
	}
	kind := metav1.GroupVersionKind{Version: "v1", Kind: "Pod"}
	resource := metav1.GroupVersionResource{Version: "v1", Resource: "pods"}
	return &admissionapi.AdmissionRequest{
		UID: types.UID(uuid("review", 1)), Kind: kind, RequestKind: &kind, Resource: resource, RequestResource: &resource, Operation: admissionapi.Create,
		Namespace: pod.Namespace, Name: pod.Name, Object: kruntime.RawExtension{Raw: text}, DryRun: new(false),
		UserInfo: authenticationv1.UserInfo{
			Username: "system:serviceaccount:kube-system:statefulset-controller", UID: uuid("user", 1),
			Groups: []string{"system:serviceaccounts", "system:serviceaccounts:kube-system", "system:authenticated"},
		},
		Options: kruntime.RawExtension{Raw: []byte(`{"kind":"CreateOptions","apiVersion":"meta.k8s.io/v1"}`)},
	}, nil
}

// question is a kind of pod that the webhook is asked about.
type question struct {
	name string
	pods []*corev1.Pod
	// flagged is what the webhook has to say.
	flagged bool
}

// timing is how long answers took: on the clock, and of the processor's time alone, which a busy machine does not lengthen.
type timing struct{ clock, processor []time.Duration }

func (t *timing) measure(call func()) {
	begin, used := time.Now(), threadTime()
	call()
	clock, processor := time.Since(begin), threadTime()-used
	t.clock, t.processor = append(t.clock, clock), append(t.processor, processor)
}

// ask asks about the pods of a question in turn: the handler alone, and the server with it.
func (r *replica) ask(ctx context.Context, q question, times int) (handler, server timing, err error) {
	var requests []admission.Request
	var bodies [][]byte
	for _, pod := range q.pods {
		request, err := request(pod)
		if err != nil {
			return handler, server, err
		}
		body, err := json.Marshal(admissionapi.AdmissionReview{
			TypeMeta: metav1.TypeMeta{APIVersion: "admission.k8s.io/v1", Kind: "AdmissionReview"}, Request: request,
		})
		if err != nil {
			return handler, server, fmt.Errorf("encoding a review: %w", err)
		}
		requests, bodies = append(requests, admission.Request{AdmissionRequest: *request}), append(bodies, body)
	}
	runtime.LockOSThread() // the processor's time is a thread's
	defer runtime.UnlockOSThread()
	for i := range times {
		var response admission.Response
		handler.measure(func() { response = r.handler.Handle(ctx, requests[i%len(requests)]) })
		if !response.Allowed || len(response.Patches) > 0 != q.flagged {
			return handler, server, fmt.Errorf("%s: the answer is %+v", q.name, response)
		}
	}
	for i := range times {
		request := httptest.NewRequestWithContext(ctx, http.MethodPost, webhook.PodPath, bytes.NewReader(bodies[i%len(bodies)]))
		request.Header.Set("Content-Type", "application/json")
		recorder := httptest.NewRecorder()
		server.measure(func() { r.server.ServeHTTP(recorder, request) })
		answer := recorder.Body.String()
		if !strings.Contains(answer, `"allowed":true`) || strings.Contains(answer, `"patch"`) != q.flagged {
			return handler, server, fmt.Errorf("%s: the answer is %s", q.name, answer)
		}
	}
	return handler, server, nil
}

// eventually asks until the answers are right: the index follows the cluster a moment later.
func (r *replica) eventually(ctx context.Context, q question) error {
	var last error
	for range 300 {
		if _, _, last = r.ask(ctx, q, len(q.pods)); last == nil {
			return nil
		}
		if err := pause(ctx, 100*time.Millisecond); err != nil {
			return errors.Join(err, last)
		}
	}
	return last
}

// threadTime is what this thread has used of the processor.
func threadTime() time.Duration {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &t); err != nil {
		panic(err) // Linux has it
	}
	return time.Duration(t.Nano())
}

// quantile of durations, as in 0.99.
func quantile(all []time.Duration, q float64) time.Duration {
	sorted := slices.Sorted(slices.Values(all))
	if len(sorted) == 0 {
		return 0
	}
	return sorted[min(int(float64(len(sorted))*q), len(sorted)-1)]
}
