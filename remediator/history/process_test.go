package history

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	toolscache "k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/events"
	"k8s.io/utils/clock"
	"pgregory.net/rapid"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	corev1 "k8s.io/api/core/v1"

	"github.com/rbd-rescue/rbd-rescue/api/v1alpha1"
	"github.com/rbd-rescue/rbd-rescue/ceph"
	"github.com/rbd-rescue/rbd-rescue/ceph/cephtest"
	"github.com/rbd-rescue/rbd-rescue/remediator"
	"github.com/rbd-rescue/rbd-rescue/remediator/announce"
	"github.com/rbd-rescue/rbd-rescue/remediator/detector"
	"github.com/rbd-rescue/rbd-rescue/remediator/flagger"
	"github.com/rbd-rescue/rbd-rescue/remediator/observe"
	"github.com/rbd-rescue/rbd-rescue/remediator/plan"
	"github.com/rbd-rescue/rbd-rescue/remediator/recorder"
	"github.com/rbd-rescue/rbd-rescue/remediator/rescuer"
	"github.com/rbd-rescue/rbd-rescue/remediator/retention"
)

// process is rbd-rescue's remediator: its controllers, and the caches that they read from.
type process struct {
	world *world
	cache objects
	// lock: entries are written side by side.
	lock sync.Mutex
	// crashIn counts the writes until it crashes; 0 for never.
	crashIn int
	crashed bool

	clock    *ownClock
	recorder *recorder.Controller
	detector *detector.Controller
	rescuer  *rescuer.Controller
	flagger  *flagger.Controller
	retained *retention.Controller
	// due is when each NodeFence and each node is to be looked at again.
	due map[string]time.Time
}

// kinds that rbd-rescue keeps caches of. Each may be old by itself.
var kinds = []string{"Node", "Pod", "PersistentVolume", "PersistentVolumeClaim", "Namespace", "VolumeAttachment", "NodeFence"}

func newProcess(w *world, state objects) *process {
	p := &process{world: w, cache: w.stripped(state, kinds...), due: map[string]time.Time{}, clock: &ownClock{PassiveClock: w.clock}}
	if w.process != nil {
		p.clock.wrong = w.process.clock.wrong
	}
	cached := kube{world: w, state: func() objects { return p.cache }}
	live := kube{world: w, state: func() objects { return w.api.objects }}
	clusters := ceph.NewClusters(map[string]ceph.Dial{"c1": func(context.Context) (ceph.Conn, error) {
		return conn{Cluster: w.ceph, world: w}, nil
	}})
	observer := &observe.Observer{Reader: cached, Live: live, Clusters: clusters, Clock: p.clock, Namespace: "rbd-rescue", Settings: plan.DefaultSettings()}
	announcer := announce.New(&events.FakeRecorder{}, p.clock) // no channel: it drops them
	p.recorder = &recorder.Controller{Client: cached, Observer: observer, Clusters: clusters, Clock: p.clock}
	p.detector = &detector.Controller{Client: cached, Observer: observer, Announcer: announcer}
	p.rescuer = &rescuer.Controller{Client: cached, Live: live, Observer: observer, Clusters: clusters, Announcer: announcer, WritesAtOnce: 1}
	p.flagger = &flagger.Controller{Client: cached, Live: live, Observer: observer, Announcer: announcer}
	p.retained = &retention.Controller{Client: cached, Live: live, Clusters: clusters, Announcer: announcer, Clock: p.clock, Settings: plan.DefaultSettings()}
	return p
}

// ownClock is that of the process's host: it is wrong by some seconds, and jumps.
type ownClock struct {
	clock.PassiveClock
	wrong time.Duration
}

func (c *ownClock) Now() time.Time { return c.PassiveClock.Now().Add(c.wrong) }

func (c *ownClock) Since(t time.Time) time.Duration { return c.Now().Sub(t) }

var errCrashed = errors.New("the process is gone")

func (p *process) alive() error {
	if p.crashed {
		return errCrashed
	}
	return nil
}

// write is asked before each write to the API or to Ceph.
func (p *process) write(what string) error {
	p.lock.Lock()
	defer p.lock.Unlock()
	if p.crashIn > 0 {
		if p.crashIn--; p.crashIn == 0 {
			p.crashed = true
			p.world.happened["crash"]++
			p.world.tell("rbd-rescue crashes before it would %s", what)
		}
	}
	if p.crashed {
		return errCrashed
	}
	p.world.tell("rbd-rescue: %s", what)
	return nil
}

// catchUp brings caches up to date.
func (p *process) catchUp(kinds ...string) {
	p.cache.catchUp(p.world.stripped(p.world.api.objects, kinds...), kinds...)
}

// transforms are those of the remediator's caches, by kind: what they leave out nobody may read.
var transforms = func() map[string]toolscache.TransformFunc {
	all := map[string]toolscache.TransformFunc{}
	for object, options := range remediator.CacheOptions().ByObject {
		all[kindOf(object)] = options.Transform
	}
	return all
}()

// stripped are the objects of some kinds in a state of the API as the remediator's caches have them.
func (w *world) stripped(state objects, kinds ...string) objects {
	stripped := objects{}
	for _, kind := range kinds {
		transform := transforms[kind]
		if transform == nil {
			stripped[kind] = state[kind]
			continue
		}
		for _, whole := range state[kind] {
			if w.strips[whole] == nil {
				one, err := transform(whole.DeepCopyObject())
				if err != nil {
					w.Fatal(err)
				}
				w.strips[whole] = one.(client.Object)
			}
			if remediator.Keeps(w.strips[whole]) {
				stripped[kind] = append(stripped[kind], w.strips[whole])
			}
		}
	}
	return stripped
}

func (p *process) lookAtVolume(name string) {
	p.look(p.recorder, name)
}

// lookAtNode is a look at one node, or at all that are in trouble for an empty name.
func (p *process) lookAtNode(name string) { p.look(p.detector, name) }

func (p *process) lookAtFence(name string) {
	if p.look(p.rescuer, name) {
		p.world.looked(name)
	}
}

// lookAtFlags is a look at all flags and gates; with caches that are up to date it opens each gate that has no reason (S9).
func (p *process) lookAtFlags() {
	stale := p.stale(kinds...)
	if p.look(p.flagger, "flags") && !stale {
		p.world.checkGatesLeft()
	}
}

// lookAtSnapshots is a look at all of them.
func (p *process) lookAtSnapshots() { p.look(p.retained, "snapshots") }

// look is one reconciliation; what fails is tried again, as the work queue would.
func (p *process) look(controller reconcile.Reconciler, name string) bool {
	if p.crashed {
		return false
	}
	defer p.world.failIfBroken()
	defer p.world.remember()
	result, err := controller.Reconcile(context.Background(), reconcile.Request{NamespacedName: client.ObjectKey{Name: name}})
	key := fmt.Sprintf("%T %s", controller, name)
	delete(p.due, key)
	if err != nil {
		p.due[key] = p.world.now().Add(time.Second)
		p.world.checkError(err)
		return false
	}
	if result.RequeueAfter > 0 {
		p.due[key] = p.world.now().Add(result.RequeueAfter)
	}
	return true
}

// lookAtAll is a remediator that has nothing else to do, with caches that are up to date.
func (p *process) lookAtAll() {
	p.catchUp(kinds...)
	for _, pv := range list[*corev1.PersistentVolume](p.world.api.objects) {
		p.lookAtVolume(pv.Name)
	}
	for _, m := range p.world.machines {
		p.lookAtNode(m.name)
	}
	p.catchUp("NodeFence")
	p.lookAtFlags()
	p.catchUp(kinds...)
	for range 3 {
		for _, nf := range p.world.fences() {
			if nf.Active() || nf.DeletionTimestamp != nil {
				p.lookAtFence(nf.Name)
				p.catchUp(kinds...)
			}
		}
	}
	p.lookAtSnapshots()
	p.lookAtFlags()
}

// renew looks at every NodeFence whose time has come.
func (p *process) renew() {
	for _, nf := range p.world.fences() {
		if nf.Active() {
			p.lookAtFence(nf.Name)
		}
	}
}

// lookAround is what a process does when it starts: it looks at everything that its caches list.
func (p *process) lookAround() {
	for _, pv := range list[*corev1.PersistentVolume](p.cache) {
		p.lookAtVolume(pv.Name)
	}
	for _, node := range list[*corev1.Node](p.cache) {
		p.lookAtNode(node.Name)
	}
	for _, nf := range list[*v1alpha1.NodeFence](p.cache) {
		p.lookAtFence(nf.Name)
	}
	p.lookAtFlags()
}

// restart starts a new process in place of the old one, which has crashed or leads no more.
func (w *world) restart(cache objects) {
	w.process = newProcess(w, cache)
	w.tell("rbd-rescue starts")
}

// oldCaches are those of a process that starts: informers take whatever an API server has for their first list
// (resourceVersion 0), so that each kind is as old as it may be.
func (w *world) oldCaches(t *rapid.T) objects {
	cache := maps.Clone(w.api.objects)
	if rapid.IntRange(0, 3).Draw(t, "caches are fresh") == 0 {
		return cache
	}
	for _, kind := range kinds {
		if back := rapid.IntRange(0, len(w.past)).Draw(t, "states that "+kind+" is behind"); back > 0 {
			then := w.past[len(w.past)-back]
			cache.catchUp(then.objects, kind)
			w.tell("the cache of %s is as of %s", kind, then.at.Format("15:04:05"))
		}
	}
	return cache
}

// conn is Ceph as rbd-rescue reaches it: every change is checked.
type conn struct {
	*cephtest.Cluster
	world *world
}

func (c conn) MonCommand(ctx context.Context, text []byte) ([]byte, error) {
	var command struct {
		Prefix      string
		BlocklistOp string
		Addr        string
		Expire      float64
	}
	if err := json.Unmarshal(text, &command); err != nil {
		return nil, err
	}
	if command.Prefix != "osd blocklist" {
		return c.Cluster.MonCommand(ctx, text)
	}
	if err := c.world.process.write(fmt.Sprintf("blocklist %s %s", command.BlocklistOp, command.Addr)); err != nil {
		return nil, err
	}
	c.world.process.lock.Lock()
	defer c.world.process.lock.Unlock()
	if c.world.monsDown {
		return c.Cluster.MonCommand(ctx, text)
	}
	removes := command.BlocklistOp == "rm"
	if removes {
		c.world.checkRemove(command.Addr)
	} else {
		c.world.checkAdd(command.Addr)
	}
	if c.world.doubt != "" {
		return nil, c.world.keepBack(lateCommand{address: command.Addr, removes: removes, lasts: time.Duration(command.Expire) * time.Second})
	}
	return c.Cluster.MonCommand(ctx, text)
}

var errHangs = fmt.Errorf("no answer: %w", ceph.ErrInDoubt)

// lateCommand was not answered, and the monitors carry it out all the same.
type lateCommand struct {
	at      time.Time
	address string
	removes bool
	lasts   time.Duration
}

// keepBack leaves a command in doubt: it is carried out later, or never.
func (w *world) keepBack(command lateCommand) error {
	w.happened["command in doubt"]++
	if w.doubt == "late" {
		command.at = w.now().Add(w.lateBy)
		w.late = append(w.late, command)
	}
	return errHangs
}

// arrive lets the commands come that are due.
func (w *world) arrive() {
	due := slices.DeleteFunc(slices.Clone(w.late), func(c lateCommand) bool { return c.at.After(w.now()) })
	w.late = slices.DeleteFunc(w.late, func(c lateCommand) bool { return !c.at.After(w.now()) })
	slices.SortStableFunc(due, func(a, b lateCommand) int { return cmp.Or(a.at.Compare(b.at), strings.Compare(a.address, b.address)) })
	for _, c := range due {
		if c.removes {
			w.tell("%s leaves the blocklist late", c.address)
			w.happened["entry left late"]++
			w.checkLeft(c.address)
			w.ceph.Tamper(ceph.MustParseAddress(c.address), w.now())
			continue
		}
		w.tell("%s comes on the blocklist late", c.address)
		w.happened["entry came late"]++
		if !slices.Contains(w.ceph.Blocklist(), c.address) { // one that stands keeps its end
			w.ceph.Tamper(ceph.MustParseAddress(c.address), c.at.Add(c.lasts))
		}
		w.checkArrived(c.address)
	}
}

func (w *world) cephFails() error {
	if w.process != nil && w.process.crashed {
		return errCrashed
	}
	if w.monsDown {
		return errHangs
	}
	return nil
}

// checkError fails on errors that no fault of the history explains.
func (w *world) checkError(err error) {
	switch {
	case errors.Is(err, errCrashed), errors.Is(err, ceph.ErrInDoubt), apierrors.IsConflict(err), apierrors.IsInvalid(err), apierrors.IsNotFound(err):
	default:
		w.broken("unexpected error", "%v", err)
	}
}

func drawOne[T any](t *rapid.T, from []T, label string) (T, bool) {
	var none T
	if len(from) == 0 {
		return none, false
	}
	return from[rapid.IntRange(0, len(from)-1).Draw(t, label)], true
}

func activeFences(fences []*v1alpha1.NodeFence) []*v1alpha1.NodeFence {
	return slices.DeleteFunc(slices.Clone(fences), func(nf *v1alpha1.NodeFence) bool { return !nf.Active() })
}
