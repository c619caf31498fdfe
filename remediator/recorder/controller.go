// Package recorder keeps, on each RBD PersistentVolume, which Ceph clients hold its image on which node. It looks while
// the nodes are healthy: when a node has failed it is too late to ask, since a watch ends 30 s after the client's last
// sign of life, before Kubernetes calls the node NotReady (facts/krbd.md). It only ever writes that annotation.
package recorder

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/workqueue"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/rbd-rescue/rbd-rescue/api/v1alpha1"
	"github.com/rbd-rescue/rbd-rescue/ceph"
	"github.com/rbd-rescue/rbd-rescue/remediator/observe"
	"github.com/rbd-rescue/rbd-rescue/volume"
)

const (
	// lookTimeout bounds one look at an image.
	lookTimeout = 15 * time.Second
	// looksAtOnce is how many images are looked at at the same time.
	looksAtOnce = 8
	// resync is when an image whose clients are known is looked at again: for a remap that no pod's start told.
	resync = 5 * time.Minute
	// staging takes seconds after an attachment: an image without a client is looked at again soon, then ever less often.
	soonest, latest = time.Second, time.Minute
)

// Controller keeps the records.
type Controller struct {
	Client   client.Client
	Observer *observe.Observer
	Clusters *ceph.Clusters
	Clock    clock.PassiveClock
}

// AddTo wires the controller's watches: attachments, pods that have just started, and nodes that have just booted.
func (c *Controller) AddTo(mgr ctrl.Manager) error {
	err := ctrl.NewControllerManagedBy(mgr).Named("recorder").
		Watches(&storagev1.VolumeAttachment{}, handler.EnqueueRequestsFromMapFunc(ofAttachment)).
		Watches(&corev1.Pod{}, handler.EnqueueRequestsFromMapFunc(c.ofPod)).
		Watches(&corev1.Node{}, handler.EnqueueRequestsFromMapFunc(c.ofNode)).
		WithOptions(controller.Options{
			MaxConcurrentReconciles: looksAtOnce,
			RateLimiter:             workqueue.NewTypedItemExponentialFailureRateLimiter[reconcile.Request](time.Second, time.Minute),
		}).
		Complete(c)
	if err != nil {
		return fmt.Errorf("adding the recorder: %w", err)
	}
	return nil
}

// Reconcile looks at the image of one PersistentVolume.
func (c *Controller) Reconcile(ctx context.Context, request reconcile.Request) (reconcile.Result, error) {
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	pv := &corev1.PersistentVolume{}
	if err := c.Client.Get(ctx, request.NamespacedName, pv); err != nil {
		if apierrors.IsNotFound(err) {
			missing.forget(request.Name)
			return reconcile.Result{}, nil
		}
		return reconcile.Result{}, fmt.Errorf("reading PersistentVolume %s: %w", request.Name, err)
	}
	if !volume.IsRBD(pv) || volume.ReadOnlyModes(pv) {
		return reconcile.Result{}, nil
	}
	attached, since, err := c.Observer.AttachedNodes(ctx, pv.Name)
	if err != nil {
		return reconcile.Result{}, err
	}
	v, formError := volume.Parse(pv)
	if len(attached) == 0 {
		if attached, err = c.Observer.UsingNodes(ctx, v.Claim); err != nil {
			return reconcile.Result{}, err
		}
	}
	if len(attached) == 0 || formError != nil || !c.Clusters.Known(v.ClusterID) {
		missing.set(pv.Name, len(attached) > 0) // attached, but not of a form or a cluster that can be looked at
		return reconcile.Result{}, nil
	}
	seen, err := c.look(ctx, v, pv, attached)
	if err != nil {
		missing.set(pv.Name, len(observe.Record(pv)) == 0)
		seen = sighting{record: observe.Record(pv), attached: attached} // whatever Ceph says, a boot is noted (S3)
		_, unsaved := c.keep(ctx, v, pv, seen)
		return reconcile.Result{}, errors.Join(fmt.Errorf("looking for the clients of image %s: %w", v.ImageName(), err), unsaved)
	}
	complete, err := c.keep(ctx, v, pv, seen)
	missing.set(pv.Name, !complete)
	if err != nil {
		return reconcile.Result{}, err
	}
	if complete {
		return reconcile.Result{RequeueAfter: resync}, nil
	}
	return reconcile.Result{RequeueAfter: min(max(c.Clock.Since(since)/4, soonest), latest)}, nil
}

// keep records what was seen, if what it goes by is so by the API's own word: by a cache that is old, a new node's client was another's
// (S2), or the boot before this one. Otherwise the record is not complete, and the next look may find a newer cache.
func (c *Controller) keep(ctx context.Context, v volume.Volume, pv *corev1.PersistentVolume, seen sighting) (complete bool, err error) {
	record, complete := next(seen)
	if equality.Semantic.DeepEqual(seen.record, record) || len(record) == 0 {
		return complete, nil
	}
	for _, node := range seen.attached {
		if same, err := c.Observer.AsNow(ctx, node); !same || err != nil {
			return false, err
		}
	}
	if seen.excludes(record) {
		if same, err := c.Observer.HasNow(ctx, pv.Name, v.Claim, seen.attached); !same || err != nil {
			return false, err
		}
	}
	if err := c.save(ctx, pv, record); err != nil {
		return false, err
	}
	return complete, nil
}

func (c *Controller) look(ctx context.Context, v volume.Volume, pv *corev1.PersistentVolume, attached []*corev1.Node) (sighting, error) {
	s := sighting{record: observe.Record(pv), attached: attached}
	users, err := c.Observer.Users(ctx, v.Claim)
	if err != nil {
		return s, err
	}
	s.running = running(users)
	cluster, err := c.Clusters.Get(ctx, v.ClusterID)
	if err != nil {
		return s, err
	}
	use, err := cluster.Inspect(ctx, ceph.Image{Pool: v.Pool, Namespace: v.Namespace, Name: v.Image})
	if err != nil {
		return s, err
	}
	s.watchers, s.staged = use.Watchers, use.Staged
	if use.Mirrored {
		if s.mirrors, err = cluster.MirrorHosts(ctx); err != nil {
			return s, err
		}
		s.mayBeMirrors = !cluster.MirrorsNamed()
	}
	if s.own, err = cluster.OwnAddresses(ctx); err != nil {
		return s, err
	}
	s.others = map[netip.Addr]string{}
	for _, watcher := range s.watchers {
		owner, err := c.Observer.OwnerOf(ctx, watcher.Address.IP, attached)
		if err != nil {
			return s, err
		}
		s.others[watcher.Address.IP] = owner
	}
	if len(s.unplaced()) == 0 {
		return s, nil
	}
	if s.daemons, err = cluster.DaemonHosts(ctx); err != nil {
		return s, err
	}
	return s, c.placePods(ctx, s)
}

// placePods finds out which unplaced watchers are pods of other nodes (S2). The API itself has to go through all pods for each, so that
// nobody is asked where the record stays as it is even if all are the node's, as in most looks.
func (c *Controller) placePods(ctx context.Context, s sighting) error {
	if record, _ := next(s); equality.Semantic.DeepEqual(s.record, record) {
		return nil
	}
	for _, ip := range s.unplaced() {
		node, err := c.Observer.NodeOfPod(ctx, ip, s.attached[0].Name)
		if err != nil {
			return err
		}
		s.others[ip] = node
	}
	return nil
}

// running are the UIDs of the running pods by node, sorted, so that the same pods make the same record.
func running(pods []*corev1.Pod) map[string][]types.UID {
	uids := map[string][]types.UID{}
	for _, pod := range pods {
		if pod.Status.Phase == corev1.PodRunning {
			uids[pod.Spec.NodeName] = append(uids[pod.Spec.NodeName], pod.UID)
		}
	}
	for _, list := range uids {
		slices.Sort(list)
	}
	return uids
}

// save writes the record under an optimistic lock: it replaces the whole annotation.
func (c *Controller) save(ctx context.Context, pv *corev1.PersistentVolume, record v1alpha1.ClientRecord) error {
	text, err := json.Marshal(record)
	if err != nil {
		return fmt.Errorf("encoding the record of PersistentVolume %s: %w", pv.Name, err)
	}
	changed := pv.DeepCopy()
	if changed.Annotations == nil {
		changed.Annotations = map[string]string{}
	}
	changed.Annotations[v1alpha1.AnnotationClients] = string(text)
	if err := c.Client.Patch(ctx, changed, client.MergeFromWithOptions(pv, client.MergeFromWithOptimisticLock{})); client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("recording the clients of PersistentVolume %s: %w", pv.Name, err)
	}
	ctrl.LoggerFrom(ctx).Info("Recorded the clients of an image", "volume", pv.Name, "record", string(text))
	return nil
}

func ofAttachment(_ context.Context, o client.Object) []reconcile.Request {
	name, attached := volume.Attached(o.(*storagev1.VolumeAttachment))
	if !attached {
		return nil
	}
	return []reconcile.Request{{NamespacedName: client.ObjectKey{Name: name}}}
}

// ofPod: a pod that starts on a node may have mapped its image anew without a new attachment.
func (c *Controller) ofPod(ctx context.Context, o client.Object) []reconcile.Request {
	pod := o.(*corev1.Pod)
	if pod.Status.Phase != corev1.PodRunning || volume.Terminating(pod) {
		return nil
	}
	var requests []reconcile.Request
	for _, claim := range volume.Claims(pod, pod.Namespace) {
		var pvc corev1.PersistentVolumeClaim
		if err := c.Client.Get(ctx, claim, &pvc); err == nil && pvc.Spec.VolumeName != "" {
			requests = append(requests, reconcile.Request{NamespacedName: client.ObjectKey{Name: pvc.Spec.VolumeName}})
		}
	}
	return requests
}

// ofNode: a node that has booted maps its images anew.
func (c *Controller) ofNode(ctx context.Context, o client.Object) []reconcile.Request {
	names, err := c.Observer.StaleRecords(ctx, o.(*corev1.Node))
	if err != nil {
		ctrl.LoggerFrom(ctx).Error(err, "Finding the volumes of a node", "node", o.GetName())
		return nil
	}
	requests := make([]reconcile.Request, len(names))
	for i, name := range names {
		requests[i].Name = name
	}
	return requests
}
