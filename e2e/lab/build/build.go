// Package build builds the lab's programs and rbd-rescue from source into e2e/bin. The go command decides what is out of date: a second
// build takes seconds, the very first one many minutes, because Kubernetes is compiled whole.
package build

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

const (
	module        = "github.com/rbd-rescue/rbd-rescue"
	progressEvery = 15 * time.Second
)

// Binaries says where the programs are.
type Binaries struct {
	Dir string
	// Repository is the root of the source.
	Repository string
}

// The names of the programs in Binaries.Dir.
const (
	LabKube       = "lab-kube"
	CSIAttacher   = "csi-attacher"
	LabCSI        = "lab-csi"
	LabVM         = "lab-vm"
	RBDRescue     = "rbd-rescue"
	Helm          = "helm"
	CertManager   = "lab-cert-manager"
	KubectlRescue = "kubectl-rescue"
	// NodeAgent is rbd-rescue for a machine that has no libraries, so without librados.
	NodeAgent = "rbd-rescue-static"
)

// programs are built one after the other; each uses all cores.
var programs = []program{
	{name: LabKube, pkg: "./cmd/lab-kube", kubernetesVersion: true},
	{name: CSIAttacher, pkg: "github.com/kubernetes-csi/external-attacher/v4/cmd/csi-attacher"},
	{name: LabCSI, pkg: "./cmd/lab-csi", librados: true},
	{name: LabVM, pkg: "./cmd/lab-vm", static: true},
	{name: RBDRescue, pkg: "./cmd/rbd-rescue", product: true, librados: true},
	{name: KubectlRescue, pkg: "./cmd/kubectl-rescue", product: true},
	{name: NodeAgent, pkg: "./cmd/rbd-rescue", product: true, static: true},
	{name: Helm, pkg: "helm.sh/helm/v3/cmd/helm", tool: true},
	{name: CertManager, pkg: "./cmd/lab-cert-manager"},
}

type program struct {
	name, pkg string
	// product is built in rbd-rescue's own module, with the dependencies that users get.
	product bool
	// tool is built with the versions that the build's tools have.
	tool bool
	// librados needs cgo and Ceph's headers.
	librados bool
	// static programs run where there is no C library: theirs is linked in, since without cgo all that stands on net would be compiled
	// once more.
	static bool
	// kubernetesVersion has to be linked in: clients that parse the server's version fail without it.
	kubernetesVersion bool
}

// Build builds the programs named, or all if none is, and tells out every 15 s that it is still at it. It must run inside the e2e module.
func Build(ctx context.Context, out io.Writer, names ...string) (Binaries, error) {
	root, err := moduleDir(ctx, module+"/e2e")
	if err != nil {
		return Binaries{}, err
	}
	binaries := Binaries{Dir: filepath.Join(root, "bin"), Repository: filepath.Dir(root)}
	unlock, err := lock(binaries.Dir)
	if err != nil {
		return Binaries{}, err
	}
	defer unlock()
	for _, p := range programs {
		if len(names) > 0 && !slices.Contains(names, p.name) {
			continue
		}
		if err := p.build(ctx, out, root, binaries.Dir); err != nil {
			return Binaries{}, err
		}
	}
	return binaries, nil
}

// lock waits for another process that builds, however long that takes: both would compile everything, and replace what the other
// has started.
func lock(dir string) (unlock func(), err error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("making the folder of the programs: %w", err)
	}
	file, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("opening the build's lock: %w", err)
	}
	if err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX); err != nil {
		return nil, errors.Join(fmt.Errorf("locking %s: %w", file.Name(), err), file.Close())
	}
	return func() { _ = file.Close() }, nil // which unlocks it
}

func (p program) build(ctx context.Context, out io.Writer, root, dir string) error {
	ldflags := "-s -w"
	if p.kubernetesVersion {
		version, err := kubernetesVersion(ctx, root)
		if err != nil {
			return err
		}
		ldflags += version
	}
	if p.static {
		ldflags += " -linkmode external -extldflags -static"
	}
	args := []string{"build", "-buildvcs=false", "-ldflags", ldflags, "-o", filepath.Join(dir, p.name)}
	if p.librados {
		tags := "librados,pacific" // the oldest librados that Debian 12 has
		if p.product {
			tags += ",crashable" // its crashes can be timed
		}
		args = append(args, "-tags", tags)
	}
	from := root
	switch {
	case p.product:
		from = filepath.Dir(root)
	case p.tool:
		from = filepath.Join(filepath.Dir(root), "tools")
	}
	begin := time.Now()
	done := make(chan struct{})
	defer close(done)
	go func() {
		for {
			select {
			case <-done:
				return
			case <-time.After(progressEvery):
				fmt.Fprintf(out, "building %s: %s so far\n", p.name, time.Since(begin).Round(time.Second))
			}
		}
	}()
	if _, err := goCommand(ctx, from, append(args, p.pkg)...); err != nil {
		return fmt.Errorf("building %s: %w", p.name, err)
	}
	if took := time.Since(begin); took > time.Second {
		fmt.Fprintf(out, "built %s in %s\n", p.name, took.Round(100*time.Millisecond))
	}
	return nil
}

func moduleDir(ctx context.Context, path string) (string, error) {
	out, err := goCommand(ctx, "", "list", "-m", "-f", "{{.Dir}}", path)
	if err != nil {
		return "", fmt.Errorf("finding the module %s: %w", path, err)
	}
	return strings.TrimSpace(string(out)), nil
}

// kubernetesVersion are the linker flags for the version of the k8s.io/kubernetes module.
func kubernetesVersion(ctx context.Context, root string) (string, error) {
	out, err := goCommand(ctx, root, "list", "-m", "-json", "k8s.io/kubernetes")
	if err != nil {
		return "", fmt.Errorf("finding the version of Kubernetes: %w", err)
	}
	var m struct{ Version string }
	if err := json.Unmarshal(out, &m); err != nil {
		return "", fmt.Errorf("parsing the version of Kubernetes: %w", err)
	}
	parts := strings.Split(strings.TrimPrefix(m.Version, "v"), ".")
	if len(parts) != 3 {
		return "", fmt.Errorf("the version of Kubernetes is %q, not vX.Y.Z", m.Version)
	}
	const variable = " -X k8s.io/component-base/version."
	return variable + "gitVersion=" + m.Version + variable + "gitMajor=" + parts[0] + variable + "gitMinor=" + parts[1], nil
}

func goCommand(ctx context.Context, dir string, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GOWORK=off")
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return nil, errors.Join(fmt.Errorf("go %s: %w", args[0], err), errors.New(strings.TrimSpace(stderr.String())))
	}
	return stdout.Bytes(), nil
}
