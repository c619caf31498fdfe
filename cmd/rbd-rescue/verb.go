package main

import (
	"context"
	"fmt"
	"os"

	"github.com/spf13/pflag"
	"k8s.io/client-go/rest"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rbd-rescue/rbd-rescue/ceph"
	"github.com/rbd-rescue/rbd-rescue/cmd/exit"
	"github.com/rbd-rescue/rbd-rescue/cmd/rbd-rescue/config"
)

// verb are the flags of the commands that do one thing and end. kubectl rescue runs them in a remediator's pod, where they find the
// remediator's configuration and have its rights (docs/kubectl-rescue.md).
type verb struct {
	namespace  string
	configFile string
}

func (v *verb) addFlags(flags *pflag.FlagSet) {
	flags.StringVar(&v.namespace, "namespace", os.Getenv("POD_NAMESPACE"), "namespace that rbd-rescue runs in; by default $POD_NAMESPACE")
	flags.StringVar(&v.configFile, "config", "/etc/rbd-rescue/config/config.yaml", "the remediator's configuration file")
}

// site is what a verb works with.
type site struct {
	configuration *config.Configuration
	rest          *rest.Config
	// client asks the API itself.
	client   client.Client
	clusters *ceph.Clusters
}

// open reads the configuration and finds the Kubernetes API; Ceph is connected to when it is needed.
func (v *verb) open(name string) (*site, error) {
	if v.namespace == "" {
		return nil, exit.Misusef("--namespace: is missing, and $POD_NAMESPACE is not set")
	}
	if errNoLibrados != nil {
		return nil, errNoLibrados
	}
	configuration, err := config.Load(v.configFile)
	if err != nil {
		return nil, err
	}
	restConfig, err := ctrl.GetConfig()
	if err != nil {
		return nil, fmt.Errorf("finding the Kubernetes API (in the cluster, $KUBECONFIG or --kubeconfig): %w", err)
	}
	restConfig.UserAgent = "rbd-rescue-" + name + "/" + version
	restConfig.QPS = -1
	kinds, err := scheme()
	if err != nil {
		return nil, err
	}
	asks, err := client.New(restConfig, client.Options{Scheme: kinds})
	if err != nil {
		return nil, fmt.Errorf("making a client of the Kubernetes API: %w", err)
	}
	return &site{configuration: configuration, rest: restConfig, client: asks, clusters: clustersOf(configuration, asks)}, nil
}

// clustersOf are the configured Ceph clusters; monitorsFrom is read by the reader.
func clustersOf(configuration *config.Configuration, reader client.Reader) *ceph.Clusters {
	dials := map[string]ceph.Dial{}
	for _, cluster := range configuration.CephClusters {
		dials[cluster.ClusterID] = dialer(cluster, reader)
	}
	clusters := ceph.NewClusters(dials)
	for _, cluster := range configuration.CephClusters {
		clusters.SetMirrors(cluster.ClusterID, cluster.Mirrors())
	}
	return clusters
}

func dialer(cluster config.CephCluster, reader client.Reader) ceph.Dial {
	return func(ctx context.Context) (ceph.Conn, error) {
		monitors, err := cluster.ResolveMonitors(ctx, reader)
		if err != nil {
			return nil, err
		}
		key, err := cluster.Key()
		if err != nil {
			return nil, err
		}
		return dial(ctx, monitors, cluster.User, key)
	}
}
