package history

import (
	"cmp"
	"flag"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"pgregory.net/rapid"
	ctrl "sigs.k8s.io/controller-runtime"

	"github.com/rbd-rescue/rbd-rescue/api/v1alpha1"
	"github.com/rbd-rescue/rbd-rescue/remediator/observe"
	"github.com/rbd-rescue/rbd-rescue/remediator/plan"
	"github.com/rbd-rescue/rbd-rescue/volume"
)

func TestMain(m *testing.M) {
	ctrl.SetLogger(logr.Discard())
	flag.Parse()
	// The same histories each time, and few of them; `make test-history` makes many. -rapid.seed=N makes others.
	for name, value := range map[string]string{"rapid.seed": "20261123", "rapid.checks": "10"} {
		if given := flag.Lookup(name); given.Value.String() == given.DefValue {
			_ = flag.Set(name, value)
		}
	}
	os.Exit(m.Run())
}

// enough steps for everything that matters to come to pass: as many as `make test-history` makes.
const enough = 50_000

// S1 to S9 hold after every write of every history.
func TestTheRulesHoldInEveryHistory(t *testing.T) {
	t.Parallel()
	seen := map[string]int{}
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(t)
		t.Repeat(counted(w.actions(), seen))
		w.count(seen)
	})
	t.Logf("seen: %v", seen)
	if seen["step"] < enough {
		return
	}
	for _, what := range []string{
		"node fenced", "whole host fenced", "pod force-deleted", "attachment deleted", "volumesInUse cleared", "stale write refused",
		"fence lifted", "lifted by the node's word", "fence overridden", "fence cancelled", "entry renewed", "pod deleted gracefully", "crash", "change of leaders", "fenced twice", "entry came late", "entry left late", "process restarted", "clock jump", "foreign entry", "foreign entry left", "moved, then cut off", "pod gated", "gate opened", "storm", "provisioner worked",
		"snapshot taken", "snapshot refused", "snapshot came late", "snapshot removed", "held for its snapshot",
		"refused ClientUnknown", "refused SharedAddress", "refused CephDaemonHost", "refused UnfencedStorage", "refused BarePod",
	} {
		if seen[what] == 0 {
			t.Errorf("no history has: %s", what) // the rules would hold because nothing happens
		}
	}
}

func counted(actions map[string]func(*rapid.T), seen map[string]int) map[string]func(*rapid.T) {
	for name, act := range actions {
		actions[name] = func(t *rapid.T) { seen["step"]++; act(t) }
	}
	return actions
}

// count adds what has come to pass.
func (w *world) count(seen map[string]int) {
	for what, times := range w.happened {
		seen[what] += times
	}
	for _, nf := range w.fences() {
		if nf.Status.Times.FencedAt != nil {
			seen["node fenced"]++
		}
		switch {
		case nf.Status.Phase == v1alpha1.PhaseCancelled:
			seen["fence cancelled"]++
		case nf.Status.Phase == v1alpha1.PhaseLifted && nf.Annotations[v1alpha1.AnnotationLift] != "":
			seen["fence overridden"]++
		case nf.Status.Phase == v1alpha1.PhaseLifted:
			seen["fence lifted"]++
		}
		for _, c := range nf.Status.Clients {
			if c.Scope == v1alpha1.ScopeHost {
				seen["whole host fenced"]++
			}
			if c.Foreign && nf.Status.Phase == v1alpha1.PhaseLifted {
				seen["foreign entry left"]++
			}
		}
		for _, v := range nf.Status.Volumes {
			if v.Phase == v1alpha1.VolumeRefused {
				seen["refused "+v.Reason]++
			}
		}
	}
}

// Whatever has happened: once faults end and machines have rebooted, every workload runs and no fence, no taint, no entry, no
// gate and no flag is left.
func TestEveryHistoryEndsWell(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(t)
		t.Repeat(w.actions())
		w.heal()
		for _, m := range w.machines {
			w.reboot(m)
		}
		w.liftUnknownMachines()
		w.until("everything runs and nothing is fenced", func() string {
			for _, nf := range w.fences() {
				if nf.Active() {
					return fmt.Sprintf("NodeFence %s is %s: %s", nf.Name, nf.Status.Phase, nf.Status.Message)
				}
				if nf.DeletionTimestamp != nil {
					return fmt.Sprintf("NodeFence %s is deleted and stays", nf.Name)
				}
			}
			for _, node := range list[*corev1.Node](w.api.objects) {
				if len(node.Spec.Taints) > 0 {
					return fmt.Sprintf("%s has taints %v", node.Name, node.Spec.Taints)
				}
			}
			if left := w.ceph.Blocklist(); len(left) > 0 {
				return fmt.Sprintf("%v are on the blocklist", left)
			}
			return cmp.Or(w.flagsLeft(), w.snapshotsLeft(), w.notRunning(""))
		})
	})
}

// Whatever has happened: once faults end, but for one machine that stays dead, what it held runs elsewhere, or the NodeFence
// says why not.
func TestEveryHistoryRescues(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(t)
		t.Repeat(w.actions())
		w.heal()
		dead := w.anyMachine(t)
		for _, m := range w.machines {
			if m != dead {
				w.reboot(m)
			}
		}
		dead.running = false
		w.tell("%s stays dead", dead.name)
		w.until("what "+dead.name+" held runs elsewhere", func() string { return w.notRunning(dead.name) })
	})
}

// Whatever has happened: a boot that gets a volume again after its recovery, since the pod tolerates the taint and the old
// mappings are gone, and that fails again, gives the volume up again.
func TestEveryBootThatFailsAgainIsRescuedAgain(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(t)
		w.agents = false // with one the fence is over by then
		db := func() *corev1.Pod { return w.podsOf(workloads[0])[0] }
		m := w.machine(db().Spec.NodeName)
		faults := []string{"frozen", "cut off from the API"}
		w.fail(m, rapid.SampledFrom(faults).Draw(t, "first"))
		w.until("db runs elsewhere", func() string { return w.notRunning(m.name) })
		w.recover(m)
		m.apiLink = true
		w.until(m.name+" has let go of its mappings", func() string { return strings.Join(m.images(), " ") })
		w.tell("a person force-deletes pod db-0")
		w.api.remove(keyOf(db()))
		w.until("db is back", func() string {
			if m.stale() || db().Spec.NodeName == m.name && db().Status.Phase == corev1.PodRunning {
				return "" // where its whole host is cut off, it only waits there
			}
			return "db runs elsewhere"
		})
		for range rapid.IntRange(0, 40).Draw(t, "looks") {
			w.looks(t)
			w.someTime(t)
		}
		w.fail(m, rapid.SampledFrom(faults).Draw(t, "again"))
		w.until("db runs elsewhere once more", func() string { return w.notRunning(m.name) })
	})
}

// Whoever leads, with caches however old: a boot that is cut off stays so while it may still run, also where the node's boot
// before it was well (S3, S4).
func TestEveryFenceOutlivesItsLeader(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(t)
		w.agents = false // one would end the fence while the boot runs, by its own proof
		m := w.machine(w.podsOf(workloads[0])[0].Spec.NodeName)
		for range rapid.IntRange(0, 2).Draw(t, "boots") {
			w.reboot(m)
			w.goOn(20 * time.Second)
		}
		w.fail(m, rapid.SampledFrom([]string{"frozen", "cut off from the API"}).Draw(t, "how"))
		w.until("db runs elsewhere", func() string { return w.notRunning(m.name) })
		for range rapid.IntRange(1, 10).Draw(t, "leaders") {
			w.anotherLeads(t)
			w.looks(t)
			w.someTime(t)
			m.running = rapid.Bool().Draw(t, "runs")
		}
		w.restart(maps.Clone(w.api.objects))
		w.goWell(3, 5*time.Second)
		if fences := activeFences(w.fences()); len(fences) == 0 {
			w.Fatalf("the fence of %s is gone\n%s", m.bootID(), strings.Join(w.story, "\n"))
		}
	})
}

// heal ends all faults but those of the machines.
func (w *world) heal() {
	w.tell("---- faults end")
	w.cephWell()
	w.removeForeign()
	for _, m := range w.machines {
		m.apiLink, m.cephLink, m.ready = true, true, true
	}
	w.annotate("shop", v1alpha1.AnnotationMode, "rescue")
	w.annotate("shop", v1alpha1.AnnotationAllow, "")
	w.annotate("shop", v1alpha1.AnnotationSnapshot, "")
	w.annotate("rbd-rescue", v1alpha1.AnnotationPaused, "")
	w.webhook.down, w.webhook.stale = false, false
	w.restart(maps.Clone(w.api.objects))
	for _, nf := range activeFences(w.fences()) {
		if !nf.Spec.Automatic && len(nf.Status.Clients) == 0 { // or it would fence the next pod there
			w.tell("a person deletes NodeFence %s", nf.Name)
			w.api.remove(keyOf(nf))
		}
	}
}

// liftUnknownMachines is a person who does as the NodeFence says, where nothing told which machine it is that was cut off: somebody
// had fenced a node whose object was gone, and which was not on record.
func (w *world) liftUnknownMachines() {
	for _, nf := range activeFences(w.fences()) {
		if nf.Spec.MachineID == "" && nf.Spec.SystemUUID == "" {
			w.lift(nf)
		}
	}
}

// until lets everything go on until check finds nothing amiss.
func (w *world) until(what string, check func() string) {
	amiss := ""
	for range 200 {
		w.goOn(5 * time.Second)
		if amiss = check(); amiss == "" {
			return
		}
	}
	for _, nf := range w.fences() {
		w.tell("NodeFence %s of %s is %s: %s", nf.Name, nf.Spec.BootID, nf.Status.Phase, nf.Status.Message)
		for _, v := range nf.Status.Volumes {
			w.tell("- %s is %s %s %s", v.PersistentVolume, v.Phase, v.Reason, v.Message)
		}
	}
	w.broken("liveness", "%s: not so after %s: %s", what, 200*5*time.Second, amiss)
	w.failIfBroken()
}

// notRunning is a workload that does not run, though nothing that the NodeFences say explains it.
func (w *world) notRunning(dead string) string {
	for _, l := range w.workloads {
		pods := w.podsOf(l)
		running := slices.DeleteFunc(slices.Clone(pods), func(pod *corev1.Pod) bool {
			return pod.Status.Phase != corev1.PodRunning || volume.Terminating(pod) || pod.Spec.NodeName == dead
		})
		if len(running) >= l.pods() || l.bare && len(pods) == 0 || dead != "" && (w.refused(l) || w.bootUnknown(dead)) {
			continue
		}
		if dead != "" && w.personTookOver(dead) && w.goneWith(dead, l) {
			continue // nobody can tell whether that boot has come back since the person's word
		}
		if slices.ContainsFunc(pods, plan.Gated) { // S9: also where a person has taken over
			return fmt.Sprintf("%s/%s is gated", l.namespace, l.name)
		}
		if dead != "" && (l.namespace != "shop" || w.personTookOver(dead)) {
			continue
		}
		return fmt.Sprintf("%s/%s does not run", l.namespace, l.name)
	}
	return ""
}

// personTookOver: a person has lifted the fence of the boot that the dead machine last reported.
func (w *world) personTookOver(name string) bool {
	boot := w.machine(name).bootID()
	if node, there := get[*corev1.Node](w.api.objects, "", name); there {
		boot = volume.BootID(node)
	}
	return slices.ContainsFunc(w.fences(), func(nf *v1alpha1.NodeFence) bool {
		return nf.Spec.NodeName == name && nf.Spec.BootID == boot && nf.Annotations[v1alpha1.AnnotationLift] == boot
	})
}

// goneWith: the dead machine's Node object is gone while a volume of the workload is attached to it.
func (w *world) goneWith(dead string, l workload) bool {
	_, there := get[*corev1.Node](w.api.objects, "", dead)
	return !there && slices.ContainsFunc(l.claims, func(claim string) bool { return w.attachmentOf(volumeOf(claim), dead) != nil })
}

// bootUnknown: the dead machine's Node object is gone, and no record tells which boot had its volumes, as where Ceph was away since
// its first one. The detector refuses it, for the end of that boot could not be told.
func (w *world) bootUnknown(dead string) bool {
	if _, there := get[*corev1.Node](w.api.objects, "", dead); there {
		return false
	}
	boots := map[string]bool{}
	for _, va := range list[*storagev1.VolumeAttachment](w.api.objects) {
		name, _ := volume.Attached(va)
		pv, _ := get[*corev1.PersistentVolume](w.api.objects, "", name)
		if record, recorded := observe.Record(pv)[dead]; recorded && va.Spec.NodeName == dead {
			boots[record.BootID] = true
		}
	}
	return len(boots) != 1
}

func (w *world) refused(l workload) bool {
	for _, nf := range activeFences(w.fences()) {
		for _, v := range nf.Status.Volumes {
			hindered := v.Phase == v1alpha1.VolumeReleasing && v.Reason != ""
			if (v.Phase == v1alpha1.VolumeRefused || hindered) && slices.ContainsFunc(l.claims, func(claim string) bool { return v.Claim == l.namespace+"/"+claim }) {
				return true
			}
		}
	}
	return false
}
