package main

import (
	"fmt"
	"os"
	"runtime/debug"
	"strconv"
	"strings"

	"github.com/go-logr/zapr"
	"github.com/spf13/pflag"
	uberzap "go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/log/zap"

	"github.com/rbd-rescue/rbd-rescue/api/v1alpha1"
	"github.com/rbd-rescue/rbd-rescue/cmd/exit"
)

// garbagePercent is how much garbage there may be beside what is in use, unless $GOGC says it. Both commands keep what they know of
// a large cluster, and make little garbage: Go's default, 100, would double their memory for nothing.
const garbagePercent = 10

// goShare is what Go may take of the container's memory before it collects garbage at any price. The rest is librados', the
// threads', and for the program's file.
const goShare = 0.75

// serving are the flags that both commands have.
type serving struct {
	namespace      string
	metricsAddress string
	probeAddress   string
	verbosity      int
}

func (s *serving) addFlags(flags *pflag.FlagSet) {
	flags.StringVar(&s.namespace, "namespace", os.Getenv("POD_NAMESPACE"), "namespace that rbd-rescue runs in; by default $POD_NAMESPACE")
	flags.StringVar(&s.metricsAddress, "metrics-bind-address", ":8080", `address of the metrics; "0" for none`)
	flags.StringVar(&s.probeAddress, "health-probe-bind-address", ":8081", `address of /healthz and /readyz; "0" for none`)
	flags.IntVarP(&s.verbosity, "verbosity", "v", 0, "0 logs what changes in the world, 1 also why nothing does")
}

func (s *serving) validate() error {
	if s.namespace == "" {
		return exit.Misusef("--namespace: is missing, and $POD_NAMESPACE is not set")
	}
	return nil
}

// setUp makes the logger and reads where the API server is.
func (s *serving) setUp(name string) (*rest.Config, error) {
	logger := zapr.NewLogger(zap.NewRaw(
		zap.Level(zapcore.Level(-s.verbosity)), //nolint:gosec // a handful of levels
		zap.RawZapOpts(uberzap.AddCaller()),
	))
	ctrl.SetLogger(logger)
	if err := limitMemory(); err != nil {
		return nil, err
	}
	config, err := ctrl.GetConfig()
	if err != nil {
		return nil, fmt.Errorf("finding the Kubernetes API (in the cluster, $KUBECONFIG or --kubeconfig): %w", err)
	}
	config.UserAgent = strings.Join([]string{"rbd-rescue-" + name, version}, "/")
	config.QPS = -1 // a release is bounded by its own concurrency; the API server's priority and fairness does the rest
	return config, nil
}

// limitMemory keeps garbage within what the container may take, which the chart says in $MEMORY_LIMIT.
func limitMemory() error {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(garbagePercent)
	}
	limit := os.Getenv("MEMORY_LIMIT")
	if limit == "" || os.Getenv("GOMEMLIMIT") != "" {
		return nil
	}
	bytes, err := strconv.ParseInt(limit, 10, 64)
	if err != nil || bytes <= 0 {
		return fmt.Errorf("$MEMORY_LIMIT is %q: it has to be the container's limit in bytes, as resourceFieldRef gives it", limit)
	}
	debug.SetMemoryLimit(int64(goShare * float64(bytes)))
	return nil
}

func scheme() (*runtime.Scheme, error) {
	s := runtime.NewScheme()
	if err := clientgoscheme.AddToScheme(s); err != nil {
		return nil, fmt.Errorf("registering the Kubernetes kinds: %w", err)
	}
	if err := v1alpha1.AddToScheme(s); err != nil {
		return nil, fmt.Errorf("registering NodeFence: %w", err)
	}
	return s, nil
}
