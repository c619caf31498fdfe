package node

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// runtimeServer is a container runtime with one pod of two containers; one of these does not end.
type runtimeServer struct {
	cri.UnimplementedRuntimeServiceServer
	stubborn bool
	calls    []string
	stopped  bool
}

func (r *runtimeServer) ListPodSandbox(context.Context, *cri.ListPodSandboxRequest) (*cri.ListPodSandboxResponse, error) {
	state := cri.PodSandboxState_SANDBOX_READY
	if r.stopped {
		state = cri.PodSandboxState_SANDBOX_NOTREADY
	}
	meta := &cri.PodSandboxMetadata{Uid: podUID, Namespace: "shop", Name: "db-0"}
	return &cri.ListPodSandboxResponse{Items: []*cri.PodSandbox{
		{Id: "old", State: cri.PodSandboxState_SANDBOX_NOTREADY, Metadata: meta}, {Id: "s1", State: state, Metadata: meta},
	}}, nil
}

func (r *runtimeServer) ListContainers(_ context.Context, request *cri.ListContainersRequest) (*cri.ListContainersResponse, error) {
	if request.Filter.State.State != cri.ContainerState_CONTAINER_RUNNING {
		return nil, status.Error(codes.InvalidArgument, "it asks for what does not run")
	}
	if r.stopped && !r.stubborn {
		return &cri.ListContainersResponse{}, nil
	}
	return &cri.ListContainersResponse{Containers: []*cri.Container{
		{Id: "c1", Labels: map[string]string{labelUID: podUID}, Metadata: &cri.ContainerMetadata{Name: "postgres"}},
		{Id: "c9", Labels: map[string]string{labelUID: "another"}, Metadata: &cri.ContainerMetadata{Name: "another"}},
	}}, nil
}

func (r *runtimeServer) StopContainer(_ context.Context, request *cri.StopContainerRequest) (*cri.StopContainerResponse, error) {
	r.calls = append(r.calls, "container "+request.ContainerId)
	if request.ContainerId == "gone" {
		return nil, status.Error(codes.NotFound, "there is none")
	}
	if request.ContainerId == "hangs" {
		return nil, status.Error(codes.DeadlineExceeded, "an error occurs during waiting for it to be killed")
	}
	return &cri.StopContainerResponse{}, nil
}

func (r *runtimeServer) StopPodSandbox(_ context.Context, request *cri.StopPodSandboxRequest) (*cri.StopPodSandboxResponse, error) {
	r.calls = append(r.calls, "sandbox "+request.PodSandboxId)
	r.stopped = true
	return &cri.StopPodSandboxResponse{}, nil
}

// serve serves it where containerd would, on a machine whose proc is given back.
func (r *runtimeServer) serve(t *testing.T) (proc string) {
	t.Helper()
	dir, err := os.MkdirTemp("", "cri") // short, as paths of sockets are
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	socket := filepath.Join(dir, "1/root", sockets[0])
	if err := os.MkdirAll(filepath.Dir(socket), 0o755); err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer()
	cri.RegisterRuntimeServiceServer(server, r)
	go server.Serve(listener) //nolint:errcheck // ends with the test
	t.Cleanup(server.Stop)
	return dir
}

func dialed(t *testing.T, proc string) Runtime {
	t.Helper()
	socket, err := FindSocket(proc, "")
	if err != nil {
		t.Fatal(err)
	}
	r, err := Dial(socket)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestAPodIsStoppedThroughTheCRI(t *testing.T) {
	t.Parallel()
	server := &runtimeServer{}
	r := dialed(t, server.serve(t))
	pods, err := r.Pods(t.Context())
	want := Pod{UID: podUID, Namespace: "shop", Name: "db-0", Sandboxes: []string{"s1"}, Containers: []Container{{"c1", "postgres"}}}
	if diff := cmp.Diff(map[string]Pod{podUID: want}, pods); diff != "" || err != nil {
		t.Fatal(err, diff)
	}
	pod := want
	pod.Containers = append(pod.Containers, Container{"gone", "gone"})
	if err := r.StopPod(t.Context(), pod); err != nil {
		t.Error(err)
	}
	if !slices.Equal(server.calls, []string{"container c1", "container gone", "sandbox s1"}) {
		t.Errorf("%v", server.calls)
	}
}

func TestAContainerThatDoesNotEndIsToldOf(t *testing.T) {
	t.Parallel()
	server := &runtimeServer{stubborn: true}
	r := dialed(t, server.serve(t))
	pods, err := r.Pods(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := r.StopPod(t.Context(), pods[podUID]); err == nil || !strings.Contains(err.Error(), "container postgres of pod shop/db-0 still runs") {
		t.Errorf("%v", err)
	}
	hangs := Pod{UID: podUID, Namespace: "shop", Name: "db-0", Containers: []Container{{"hangs", "postgres"}}}
	if err := r.StopPod(t.Context(), hangs); err == nil || !strings.Contains(err.Error(), "container postgres of pod shop/db-0 does not end") ||
		!strings.Contains(err.Error(), "waiting for Ceph") {
		t.Errorf("%v", err)
	}
}

func TestARuntimeIsFoundOrNamed(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	if _, err := FindSocket(m.path("proc"), ""); err == nil || !strings.Contains(err.Error(), "--cri-socket") {
		t.Errorf("without any: %v", err)
	}
	if _, err := FindSocket(m.path("proc"), "/run/x.sock"); err == nil || !strings.Contains(err.Error(), "no socket") {
		t.Errorf("one that is not there: %v", err)
	}
	proc := (&runtimeServer{}).serve(t)
	other := filepath.Join(proc, "1/root/run/crio/crio.sock")
	if err := os.MkdirAll(filepath.Dir(other), 0o755); err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("unix", other)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	if _, err := FindSocket(proc, ""); err == nil || !strings.Contains(err.Error(), "several") {
		t.Errorf("two: %v", err)
	}
	if got, err := FindSocket(proc, "unix:///run/crio/crio.sock"); err != nil || got != other {
		t.Errorf("the one that is named: %s, %v", got, err)
	}
}
