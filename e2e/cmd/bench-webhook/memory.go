package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/rbd-rescue/rbd-rescue/e2e/lab/process"
)

// Ports on our address.
const (
	webhookPort, webhookMetrics, webhookProbes = 9743, 9781, 9782
	remediatorMetrics, remediatorProbes        = 9783, 9784
	emptyPort                                  = 9744
	cephPort                                   = 9789 // nobody listens there
)

// steady is how long a command is left alone before its memory counts as steady: several cycles of the garbage collector, which
// runs every two minutes at least, and gives memory back in the background.
const steady = 150 * time.Second

// limits of memory in MiB: the chart's, and what was set out to be met.
var limits = map[string]int64{"webhook": 128, "remediator": 256}

// usage is the memory of a command in MiB.
type usage struct {
	command, when    string
	workingSet, peak float64 // of its control group: as kubelet counts it, and the most that there was, with files in memory
	own, file        float64 // the process's own pages; and those of files, which the kernel may drop and replicas share
	heap             float64 // spans of Go's heap with objects in them, garbage as well
	took             time.Duration
}

// startWebhook runs the webhook with its own ServiceAccount's token until the API server trusts it.
func (c *cluster) startWebhook(ctx context.Context) (*process.Process, error) {
	p, err := c.startCommand(ctx, "webhook", webhookMetrics, webhookProbes, fmt.Sprintf("--port=%d", webhookPort), "--ip-addresses="+address)
	if err != nil {
		return nil, err
	}
	return p, until(ctx, p, "the API server trusts the webhook", func(ctx context.Context) error {
		if err := answers(ctx, webhookProbes, "/readyz"); err != nil {
			return err
		}
		var configuration admissionv1.MutatingWebhookConfiguration
		if err := c.admin.Get(ctx, client.ObjectKey{Name: "rbd-rescue-webhook"}, &configuration); err != nil {
			return fmt.Errorf("reading the webhook's configuration: %w", err)
		}
		if configuration.Webhooks[0].ClientConfig.CABundle == nil {
			return errors.New("it has no caBundle yet")
		}
		return nil
	})
}

// startRemediator runs the remediator with its own ServiceAccount's token until all its caches are filled. Its Ceph cluster
// does not answer: so every attached volume waits to be looked at, which is the most that ever waits.
func (c *cluster) startRemediator(ctx context.Context) (*process.Process, error) {
	key, config := filepath.Join(dir, "key"), filepath.Join(dir, "remediator.yaml")
	text, err := yaml.Marshal(map[string]any{
		"apiVersion": "config.rbd-rescue.io/v1alpha1", "kind": "RemediatorConfiguration",
		"cephClusters": []any{map[string]any{
			"clusterID": clusterID, "user": "rbd-rescue", "keyFile": key, "monitors": []string{fmt.Sprintf("%s:%d", address, cephPort)},
		}},
	})
	if err != nil {
		return nil, fmt.Errorf("encoding the remediator's configuration: %w", err)
	}
	if err := errors.Join(os.WriteFile(key, []byte("AQAAAAAAAAAAABAAAAAAAAAAAAAAAAAAAAAAAA=="), 0o600), os.WriteFile(config, text, 0o600)); err != nil {
		return nil, fmt.Errorf("writing the remediator's configuration: %w", err)
	}
	p, err := c.startCommand(ctx, "remediator", remediatorMetrics, remediatorProbes, "--config="+config)
	if err != nil {
		return nil, err
	}
	return p, until(ctx, p, "all controllers of the remediator work", func(context.Context) error {
		log, err := os.ReadFile(p.Log())
		if err != nil {
			return fmt.Errorf("reading the log: %w", err)
		}
		if n := strings.Count(string(log), `"Starting workers"`); n < 4 {
			return fmt.Errorf("%d controllers work so far", n)
		}
		return nil
	})
}

func (c *cluster) startCommand(ctx context.Context, command string, metrics, probes int, args ...string) (*process.Process, error) {
	kubeconfig, err := c.api.KubeconfigFor(ctx, ownNamespace, "rbd-rescue-"+command)
	if err != nil {
		return nil, err
	}
	limit := limits[command] << 20
	group, err := newCgroup(command, limit)
	if err != nil {
		return nil, err
	}
	c.groups[command] = group
	program := filepath.Join(c.binaries.Dir, "rbd-rescue")
	if err := forget(program); err != nil {
		return nil, err
	}
	path, args := group.enter(program, append([]string{
		command, "--kubeconfig=" + kubeconfig, "--namespace=" + ownNamespace,
		fmt.Sprintf("--metrics-bind-address=%s:%d", address, metrics), fmt.Sprintf("--health-probe-bind-address=%s:%d", address, probes),
	}, args...))
	return c.supervisor.Start(process.Spec{Name: "rbd-rescue-" + command, Path: path, Args: args, Env: []string{fmt.Sprintf("MEMORY_LIMIT=%d", limit)}})
}

func until(ctx context.Context, p *process.Process, what string, check func(context.Context) error) error {
	var last error
	err := wait.PollUntilContextTimeout(ctx, 200*time.Millisecond, 30*time.Minute, true, func(ctx context.Context) (bool, error) {
		if p.Ended() {
			return false, fmt.Errorf("it ended: %w", p.Err())
		}
		last = check(ctx)
		return last == nil, nil
	})
	if err != nil {
		return fmt.Errorf("waiting until %s: %w (its log is %s)", what, errors.Join(err, last), p.Log())
	}
	return nil
}

func answers(ctx context.Context, port int, path string) error {
	response, err := get(ctx, port, path)
	if err != nil {
		return err
	}
	_ = response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("%s answers %s", path, response.Status)
	}
	return nil
}

func get(ctx context.Context, port int, path string) (*http.Response, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("http://%s:%d%s", address, port, path), nil)
	if err != nil {
		return nil, fmt.Errorf("asking for %s: %w", path, err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, fmt.Errorf("asking for %s: %w", path, err)
	}
	return response, nil
}

// memory reads what a process has and had.
func (c *cluster) memory(ctx context.Context, p *process.Process, metrics int, command, when string) (usage, error) {
	u := usage{command: command, when: when}
	var err error
	if u.workingSet, u.peak, err = c.groups[command].read(); err != nil {
		return u, err
	}
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.Pid()))
	if err != nil {
		return u, fmt.Errorf("reading the memory of %s: %w", command, err)
	}
	for line := range strings.Lines(string(status)) {
		name, rest, _ := strings.Cut(line, ":")
		if field := map[string]*float64{"RssAnon": &u.own, "RssFile": &u.file}[name]; field != nil {
			kib, err := strconv.ParseFloat(strings.TrimSuffix(strings.TrimSpace(rest), " kB"), 64)
			if err != nil {
				return u, fmt.Errorf("reading %s of %s: %w", name, command, err)
			}
			*field = kib / 1024
		}
	}
	response, err := get(ctx, metrics, "/metrics")
	if err != nil {
		return u, err
	}
	defer func() { _ = response.Body.Close() }()
	for lines := bufio.NewScanner(response.Body); lines.Scan(); {
		if text, is := strings.CutPrefix(lines.Text(), "go_memstats_heap_inuse_bytes "); is {
			bytes, err := strconv.ParseFloat(text, 64)
			if err != nil {
				return u, fmt.Errorf("reading the heap of %s: %w", command, err)
			}
			u.heap = bytes / (1 << 20)
		}
	}
	progress("%s, %s: working set %.0f MiB (peak %.0f), own %.0f, files %.0f, heap in use %.0f", command, when, u.workingSet, u.peak, u.own, u.file, u.heap)
	return u, nil
}

// pause waits while the garbage collector does its work.
func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
