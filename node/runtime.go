package node

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// Runtime is the node's container runtime.
type Runtime interface {
	// Pods gives what runs, by the pod's UID.
	Pods(ctx context.Context) (map[string]Pod, error)
	// StopPod stops what runs of a pod, and has seen it stopped.
	StopPod(ctx context.Context, pod Pod) error
}

const (
	// callTimeout bounds a call that changes nothing.
	callTimeout = 10 * time.Second
	// graceSeconds are what a container has to end by itself, before it is killed.
	graceSeconds = 10
	labelUID     = "io.kubernetes.pod.uid"
)

// sockets are where container runtimes serve the CRI.
var sockets = []string{
	"/run/containerd/containerd.sock",
	"/run/crio/crio.sock",
	"/run/cri-dockerd.sock",
	"/run/k3s/containerd/containerd.sock",
	"/run/k0s/containerd.sock",
	"/var/snap/microk8s/common/run/containerd.sock",
}

// errNoRuntime says that no socket of a container runtime was found.
var errNoRuntime = errors.New("no container runtime was found; name its socket with --cri-socket")

// FindSocket gives the container runtime's socket below the machine's root: the one that is named, or the one that is there.
func FindSocket(proc, named string) (string, error) {
	root := Host{Proc: proc}.root()
	if named != "" {
		path := filepath.Join(root, strings.TrimPrefix(named, "unix://"))
		if !isSocket(path) {
			return "", fmt.Errorf("--cri-socket: %s is no socket", named)
		}
		return path, nil
	}
	var found []string
	for _, socket := range sockets {
		if isSocket(filepath.Join(root, socket)) {
			found = append(found, socket)
		}
	}
	switch len(found) {
	case 0:
		return "", errNoRuntime
	case 1:
		return filepath.Join(root, found[0]), nil
	default:
		return "", fmt.Errorf("several container runtimes were found (%s); name the kubelet's with --cri-socket", strings.Join(found, ", "))
	}
}

func isSocket(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().Type() == os.ModeSocket
}

// Dial gives the runtime that serves the CRI on a socket. Nothing is asked yet.
func Dial(socket string) (Runtime, error) {
	connection, err := grpc.NewClient("passthrough:cri",
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", socket)
		}))
	if err != nil {
		return nil, fmt.Errorf("connecting to the container runtime: %w", err)
	}
	return criRuntime{cri.NewRuntimeServiceClient(connection)}, nil
}

// criRuntime speaks the CRI, version 1: containerd 1.6 and CRI-O 1.23, and later ones.
type criRuntime struct{ client cri.RuntimeServiceClient }

// Pods implements Runtime.
func (r criRuntime) Pods(ctx context.Context) (map[string]Pod, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	sandboxes, err := r.client.ListPodSandbox(ctx, &cri.ListPodSandboxRequest{})
	if err != nil {
		return nil, fmt.Errorf("listing pods in the container runtime: %w", err)
	}
	containers, err := r.client.ListContainers(ctx, &cri.ListContainersRequest{
		Filter: &cri.ContainerFilter{State: &cri.ContainerStateValue{State: cri.ContainerState_CONTAINER_RUNNING}},
	})
	if err != nil {
		return nil, fmt.Errorf("listing containers in the container runtime: %w", err)
	}
	pods := map[string]Pod{}
	for _, sandbox := range sandboxes.Items {
		pod := pods[sandbox.Metadata.GetUid()]
		pod.UID, pod.Namespace, pod.Name = sandbox.Metadata.GetUid(), sandbox.Metadata.GetNamespace(), sandbox.Metadata.GetName()
		if sandbox.State == cri.PodSandboxState_SANDBOX_READY {
			pod.Sandboxes = append(pod.Sandboxes, sandbox.Id)
		}
		pods[pod.UID] = pod
	}
	for _, container := range containers.Containers {
		pod, known := pods[container.Labels[labelUID]]
		if known {
			pod.Containers = append(pod.Containers, Container{ID: container.Id, Name: container.Metadata.GetName()})
			pods[pod.UID] = pod
		}
	}
	return pods, nil
}

// StopPod implements Runtime: each container has its time to end, then its sandbox is stopped, so that a kubelet starts no container in
// it again.
func (r criRuntime) StopPod(ctx context.Context, pod Pod) error {
	for _, container := range pod.Containers {
		_, err := r.client.StopContainer(ctx, &cri.StopContainerRequest{ContainerId: container.ID, Timeout: graceSeconds})
		switch status.Code(err) {
		case codes.OK, codes.NotFound:
		case codes.DeadlineExceeded:
			return fmt.Errorf("container %s of %s does not end though it is killed, as a process does that is waiting for Ceph: try again once Ceph "+
				"answers or has fenced this client: %w", container.Name, pod, err)
		default:
			return fmt.Errorf("stopping container %s of %s: %w", container.Name, pod, err)
		}
	}
	for _, id := range pod.Sandboxes {
		_, err := r.client.StopPodSandbox(ctx, &cri.StopPodSandboxRequest{PodSandboxId: id})
		if err != nil && status.Code(err) != codes.NotFound {
			return fmt.Errorf("stopping the sandbox of %s: %w", pod, err)
		}
	}
	known, err := r.Pods(ctx)
	if err != nil {
		return err
	}
	for _, container := range known[pod.UID].Containers {
		for _, before := range pod.Containers {
			if container.ID == before.ID {
				return fmt.Errorf("container %s of %s still runs after it was stopped", container.Name, pod)
			}
		}
	}
	return nil
}
