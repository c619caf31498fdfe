//go:build librados

package machine

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/rbd-rescue/rbd-rescue/e2e/krbd"
)

const (
	containerd     = "/run/containerd/containerd.sock"
	containerImage = "localhost/busybox:1"
)

// runtimeConfig: overlayfs is a module that the machine does not have.
const runtimeConfig = `version = 2
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "` + containerImage + `"
  disable_apparmor = true
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "native"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
`

// startRuntime starts containerd in the machine, waits until it serves the CRI, and gives it the image.
func (h *host) startRuntime(programs string) {
	h.Helper()
	image, err := packImage(filepath.Join(programs, "bin", "busybox"))
	h.must(err)
	go func() {
		printed, err := h.machine.Run(h.ctx, krbd.Program{Path: "/usr/bin/containerd", Files: map[string][]byte{
			"/etc/containerd/config.toml": []byte(runtimeConfig), "/etc/hosts": nil, "/etc/resolv.conf": nil, "/image.tar": image,
		}})
		if h.ctx.Err() == nil {
			h.Errorf("containerd has ended: %v\n%s", err, printed)
		}
	}()
	connection, err := grpc.NewClient("passthrough:"+runtimeAddress.String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	h.must(err)
	h.Cleanup(func() { _ = connection.Close() })
	h.runtime = cri.NewRuntimeServiceClient(connection)
	h.eventually("containerd serves the CRI", func() (bool, error) {
		_, err := h.runtime.Version(h.ctx, &cri.VersionRequest{})
		return err == nil, err
	})
	h.run("/usr/bin/ctr", "--namespace", "k8s.io", "images", "import", "/image.tar")
}

// packImage makes a container image of one static program, as docker save does.
func packImage(busybox string) ([]byte, error) {
	program, err := os.ReadFile(busybox)
	if err != nil {
		return nil, err
	}
	layer, err := pack(file{"bin/busybox", program}, file{"bin/sh", program})
	if err != nil {
		return nil, err
	}
	config, err := json.Marshal(map[string]any{
		"architecture": "amd64", "os": "linux", "config": map[string]any{"Cmd": []string{"/bin/busybox", "sleep", "86400"}},
		"rootfs": map[string]any{"type": "layers", "diff_ids": []string{fmt.Sprintf("sha256:%x", sha256.Sum256(layer))}},
	})
	if err != nil {
		return nil, err
	}
	manifest, err := json.Marshal([]any{map[string]any{"Config": "config.json", "RepoTags": []string{containerImage}, "Layers": []string{"layer.tar"}}})
	if err != nil {
		return nil, err
	}
	return pack(file{"manifest.json", manifest}, file{"config.json", config}, file{"layer.tar", layer})
}

type file struct {
	name string
	text []byte
}

func pack(files ...file) ([]byte, error) {
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	for _, f := range files {
		if err := w.WriteHeader(&tar.Header{Name: f.name, Mode: 0o755, Size: int64(len(f.text))}); err != nil {
			return nil, err
		}
		if _, err := w.Write(f.text); err != nil {
			return nil, err
		}
	}
	err := w.Close()
	return out.Bytes(), err
}

// startPod has the runtime run a pod as a kubelet does: its volume is mounted at /data.
func (h *host) startPod(p *pod) {
	h.Helper()
	labels := map[string]string{
		"io.kubernetes.pod.name": p.name, "io.kubernetes.pod.namespace": p.namespace, "io.kubernetes.pod.uid": p.uid, "io.kubernetes.container.name": "app",
	}
	sandbox := &cri.PodSandboxConfig{
		Metadata: &cri.PodSandboxMetadata{Name: p.name, Namespace: p.namespace, Uid: p.uid}, Labels: labels, LogDirectory: "/var/log/pods/" + p.uid,
		Linux: &cri.LinuxPodSandboxConfig{SecurityContext: &cri.LinuxSandboxSecurityContext{NamespaceOptions: &cri.NamespaceOption{Network: cri.NamespaceMode_NODE}}},
	}
	ran, err := h.runtime.RunPodSandbox(h.ctx, &cri.RunPodSandboxRequest{Config: sandbox})
	h.must(err)
	made, err := h.runtime.CreateContainer(h.ctx, &cri.CreateContainerRequest{PodSandboxId: ran.PodSandboxId, SandboxConfig: sandbox, Config: &cri.ContainerConfig{
		Metadata: &cri.ContainerMetadata{Name: "app"}, Labels: labels, LogPath: "app.log",
		Image: &cri.ImageSpec{Image: containerImage}, Command: []string{"/bin/sh", "-c", writer},
		Mounts: []*cri.Mount{{ContainerPath: "/data", HostPath: p.volume()}},
		Linux:  &cri.LinuxContainerConfig{SecurityContext: &cri.LinuxContainerSecurityContext{NamespaceOptions: &cri.NamespaceOption{Network: cri.NamespaceMode_NODE}}},
	}})
	h.must(err)
	p.container = made.ContainerId
	_, err = h.runtime.StartContainer(h.ctx, &cri.StartContainerRequest{ContainerId: p.container})
	h.must(err)
}

// ended is how a pod's container ended; an error while it runs.
func (h *host) ended(p *pod) (int32, error) {
	answer, err := h.runtime.ContainerStatus(h.ctx, &cri.ContainerStatusRequest{ContainerId: p.container})
	if err != nil {
		return 0, err
	}
	if answer.Status.State != cri.ContainerState_CONTAINER_EXITED {
		return 0, errors.New("it runs")
	}
	return answer.Status.ExitCode, nil
}
