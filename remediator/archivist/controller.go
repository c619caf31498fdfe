// Package archivist keeps the manifests of each RBD volume with its image, so that both objects can be built again where the
// Kubernetes cluster is lost. It writes nothing but that metadata, only for namespaces that opted in, and only when it has changed.
package archivist

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"syscall"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/util/flowcontrol"
	"k8s.io/client-go/util/workqueue"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/source"

	"github.com/rbd-rescue/rbd-rescue/api/v1alpha1"
	"github.com/rbd-rescue/rbd-rescue/ceph"
	"github.com/rbd-rescue/rbd-rescue/manifests"
	"github.com/rbd-rescue/rbd-rescue/remediator/announce"
	"github.com/rbd-rescue/rbd-rescue/remediator/observe"
	"github.com/rbd-rescue/rbd-rescue/remediator/plan"
	"github.com/rbd-rescue/rbd-rescue/volume"
)

const (
	// lookTimeout bounds one look at a volume and its image.
	lookTimeout = 15 * time.Second
	looksAtOnce = 2
	// looksPerSecond bounds what a start in a large cluster asks of the API and of Ceph: nobody waits for it.
	looksPerSecond, looksInABurst = 10, 20
	// refusedAgain is when a volume is looked at again whose manifests can't be kept as things are.
	refusedAgain = 10 * time.Minute
)

// Controller keeps the manifests.
type Controller struct {
	Client client.Client
	// Live reads the whole objects: the cache has only what the others read of them.
	Live      client.Reader
	Clusters  *ceph.Clusters
	Announcer *announce.Announcer
	Clock     clock.PassiveClock
	// Namespace is rbd-rescue's own, on which it tells that Ceph refuses.
	Namespace string

	once    sync.Once
	limiter flowcontrol.RateLimiter
	refusal refusals
}

// AddTo wires the controller's watches, of what changes, and its sweep over what is there.
func (c *Controller) AddTo(mgr ctrl.Manager) error {
	sweep := source.Func(func(ctx context.Context, q queue) error {
		go func() {
			if mgr.GetCache().WaitForCacheSync(ctx) {
				c.sweep(ctx, q)
			}
		}()
		return nil
	})
	err := ctrl.NewControllerManagedBy(mgr).Named("archivist").
		For(&corev1.PersistentVolume{}).
		Watches(&corev1.PersistentVolumeClaim{}, handler.EnqueueRequestsFromMapFunc(ofClaim)).
		Watches(&corev1.Namespace{}, handler.EnqueueRequestsFromMapFunc(c.ofNamespace)).
		WithEventFilter(changes).
		WatchesRawSource(sweep).
		WithOptions(controller.Options{
			MaxConcurrentReconciles: looksAtOnce,
			RateLimiter:             workqueue.NewTypedItemExponentialFailureRateLimiter[reconcile.Request](5*time.Second, refusedAgain),
		}).
		Complete(c)
	if err != nil {
		return fmt.Errorf("adding the archivist: %w", err)
	}
	return nil
}

// Reconcile looks at one PersistentVolume. One that is on its way out keeps what its image has.
func (c *Controller) Reconcile(ctx context.Context, request reconcile.Request) (reconcile.Result, error) {
	pv := &corev1.PersistentVolume{}
	if err := c.Client.Get(ctx, request.NamespacedName, pv); client.IgnoreNotFound(err) != nil {
		return reconcile.Result{}, fmt.Errorf("reading PersistentVolume %s: %w", request.Name, err)
	}
	wanted, err := c.wanted(ctx, pv)
	if err != nil || !wanted {
		unkept.set(request.Name, false)
		return reconcile.Result{}, err
	}
	c.once.Do(func() { c.limiter = flowcontrol.NewTokenBucketRateLimiter(looksPerSecond, looksInABurst) })
	if err := c.limiter.Wait(ctx); err != nil {
		return reconcile.Result{}, fmt.Errorf("waiting for a turn: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	err = c.keep(ctx, pv.Name)
	unkept.set(pv.Name, err != nil)
	if c.refused(pv, err) {
		return reconcile.Result{RequeueAfter: refusedAgain}, nil
	}
	return reconcile.Result{}, err
}

// wanted tells whether the volume's manifests are to be kept: its namespace has opted in, and its image can be told.
func (c *Controller) wanted(ctx context.Context, pv *corev1.PersistentVolume) (bool, error) {
	if pv.Name == "" || pv.DeletionTimestamp != nil || !volume.IsRBD(pv) {
		return false, nil
	}
	v, err := volume.Parse(pv)
	if err != nil || v.Claim.Name == "" || v.ClaimGone || !c.Clusters.Known(v.ClusterID) {
		return false, nil //nolint:nilerr // the recorder's metric tells of such a volume
	}
	policy, err := observe.Policy(ctx, c.Client, v.Claim.Namespace)
	return policy.OptedIn(), err
}

// keep writes what the API itself says, if the image has something else.
func (c *Controller) keep(ctx context.Context, name string) error {
	current, v, err := c.read(ctx, name)
	if err != nil || current == nil {
		return err
	}
	cluster, err := c.Clusters.Get(ctx, v.ClusterID)
	if err != nil {
		return err
	}
	image := ceph.Image{Pool: v.Pool, Namespace: v.Namespace, Name: v.Image}
	use, err := cluster.Inspect(ctx, image)
	if err != nil {
		return err
	}
	if kept, err := manifests.Decode(use.Metadata[manifests.Key]); err == nil && kept.Same(*current) {
		return nil
	}
	current.SavedAt = metav1.NewTime(c.Clock.Now())
	text, err := current.Encode()
	if err != nil {
		return err
	}
	if err := cluster.SetMetadata(ctx, image, manifests.Key, text); err != nil {
		return err
	}
	written.Inc()
	c.refusal.over(v.ClusterID+"/"+v.Pool, name)
	ctrl.LoggerFrom(ctx).Info("Kept the manifests with the image", "volume", name, "claim", v.Claim.String(), "image", image.String())
	return nil
}

// read gives the manifests as they are; nil where the volume and its claim do not belong together, or are going.
func (c *Controller) read(ctx context.Context, name string) (*manifests.Manifests, volume.Volume, error) {
	var pv corev1.PersistentVolume
	if err := c.Live.Get(ctx, client.ObjectKey{Name: name}, &pv); err != nil {
		return nil, volume.Volume{}, client.IgnoreNotFound(err)
	}
	v, err := volume.Parse(&pv)
	if err != nil || v.Claim.Name == "" || pv.DeletionTimestamp != nil {
		return nil, v, nil //nolint:nilerr // as in wanted
	}
	var claim corev1.PersistentVolumeClaim
	if err := c.Live.Get(ctx, v.Claim, &claim); err != nil {
		return nil, v, client.IgnoreNotFound(err)
	}
	if claim.UID != v.ClaimUID || claim.Spec.VolumeName != name || claim.DeletionTimestamp != nil {
		return nil, v, nil
	}
	return new(manifests.Of(&pv, &claim)), v, nil
}

// refused tells whether an error stays as long as nobody does something about it, and says so once.
func (c *Controller) refused(pv *corev1.PersistentVolume, err error) bool {
	v, _ := volume.Parse(pv)
	switch {
	case errors.Is(err, manifests.ErrTooLarge):
		if c.refusal.first(pv.Name) {
			c.tell(corev1.ObjectReference{APIVersion: "v1", Kind: "PersistentVolumeClaim", Namespace: v.Claim.Namespace, Name: v.Claim.Name, UID: v.ClaimUID},
				fmt.Sprintf("The manifests of claim %s and PersistentVolume %s are not kept with image %s: %v. Until then keep a copy of both yourself.",
					v.Claim, pv.Name, v.ImageName(), err))
		}
		return true
	case errors.Is(err, syscall.EPERM), errors.Is(err, syscall.EACCES):
		if c.refusal.first(v.ClusterID + "/" + v.Pool) {
			c.tell(corev1.ObjectReference{APIVersion: "v1", Kind: "Namespace", Name: c.Namespace},
				fmt.Sprintf("The manifests of volumes in pool %s of Ceph cluster %s are not kept with their images: Ceph refuses rbd-rescue's user the right to. "+
					"Nothing else is harmed by it. Give the user the caps of README.md (osd 'allow rwx pool=%s object_prefix rbd_header.'), "+
					"or keep the YAML of claims and volumes yourself. The first was %s: %v", v.Pool, v.ClusterID, v.Pool, v.ImageName(), err))
		}
		return true
	default:
		return false
	}
}

func (c *Controller) tell(regarding corev1.ObjectReference, note string) {
	c.Announcer.Announce(plan.Event{Regarding: regarding, Type: corev1.EventTypeWarning, Reason: v1alpha1.ReasonManifestsNotKept, Action: "KeepManifests", Note: note})
}

// refusals are what was told, until it is over: hundreds of volumes have the same reason, and it is nothing that is urgent.
type refusals struct {
	lock sync.Mutex
	told map[string]bool
}

func (r *refusals) first(what string) bool {
	r.lock.Lock()
	defer r.lock.Unlock()
	if r.told[what] {
		return false
	}
	if r.told == nil {
		r.told = map[string]bool{}
	}
	r.told[what] = true
	return true
}

func (r *refusals) over(all ...string) {
	r.lock.Lock()
	defer r.lock.Unlock()
	for _, what := range all {
		delete(r.told, what)
	}
}

// changes are the events that tell of something new: what was there at the start is the sweep's.
var changes = predicate.Funcs{
	CreateFunc: func(e event.CreateEvent) bool { return !e.IsInInitialList },
	UpdateFunc: func(e event.UpdateEvent) bool {
		return e.ObjectOld.GetResourceVersion() != e.ObjectNew.GetResourceVersion()
	},
}

func ofClaim(_ context.Context, o client.Object) []reconcile.Request {
	name := o.(*corev1.PersistentVolumeClaim).Spec.VolumeName
	if name == "" {
		return nil
	}
	return []reconcile.Request{{NamespacedName: client.ObjectKey{Name: name}}}
}

// ofNamespace: it may just have opted in.
func (c *Controller) ofNamespace(ctx context.Context, o client.Object) []reconcile.Request {
	requests, err := c.ofOptedIn(ctx, o)
	if err != nil {
		ctrl.LoggerFrom(ctx).Error(err, "Finding the volumes of a namespace", "namespace", o.GetName())
	}
	return requests
}
