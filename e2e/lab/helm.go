package lab

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/rbd-rescue/rbd-rescue/e2e/lab/build"
	"github.com/rbd-rescue/rbd-rescue/e2e/lab/process"
)

// Release is the chart's release in the lab.
const Release = "rbd-rescue"

// Restricted are the labels of a namespace that admits pods without any privilege alone, and warns of others wherever they are described.
var Restricted = map[string]string{
	"pod-security.kubernetes.io/enforce": "restricted", "pod-security.kubernetes.io/warn": "restricted",
}

// Helm runs the real Helm with all rights in rbd-rescue's namespace, and returns what it printed.
func (l *Lab) Helm(ctx context.Context, args ...string) (string, error) {
	out, err := l.Supervisor.Run(ctx, process.Spec{
		Name: "helm", Path: filepath.Join(l.binaries.Dir, build.Helm),
		Args: append([]string{"--kubeconfig=" + l.Kube.Kubeconfig(), "--namespace=" + Namespace}, args...),
		Env:  []string{"HOME=" + Dir}, // its caches
	})
	if err != nil {
		return "", fmt.Errorf("running helm %s: %w", args[0], err)
	}
	return string(out), nil
}

// Repository is the folder of all sources.
func (l *Lab) Repository() string { return l.binaries.Repository }

// Chart is the folder of the chart's source.
func (l *Lab) Chart() string { return filepath.Join(l.binaries.Repository, "charts", "rbd-rescue") }

// Install installs the packaged chart, without replicas: nothing in the lab runs an image. What Helm printed is returned.
func (r *Rescue) Install(ctx context.Context, args ...string) (string, error) {
	return r.lab.Helm(ctx, append([]string{"install", Release, r.chart, "--values=" + r.values}, args...)...)
}

// Upgrade changes the release.
func (r *Rescue) Upgrade(ctx context.Context, args ...string) (string, error) {
	return r.lab.Helm(ctx, append([]string{"upgrade", Release, r.chart, "--values=" + r.values}, args...)...)
}

// packageChart makes the file that a user gets.
func (r *Rescue) packageChart(ctx context.Context) error {
	out, err := r.lab.Helm(ctx, "package", r.lab.Chart(), "--destination="+Dir)
	if err != nil {
		return err
	}
	_, path, ok := strings.Cut(strings.TrimSpace(out), "saved it to: ")
	if !ok {
		return fmt.Errorf("packaging the chart: helm printed %q", out)
	}
	r.chart = path
	return nil
}

// prepare makes what the chart wants to be there: the namespaces, a Secret with the key of each Ceph cluster's user, and
// ceph-csi's ConfigMap with the monitors of the lab's own cluster; those of a second one are written out.
func (r *Rescue) prepare(ctx context.Context) error {
	own := r.lab.Ceph
	monitors, err := json.Marshal([]any{map[string]any{"clusterID": own.ClusterID, "monitors": own.Monitors()}})
	if err != nil {
		return fmt.Errorf("encoding ceph-csi's ConfigMap: %w", err)
	}
	configMap := &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ceph-csi", Name: "ceph-csi-config"}, Data: map[string]string{"config.json": string(monitors)},
	}
	objects := []client.Object{
		&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: Namespace, Labels: Restricted}},
		&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: configMap.Namespace}},
		configMap,
	}
	var clusters []any
	for _, site := range r.lab.sites() {
		key, err := os.ReadFile(site.rescueKey)
		if err != nil {
			return fmt.Errorf("reading the key of Ceph cluster %s: %w", site.ClusterID, err)
		}
		name := "ceph-" + site.ClusterID
		objects = append(objects, &corev1.Secret{
			ObjectMeta: metav1.ObjectMeta{Namespace: Namespace, Name: name}, Data: map[string][]byte{"key": key},
		})
		cluster := map[string]any{"clusterID": site.ClusterID, "user": rescueUser, "secret": map[string]any{"name": name}}
		if site == own {
			cluster["monitorsFrom"] = map[string]any{"namespace": configMap.Namespace, "name": configMap.Name, "key": "config.json"}
		} else {
			cluster["monitors"] = site.Monitors()
		}
		clusters = append(clusters, cluster)
	}
	for _, object := range objects {
		if err := r.lab.Client.Create(ctx, object); client.IgnoreAlreadyExists(err) != nil {
			return fmt.Errorf("making what the chart needs (%T %s): %w", object, object.GetName(), err)
		}
	}
	return r.writeValues(clusters)
}

func (r *Rescue) writeValues(clusters []any) error {
	text, err := yaml.Marshal(map[string]any{
		"ceph": map[string]any{"clusters": clusters},
		"settings": map[string]any{
			"stuckAfter": "5s",
			// Scenarios follow each other at once: the nodes of those before have just come back, and would count as failed.
			"maxFailedNodes": "100%",
		},
		"verbosity": 1,
		// Nothing in the lab routes Services.
		"webhook":    map[string]any{"replicaCount": 0, "url": fmt.Sprintf("https://localhost:%d", webhookPort)},
		"remediator": map[string]any{"replicaCount": 0},
		"node":       map[string]any{"enabled": true, "clearAfter": "1s", "nodeSelector": map[string]any{"nothing-runs-an-image": "here"}},
	})
	if err != nil {
		return fmt.Errorf("encoding the chart's values: %w", err)
	}
	if err := os.WriteFile(r.values, text, 0o600); err != nil {
		return fmt.Errorf("writing the chart's values: %w", err)
	}
	return nil
}
