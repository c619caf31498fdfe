package agent

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/rbd-rescue/rbd-rescue/api/v1alpha1"
	"github.com/rbd-rescue/rbd-rescue/node"
)

const (
	// lookEvery is how often a fenced node is looked at: the kernel tells nobody that a mapping has ended.
	lookEvery = 5 * time.Second
	// releaseTimeout bounds one attempt to let mappings go.
	releaseTimeout = 2 * time.Minute
)

// Machine is this node's.
type Machine interface {
	Survey(ctx context.Context) (node.Survey, error)
	Release(ctx context.Context, wanted node.Wanted) error
}

// Options of an agent.
type Options struct {
	// NodeName is this node's.
	NodeName string
	// ClearAfter is how long the kubelet and the CSI plugin have to let go what was moved away, before the agent does.
	ClearAfter time.Duration
}

// Controller reconciles the NodeFences of this node.
type Controller struct {
	Options
	Client  client.Client
	Machine Machine
	Clock   clock.PassiveClock

	// since is when a mapping was first seen that should go.
	since map[mapping]time.Time
}

// mapping is one, whatever number is used again.
type mapping struct {
	id            int
	image, client string
}

// AddTo wires the controller's watch.
func (c *Controller) AddTo(mgr ctrl.Manager) error {
	if err := ctrl.NewControllerManagedBy(mgr).Named("agent").For(&v1alpha1.NodeFence{}).Complete(c); err != nil {
		return fmt.Errorf("adding the agent: %w", err)
	}
	return nil
}

// Reconcile clears what a NodeFence of this very boot has moved away, and writes down what is left.
func (c *Controller) Reconcile(ctx context.Context, request reconcile.Request) (reconcile.Result, error) {
	ctx, cancel := context.WithTimeout(ctx, releaseTimeout+time.Minute)
	defer cancel()
	nf := &v1alpha1.NodeFence{}
	if err := c.Client.Get(ctx, request.NamespacedName, nf); err != nil {
		return reconcile.Result{}, client.IgnoreNotFound(err)
	}
	if nf.Spec.NodeName != c.NodeName || !nf.Active() || len(nf.Status.Clients) == 0 {
		return reconcile.Result{}, nil
	}
	survey, err := c.Machine.Survey(ctx) // after the NodeFence was read: see node.Cleared
	if err != nil {
		return reconcile.Result{}, fmt.Errorf("looking which images are mapped: %w", err)
	}
	if survey.BootID != nf.Spec.BootID {
		return reconcile.Result{}, nil // that boot is over; this one's mappings are none of its
	}
	if due := c.due(survey, nf); len(due) > 0 {
		ctrl.LoggerFrom(ctx).Info("Releasing mappings of volumes that were moved away", "node", c.NodeName, "mappings", len(due))
		if err := c.release(ctx, due); err != nil {
			ctrl.LoggerFrom(ctx).Error(err, "Releasing mappings; the fence stays until they are gone", "node", c.NodeName)
		}
		if survey, err = c.Machine.Survey(ctx); err != nil {
			return reconcile.Result{}, fmt.Errorf("looking which images are still mapped: %w", err)
		}
	}
	if err := c.tell(ctx, nf, node.Cleared(survey, nf)); err != nil {
		return reconcile.Result{}, err
	}
	return reconcile.Result{RequeueAfter: lookEvery}, nil
}

// due are the mappings that should be gone since ClearAfter. The kubelet does it by itself as a rule, and better: it knows the pod.
func (c *Controller) due(survey node.Survey, nf *v1alpha1.NodeFence) []node.Mapping {
	seen := map[mapping]time.Time{}
	var due []node.Mapping
	for _, m := range node.MovedAway(survey, nf) {
		key := mapping{m.ID, m.ImageName(), m.Client}
		since, known := c.since[key]
		if !known {
			since = c.Clock.Now()
		}
		seen[key] = since
		if c.Clock.Since(since) >= c.ClearAfter {
			due = append(due, m)
		}
	}
	c.since = seen
	return due
}

func (c *Controller) release(ctx context.Context, due []node.Mapping) error {
	ctx, cancel := context.WithTimeout(ctx, releaseTimeout)
	defer cancel()
	return c.Machine.Release(ctx, func(s node.Survey) ([]node.Mapping, bool) {
		return slices.DeleteFunc(slices.Clone(s.Mappings), func(m node.Mapping) bool {
			return !slices.ContainsFunc(due, func(d node.Mapping) bool {
				return d.ID == m.ID && d.ImageName() == m.ImageName() && d.Client == m.Client
			})
		}), true // the NodeFence names them
	})
}

// tell writes what is left, if it differs from what is written.
func (c *Controller) tell(ctx context.Context, nf *v1alpha1.NodeFence, cleared v1alpha1.Cleared) error {
	before, err := v1alpha1.ParseCleared(nf.Annotations[v1alpha1.AnnotationCleared])
	cleared.At = before.At
	if err == nil && equality.Semantic.DeepEqual(before, cleared) {
		return nil
	}
	cleared.At = metav1.NewTime(c.Clock.Now().Truncate(time.Second))
	text, err := json.Marshal(cleared)
	if err != nil {
		return fmt.Errorf("encoding what is left: %w", err)
	}
	ctrl.LoggerFrom(ctx).Info("Telling which mappings are left", "node", c.NodeName, "left", len(cleared.Left))
	after := nf.DeepCopy()
	if after.Annotations == nil {
		after.Annotations = map[string]string{}
	}
	after.Annotations[v1alpha1.AnnotationCleared] = string(text)
	if err := c.Client.Patch(ctx, after, client.MergeFrom(nf)); err != nil {
		return fmt.Errorf("telling on NodeFence %s which mappings are left: %w", nf.Name, err)
	}
	return nil
}
