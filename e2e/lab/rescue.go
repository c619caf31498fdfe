package lab

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/util/wait"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/rbd-rescue/rbd-rescue/e2e/lab/process"
)

// Ports on the control plane's address.
const (
	webhookPort       = 9443
	webhookMetrics    = 9081
	webhookProbes     = 9082
	remediatorMetrics = 9083
	remediatorProbes  = 9084
	secondMetrics     = 9085
	secondProbes      = 9086
)

// Rescue is rbd-rescue in the lab: Helm installs it, and its processes run beside the control plane, with the arguments and the
// files that the chart gives them, each with its own ServiceAccount's token.
type Rescue struct {
	lab           *Lab
	chart, values string // files
	webhook       *process.Process
	remediator    *process.Process
	second        *process.Process // remediator; nil while there is none
	// command runs another command of rbd-rescue as the remediator.
	command string
	// settings of a scenario, in place of those that the chart gives.
	settings map[string]any
}

// Accounts are the users that rbd-rescue's commands are to the API server.
func Accounts() []string {
	const account = "system:serviceaccount:" + Namespace + ":rbd-rescue-"
	return []string{account + "remediator", account + "webhook", account + "node"}
}

// newRescue installs rbd-rescue; nothing of it runs yet.
func (l *Lab) newRescue(ctx context.Context) (*Rescue, error) {
	r := &Rescue{lab: l, values: filepath.Join(Dir, "values.yaml")}
	if err := r.packageChart(ctx); err != nil {
		return nil, err
	}
	if err := r.prepare(ctx); err != nil {
		return nil, err
	}
	_, err := r.Install(ctx)
	return r, err
}

// applySettings gives the file with a scenario's settings, made from the chart's.
func (r *Rescue) applySettings(chartFile string) (string, error) {
	text, err := os.ReadFile(chartFile)
	if err != nil {
		return "", fmt.Errorf("reading the remediator's configuration: %w", err)
	}
	config := map[string]any{}
	if err := yaml.Unmarshal(text, &config); err != nil {
		return "", fmt.Errorf("decoding the remediator's configuration: %w", err)
	}
	maps.Copy(config, r.settings)
	if text, err = yaml.Marshal(config); err != nil {
		return "", fmt.Errorf("encoding the remediator's configuration: %w", err)
	}
	path := filepath.Join(Dir, "remediator.yaml")
	if err := os.WriteFile(path, text, 0o600); err != nil {
		return "", fmt.Errorf("writing the remediator's configuration: %w", err)
	}
	return path, nil
}

// Configure starts the remediator anew with these settings, until Reset.
func (r *Rescue) Configure(ctx context.Context, settings map[string]any) error {
	r.settings = settings
	if err := r.remediator.Stop(ctx); err != nil {
		return fmt.Errorf("stopping the remediator: %w", err)
	}
	return r.StartRemediator(ctx)
}

// Reset gives the remediator the lab's own settings again, if a scenario had others. Do it when no fence is left: one may be
// of a cluster that only the scenario's settings know.
func (r *Rescue) Reset(ctx context.Context) error {
	if len(r.settings) == 0 {
		return nil
	}
	return r.Configure(ctx, nil)
}

// heal installs what a scenario left uninstalled, and starts what does not run.
func (r *Rescue) heal(ctx context.Context) error {
	if err := r.lab.Client.Get(ctx, client.ObjectKey{Namespace: Namespace, Name: "rbd-rescue-remediator"}, &appsv1.Deployment{}); apierrors.IsNotFound(err) {
		if _, err := r.Install(ctx); err != nil {
			return err
		}
	}
	if r.second != nil {
		if err := r.second.Stop(ctx); err != nil {
			return fmt.Errorf("stopping the second remediator: %w", err)
		}
		r.second = nil
	}
	if r.remediator != nil && !r.remediator.Ended() {
		if err := r.remediator.Thaw(); err != nil {
			return err
		}
	}
	if r.remediator != nil && r.remediator.Ended() {
		if err := r.StartRemediator(ctx); err != nil {
			return err
		}
	}
	if r.webhook != nil && r.webhook.Ended() {
		return r.StartWebhook(ctx)
	}
	return nil
}

// StartRemediator starts the remediator and waits until it is up.
func (r *Rescue) StartRemediator(ctx context.Context) error { return r.StartRemediatorToCrash(ctx, "") }

// StartRemediatorToCrash starts a remediator that kills itself at a boundary of the rescuer, as in "after AddToBlocklist";
// empty for never.
func (r *Rescue) StartRemediatorToCrash(ctx context.Context, boundary string) error {
	var err error
	if r.remediator, err = r.startRemediator(ctx, "remediator", remediatorMetrics, remediatorProbes, boundary); err != nil {
		return err
	}
	return r.ready(ctx, "remediator", r.remediator, remediatorProbes)
}

// StartSecondRemediator starts a replica that waits until the first one leads no more.
func (r *Rescue) StartSecondRemediator(ctx context.Context) error {
	var err error
	if r.second, err = r.startRemediator(ctx, "remediator-2", secondMetrics, secondProbes, ""); err != nil {
		return err
	}
	return r.ready(ctx, "remediator", r.second, secondProbes)
}

func (r *Rescue) startRemediator(ctx context.Context, name string, metrics, probes int, crashAt string) (*process.Process, error) {
	kubeconfig, err := r.lab.Kube.KubeconfigFor(ctx, Namespace, "rbd-rescue-remediator")
	if err != nil {
		return nil, fmt.Errorf("making the remediator's kubeconfig: %w", err)
	}
	args, err := r.arguments(ctx, "remediator")
	if err != nil {
		return nil, err
	}
	at := slices.IndexFunc(args, func(arg string) bool { return strings.HasPrefix(arg, "--config=") })
	if len(r.settings) > 0 {
		file, err := r.applySettings(strings.TrimPrefix(args[at], "--config="))
		if err != nil {
			return nil, err
		}
		args[at] = "--config=" + file
	}
	r.command = strings.Join([]string{filepath.Join(r.lab.binaries.Dir, "rbd-rescue"), args[at], "--namespace=" + Namespace, "--kubeconfig=" + kubeconfig}, " ")
	return r.start(name, args, kubeconfig, metrics, probes, crashAt)
}

// start starts a process with the chart's arguments and what is the lab's own: the last of a flag counts.
func (r *Rescue) start(name string, args []string, kubeconfig string, metrics, probes int, crashAt string) (*process.Process, error) {
	p, err := r.lab.Supervisor.Start(process.Spec{
		Name: "rbd-rescue-" + name, Path: filepath.Join(r.lab.binaries.Dir, "rbd-rescue"),
		Args: append(args, "--kubeconfig="+kubeconfig,
			fmt.Sprintf("--metrics-bind-address=127.0.0.1:%d", metrics), fmt.Sprintf("--health-probe-bind-address=127.0.0.1:%d", probes)),
		Env: append(os.Environ(), "POD_NAMESPACE="+Namespace, "RBD_RESCUE_CRASH_AT="+crashAt),
	})
	if err != nil {
		return nil, fmt.Errorf("starting rbd-rescue %s: %w", name, err)
	}
	return p, nil
}

func (r *Rescue) ready(ctx context.Context, command string, p *process.Process, port int) error {
	err := wait.PollUntilContextTimeout(ctx, 50*time.Millisecond, 2*time.Minute, true, func(ctx context.Context) (bool, error) {
		select {
		case <-p.Done():
			return false, fmt.Errorf("it ended: %w", p.Err())
		default:
		}
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("http://127.0.0.1:%d/readyz", port), nil)
		if err != nil {
			return false, err
		}
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			return false, nil //nolint:nilerr // not up yet
		}
		_ = response.Body.Close()
		return response.StatusCode == http.StatusOK, nil
	})
	if err != nil {
		return fmt.Errorf("waiting for rbd-rescue %s: %w (its log is %s)", command, err, p.Log())
	}
	return nil
}

// RemediatorEnded is closed when the remediator has ended.
func (r *Rescue) RemediatorEnded() <-chan struct{} { return r.remediator.Done() }

// FreezeRemediator stops the remediator where it is, as a node that hangs would.
func (r *Rescue) FreezeRemediator() error { return r.remediator.Freeze() }

// ThawRemediator lets it go on.
func (r *Rescue) ThawRemediator() error { return r.remediator.Thaw() }

// KillRemediator ends the remediator as a crash would.
func (r *Rescue) KillRemediator() error { return r.remediator.Kill() }
