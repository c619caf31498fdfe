// Package apitest is a Kubernetes API in memory, for tests of what needs a manager with real informers and real TLS: it
// serves list, watch, get, create, update and strategic merge patch, with resourceVersion conflicts. It knows no
// validation, no defaults, no subresources and no selector but metadata.name.
package apitest

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/strategicpatch"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/apiutil"
)

// Server is the API in memory.
type Server struct {
	t    testing.TB
	http *httptest.Server

	mu       sync.Mutex
	version  int
	objects  map[key]client.Object
	watchers map[chan event]request
}

type key struct{ group, resource, namespace, name string }

type event struct {
	Type   string        `json:"type"`
	Object client.Object `json:"object"`
	key    key
}

type request struct {
	key
	fieldName string
}

func (r request) matches(k key) bool {
	return k.group == r.group && k.resource == r.resource && (r.namespace == "" || r.namespace == k.namespace) &&
		(r.fieldName == "" || r.fieldName == k.name)
}

// New starts an API that ends with the test.
func New(t testing.TB, objects ...client.Object) *Server {
	t.Helper()
	s := &Server{t: t, objects: map[key]client.Object{}, watchers: map[chan event]request{}}
	for _, obj := range objects {
		s.Put(obj)
	}
	s.http = httptest.NewServer(s)
	t.Cleanup(func() {
		s.http.CloseClientConnections()
		s.http.Close()
	})
	return s
}

// Config is how clients reach the API.
func (s *Server) Config() *rest.Config {
	return &rest.Config{Host: s.http.URL, QPS: -1, ContentConfig: rest.ContentConfig{ContentType: "application/json"}}
}

// Mapper knows the scopes of these kinds; it stands in for discovery, which is not served.
func Mapper(clusterScoped, namespaced []client.Object) meta.RESTMapper {
	mapper := meta.NewDefaultRESTMapper(nil)
	for _, obj := range clusterScoped {
		mapper.Add(kindOf(obj), meta.RESTScopeRoot)
	}
	for _, obj := range namespaced {
		mapper.Add(kindOf(obj), meta.RESTScopeNamespace)
	}
	return mapper
}

// Put stores an object, whatever was there before.
func (s *Server) Put(obj client.Object) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.put(s.keyOf(obj), obj.DeepCopyObject().(client.Object))
}

// Delete removes an object.
func (s *Server) Delete(obj client.Object) {
	s.mu.Lock()
	defer s.mu.Unlock()
	k := s.keyOf(obj)
	if stored := s.objects[k]; stored != nil {
		delete(s.objects, k)
		s.version++
		stored = stored.DeepCopyObject().(client.Object)
		stored.SetResourceVersion(strconv.Itoa(s.version))
		s.tell(event{Type: "DELETED", Object: stored, key: k})
	}
}

// Get returns the stored object with obj's name; nil if there is none.
func Get[T client.Object](s *Server, obj T) T {
	s.mu.Lock()
	defer s.mu.Unlock()
	stored, _ := s.objects[s.keyOf(obj)].(T)
	return stored
}

func kindOf(obj client.Object) schema.GroupVersionKind {
	kind, err := apiutil.GVKForObject(obj, scheme.Scheme)
	if err != nil {
		panic(err)
	}
	return kind
}

func (s *Server) keyOf(obj client.Object) key {
	resource, _ := meta.UnsafeGuessKindToResource(kindOf(obj))
	return key{resource.Group, resource.Resource, obj.GetNamespace(), obj.GetName()}
}

// put stores obj; s.mu is locked. Stored objects are never changed.
func (s *Server) put(k key, obj client.Object) client.Object {
	s.version++
	obj.SetResourceVersion(strconv.Itoa(s.version))
	if obj.GetUID() == "" {
		obj.SetUID(types.UID(fmt.Sprintf("uid-%d", s.version)))
	}
	obj.GetObjectKind().SetGroupVersionKind(kindOf(obj))
	kind := "ADDED"
	if s.objects[k] != nil {
		kind = "MODIFIED"
	}
	s.objects[k] = obj
	s.tell(event{Type: kind, Object: obj, key: k})
	return obj
}

func (s *Server) tell(e event) {
	for ch, watched := range s.watchers {
		if watched.matches(e.key) {
			ch <- e
		}
	}
}

// ServeHTTP serves the API.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	req, kind := parse(r)
	switch {
	case r.Method == http.MethodGet && req.name != "":
		s.mu.Lock()
		defer s.mu.Unlock()
		s.answer(w, s.objects[req.key])
	case r.URL.Query().Get("watch") != "":
		s.watch(w, r, req)
	case r.Method == http.MethodGet:
		s.list(w, req)
	default:
		s.write(w, r, req, kind)
	}
}

func parse(r *http.Request) (request, schema.GroupVersionKind) {
	var req request
	var version string
	path := strings.Split(strings.Trim(r.URL.Path, "/"), "/")
	if path[0] == "apis" {
		req.group, path = path[1], path[1:]
	}
	version, path = path[1], path[2:]
	if len(path) > 2 && path[0] == "namespaces" {
		req.namespace, path = path[1], path[2:]
	}
	req.resource = path[0]
	if len(path) > 1 {
		req.name = path[1]
	}
	req.fieldName, _ = strings.CutPrefix(r.URL.Query().Get("fieldSelector"), "metadata.name=")
	for kind := range scheme.Scheme.KnownTypes(schema.GroupVersion{Group: req.group, Version: version}) {
		gvk := schema.GroupVersionKind{Group: req.group, Version: version, Kind: kind}
		if resource, _ := meta.UnsafeGuessKindToResource(gvk); resource.Resource == req.resource {
			return req, gvk
		}
	}
	return req, schema.GroupVersionKind{}
}

func (s *Server) list(w http.ResponseWriter, req request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	items := []client.Object{}
	for k, obj := range s.objects {
		if req.matches(k) {
			items = append(items, obj)
		}
	}
	s.answer(w, map[string]any{"metadata": map[string]any{"resourceVersion": strconv.Itoa(s.version)}, "items": items})
}

// watch sends the present state first, which is what a client asks for that has not listed, and is harmless to another.
func (s *Server) watch(w http.ResponseWriter, r *http.Request, req request) {
	s.mu.Lock()
	ch := make(chan event, 1000)
	var first []event
	for k, obj := range s.objects {
		if req.matches(k) {
			first = append(first, event{Type: "ADDED", Object: obj})
		}
	}
	s.watchers[ch] = req
	version := s.version
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.watchers, ch)
	}()

	w.Header().Set("Content-Type", "application/json")
	stream := json.NewEncoder(w)
	for _, e := range first {
		_ = stream.Encode(e)
	}
	if r.URL.Query().Get("sendInitialEvents") == "true" {
		_, kind := parse(r)
		_ = stream.Encode(map[string]any{"type": "BOOKMARK", "object": map[string]any{
			"apiVersion": kind.GroupVersion().String(), "kind": kind.Kind,
			"metadata": map[string]any{
				"resourceVersion": strconv.Itoa(version),
				"annotations":     map[string]string{metav1.InitialEventsAnnotationKey: "true"},
			},
		}})
	}
	for {
		_ = http.NewResponseController(w).Flush()
		select {
		case <-r.Context().Done():
			return
		case e := <-ch:
			_ = stream.Encode(e)
		}
	}
}

func (s *Server) write(w http.ResponseWriter, r *http.Request, req request, kind schema.GroupVersionKind) {
	s.mu.Lock()
	defer s.mu.Unlock()
	body, err := scheme.Scheme.New(kind)
	if err != nil {
		s.fail(w, http.StatusNotFound, metav1.StatusReasonNotFound)
		return
	}
	obj := body.(client.Object)
	var data json.RawMessage
	if err := json.NewDecoder(r.Body).Decode(&data); err != nil {
		s.fail(w, http.StatusBadRequest, metav1.StatusReasonBadRequest)
		return
	}
	stored := s.objects[req.key]
	if r.Method != http.MethodPost && stored == nil {
		s.fail(w, http.StatusNotFound, metav1.StatusReasonNotFound)
		return
	}
	if r.Method == http.MethodPatch {
		before, err := json.Marshal(stored)
		if err == nil {
			data, err = strategicpatch.StrategicMergePatch(before, data, obj)
		}
		if err != nil {
			s.fail(w, http.StatusBadRequest, metav1.StatusReasonBadRequest)
			return
		}
	}
	if err := json.Unmarshal(data, obj); err != nil {
		s.fail(w, http.StatusBadRequest, metav1.StatusReasonBadRequest)
		return
	}
	if r.Method == http.MethodPost {
		req.name = obj.GetName()
		if s.objects[req.key] != nil {
			s.fail(w, http.StatusConflict, metav1.StatusReasonAlreadyExists)
			return
		}
	} else if version := obj.GetResourceVersion(); version != "" && version != stored.GetResourceVersion() {
		s.fail(w, http.StatusConflict, metav1.StatusReasonConflict)
		return
	}
	s.answer(w, s.put(req.key, obj))
}

func (s *Server) answer(w http.ResponseWriter, obj any) {
	if stored, ok := obj.(client.Object); obj == nil || (ok && stored == nil) {
		s.fail(w, http.StatusNotFound, metav1.StatusReasonNotFound)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(obj)
}

func (s *Server) fail(w http.ResponseWriter, code int, reason metav1.StatusReason) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(metav1.Status{
		TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Status"}, Status: metav1.StatusFailure, Code: int32(code), Reason: reason,
	})
}
