package agent

import (
	"context"
	"slices"
	"time"

	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"

	"github.com/rbd-rescue/rbd-rescue/node"
)

const (
	// askEvery is how often the API is asked whether it is there.
	askEvery = 5 * time.Second
	// failuresInARow: a machine that was frozen has not been cut off, whatever its clock says.
	failuresInARow = 3
)

// Rescued gives the namespaces that have opted in to mode rescue, by the API's own word of now.
type Rescued func(ctx context.Context) (map[string]bool, error)

// CutOff lets go all mappings of opted-in namespaces once the API has not answered for a time: the pods there are lost to Kubernetes, and
// what they have written is flushed while Ceph still takes it.
type CutOff struct {
	// After this time.
	After   time.Duration
	Rescued Rescued
	Machine Machine
	Clock   clock.WithTicker
}

// contact is what is known of the API.
type contact struct {
	last     time.Time
	failures int
	// namespaces had opted in when it answered last; an agent that was started since then knows none, and lets nothing go.
	namespaces map[string]bool
	released   bool
}

// due tells whether it is time: not answered for the time, several asks in a row, and not done already.
func (c contact) due(now time.Time, after time.Duration) bool {
	return c.namespaces != nil && !c.released && c.failures >= failuresInARow && now.Sub(c.last) >= after
}

// Start implements manager.Runnable.
func (c *CutOff) Start(ctx context.Context) error {
	ticker := c.Clock.NewTicker(askEvery)
	defer ticker.Stop()
	var state contact
	for {
		state = c.ask(ctx, state)
		if state.due(c.Clock.Now(), c.After) {
			ctrl.LoggerFrom(ctx).Info("Releasing mappings, since the API does not answer", "since", state.last)
			state.released = c.release(ctx, state.namespaces) == nil
		}
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C():
		}
	}
}

func (c *CutOff) ask(ctx context.Context, state contact) contact {
	ctx, cancel := context.WithTimeout(ctx, askEvery)
	defer cancel()
	namespaces, err := c.Rescued(ctx)
	if err != nil {
		if state.failures++; state.failures == 1 {
			ctrl.LoggerFrom(ctx).Error(err, "The API does not say which namespaces have opted in; it is asked again")
		}
		return state
	}
	if state.namespaces == nil || state.failures > 0 {
		ctrl.LoggerFrom(ctx).Info("The API says which namespaces have opted in", "namespaces", len(namespaces))
	}
	return contact{last: c.Clock.Now(), namespaces: namespaces}
}

func (c *CutOff) release(ctx context.Context, namespaces map[string]bool) error {
	ctx, cancel := context.WithTimeout(ctx, releaseTimeout)
	defer cancel()
	err := c.Machine.Release(ctx, func(s node.Survey) ([]node.Mapping, bool) {
		return slices.DeleteFunc(slices.Clone(s.Mappings), func(m node.Mapping) bool { return !ofNamespaces(m, namespaces) }), false
	})
	if err != nil {
		ctrl.LoggerFrom(ctx).Error(err, "Releasing mappings; it is tried again")
	}
	return err
}

// ofNamespaces tells whether all pods that use a mapping are known, and of these namespaces (S6).
func ofNamespaces(m node.Mapping, namespaces map[string]bool) bool {
	return len(m.Pods) > 0 && !slices.ContainsFunc(m.Pods, func(p node.Pod) bool { return !namespaces[p.Namespace] })
}
