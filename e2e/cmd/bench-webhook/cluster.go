package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync/atomic"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	kruntime "k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer/protobuf"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rbd-rescue/rbd-rescue/e2e/lab/build"
	"github.com/rbd-rescue/rbd-rescue/e2e/lab/chart"
	"github.com/rbd-rescue/rbd-rescue/e2e/lab/kube"
	"github.com/rbd-rescue/rbd-rescue/e2e/lab/process"
)

const (
	// dir is short: see kube.Options.
	dir = "/run/rbdlab-bench"
	// address is the loopback interface's, and nobody else's in the lab, so that this runs beside it.
	address = "127.0.67.1"

	ownNamespace = "rbd-rescue"
)

// cluster is an API server that holds a world, and what runs beside it.
type cluster struct {
	world      world
	binaries   build.Binaries
	supervisor *process.Supervisor
	api        *kube.ControlPlane
	admin      client.Client
	groups     map[string]*cgroup // by command
}

func start(ctx context.Context, w world) (_ *cluster, err error) {
	c := &cluster{world: w, groups: map[string]*cgroup{}}
	if c.binaries, err = build.Build(ctx, os.Stderr, build.LabKube, build.RBDRescue, build.Helm); err != nil {
		return c, err
	}
	if err := errors.Join(process.CleanUp(dir), os.RemoveAll(dir)); err != nil {
		return c, err
	}
	if c.supervisor, err = process.NewSupervisor(dir); err != nil {
		return c, err
	}
	options := kube.Options{
		Dir: filepath.Join(dir, "kube"), BinDir: c.binaries.Dir, IP: netip.MustParseAddr(address), APIServerTimeout: 10 * time.Minute,
		Authorization: "RBAC", Env: []string{"GOGC=40"}, // else the API server takes 15 GiB
	}
	if c.api, err = kube.StartAPI(ctx, c.supervisor, options); err != nil {
		return c, err
	}
	if c.admin, err = client.New(c.api.RESTConfig(), client.Options{}); err != nil {
		return c, fmt.Errorf("making the administrator's client: %w", err)
	}
	for _, step := range []func(context.Context) error{c.install, c.api.StopAPIServer, c.fill, c.api.StartAPIServer} {
		if err := step(ctx); err != nil {
			return c, err
		}
	}
	return c, nil
}

func (c *cluster) close(ctx context.Context) error {
	if c.supervisor == nil {
		return nil
	}
	if err := c.supervisor.StopAll(ctx); err != nil {
		return fmt.Errorf("stopping the API server: %w", err)
	}
	var left error
	for _, group := range c.groups {
		left = errors.Join(left, group.remove())
	}
	return left
}

// install makes what the chart has, but for what runs containers and routes to them.
func (c *cluster) install(ctx context.Context) error {
	if err := c.admin.Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: ownNamespace}}); err != nil {
		return fmt.Errorf("making namespace %s: %w", ownNamespace, err)
	}
	// The pods that the webhook's are compared with are kept from it.
	others := fmt.Sprintf(`webhook.namespaceSelector={"matchExpressions": [{"key": %q, "operator": "NotIn", "values": [%q, %q]}]}`,
		corev1.LabelMetadataName, withoutWebhook, withEmptyWebhook)
	return chart.Install(ctx, c.admin, c.binaries, ownNamespace, fmt.Sprintf("https://%s:%d", address, webhookPort), "--set-json", others)
}

// fill writes the world into etcd as the API server would have stored it: through the API it takes two calls for each object
// that has a status, so half an hour.
func (c *cluster) fill(ctx context.Context) error {
	begin := time.Now()
	etcd, err := clientv3.New(clientv3.Config{Endpoints: []string{c.api.EtcdURL()}, DialTimeout: 10 * time.Second})
	if err != nil {
		return fmt.Errorf("connecting to etcd: %w", err)
	}
	defer func() { _ = etcd.Close() }()
	w, total := c.world, atomic.Int64{}
	storage := protobuf.NewSerializer(clientgoscheme.Scheme, clientgoscheme.Scheme)
	for _, kind := range []struct {
		count  int
		object func(i int) client.Object
		prefix string
	}{
		{namespaces, func(i int) client.Object { return w.makeNamespace(i) }, "namespaces"},
		{namespaces, func(i int) client.Object { return w.makeServiceAccount(i) }, "serviceaccounts"},
		{w.nodes, func(i int) client.Object { return w.makeNode(i) }, "minions"},
		{w.claims, func(i int) client.Object { return w.makeVolume(i) }, "persistentvolumes"},
		{w.claims, func(i int) client.Object { return w.makeClaim(i) }, "persistentvolumeclaims"},
		{w.claims, func(i int) client.Object { return w.makeAttachment(i) }, "volumeattachments"},
		{w.pods, func(i int) client.Object { return w.makePod(i) }, "pods"},
	} {
		group, groupCtx := errgroup.WithContext(ctx)
		group.SetLimit(4)
		var kindTotal atomic.Int64
		all := make([]int, kind.count)
		for i := range all {
			all[i] = i
		}
		for batch := range slices.Chunk(all, 50) {
			group.Go(func() error {
				var puts []clientv3.Op
				for _, i := range batch {
					object := kind.object(i)
					var text bytes.Buffer
					if err := storage.Encode(object.(kruntime.Object), &text); err != nil {
						return fmt.Errorf("encoding %T %s: %w", object, object.GetName(), err)
					}
					kindTotal.Add(int64(text.Len()))
					key := filepath.Join("/registry", kind.prefix, object.GetNamespace(), object.GetName())
					puts = append(puts, clientv3.OpPut(key, text.String()))
				}
				if _, err := etcd.Txn(groupCtx).Then(puts...).Commit(); err != nil {
					return fmt.Errorf("writing %s into etcd: %w", kind.prefix, err)
				}
				return nil
			})
		}
		if err := group.Wait(); err != nil {
			return err
		}
		progress("wrote %d %s, %.1f kB each", kind.count, kind.prefix, float64(kindTotal.Load())/1000/float64(max(1, kind.count)))
		total.Add(kindTotal.Load())
	}
	runtime.GC()
	progress("filled etcd with %d MB in %s; the API server reads it", total.Load()/1_000_000, time.Since(begin).Round(time.Second))
	return nil
}

// fail makes the first nodes Unknown, as the node lifecycle controller does.
func (c *cluster) fail(ctx context.Context, nodes int) error {
	for i := range nodes {
		node := &corev1.Node{}
		if err := c.admin.Get(ctx, client.ObjectKey{Name: c.world.nodeName(i)}, node); err != nil {
			return fmt.Errorf("reading a node: %w", err)
		}
		before := node.DeepCopy()
		for j := range node.Status.Conditions {
			node.Status.Conditions[j].Status, node.Status.Conditions[j].Reason = corev1.ConditionUnknown, "NodeStatusUnknown"
		}
		if err := c.admin.Status().Patch(ctx, node, client.MergeFrom(before)); err != nil {
			return fmt.Errorf("failing node %s: %w", node.Name, err)
		}
	}
	return nil
}

func progress(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "%s "+format+"\n", append([]any{time.Now().Format(time.TimeOnly)}, args...)...)
}
