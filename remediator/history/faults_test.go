package history

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"pgregory.net/rapid"

	"github.com/rbd-rescue/rbd-rescue/api/v1alpha1"
	"github.com/rbd-rescue/rbd-rescue/ceph"
	"github.com/rbd-rescue/rbd-rescue/volume"
)

// actions are everything that may happen next.
func (w *world) actions() map[string]func(*rapid.T) {
	return map[string]func(*rapid.T){
		"time passes":        w.someTime,
		"a long time passes": w.longTime,
		"a machine fails":    w.machineFails,
		"a machine recovers": func(t *rapid.T) { w.recover(w.anyMachine(t)) },
		"many machines fail": w.storm,
		"all is well again":  w.calm,
		"the webhook fails":  w.webhookChanges,
		"a machine reboots":  func(t *rapid.T) { w.reboot(w.anyMachine(t)) },
		"a link changes":     w.linkChanges,
		"Ceph fails":         w.cephChanges,
		"a manager works":    w.managerWorks,
		"a provisioner does": w.provisionerWorks,
		"rbd-nbd restarts":   w.processRestarts,
		"somebody tampers":   w.tamper,
		"somebody fences":    w.somebodyFences,
		"out of service":     w.outOfService,
		"a person meddles":   w.meddle,
		"a person fences":    func(t *rapid.T) { w.personFences(t, w.anyMachine(t)) },
		"and once more":      w.personFencesAgain,
		"a person lifts":     w.personLifts,
		"a cache catches up": func(t *rapid.T) { w.process.catchUp(rapid.SampledFrom(kinds).Draw(t, "kind")) },
		"rbd-rescue looks":   w.looks,
		"rbd-rescue goes on": func(*rapid.T) { w.goOn(5 * time.Second) },
		"a minute goes well": func(*rapid.T) { w.goWell(12, 5*time.Second) },
		"a while goes well":  func(*rapid.T) { w.goWell(12, 20*time.Second) },
		"rbd-rescue crashes": w.crashes,
		"another one leads":  w.anotherLeads,
		"its clock jumps":    w.clockJumps,
	}
}

func (w *world) anyMachine(t *rapid.T) *machine {
	return rapid.SampledFrom(w.machines).Draw(t, "machine")
}

func (w *world) someTime(t *rapid.T) {
	w.pass(time.Duration(rapid.IntRange(1, 20).Draw(t, "seconds")) * time.Second)
}

// longTime is long enough for what ends by itself, but not for an entry that nobody renews: rbd-rescue is there meanwhile.
func (w *world) longTime(t *rapid.T) {
	for range rapid.IntRange(1, 12).Draw(t, "steps") {
		w.pass(rapid.SampledFrom([]time.Duration{10 * time.Second, time.Minute}).Draw(t, "step"))
	}
	if rapid.IntRange(0, 9).Draw(t, "years") > 0 || w.process.crashed || w.monsDown || w.doubt != "" {
		return
	}
	for range 6 {
		w.elapse(60 * 24 * time.Hour)
		w.process.catchUp(kinds...)
		w.process.renew()
		w.tell("two months have passed")
		if w.process.crashed {
			return // nobody renews any more
		}
	}
}

func (w *world) machineFails(t *rapid.T) {
	w.fail(w.anyMachine(t), rapid.SampledFrom([]string{"frozen", "off", "kubelet sick"}).Draw(t, "how"))
}

// storm lets many machines fail at once: with a kubelet that is sick the containers go on writing.
func (w *world) storm(t *rapid.T) {
	how := rapid.SampledFrom([]string{"kubelet sick", "kubelet sick", "frozen", "cut off from the API"}).Draw(t, "how")
	for _, m := range w.machines {
		if rapid.IntRange(0, 3).Draw(t, m.name) > 0 {
			w.fail(m, how)
		}
	}
	w.happened["storm"]++
}

func (w *world) fail(m *machine, how string) {
	switch how {
	case "frozen":
		m.running = false
	case "off":
		m.running, m.off = false, true
	case "kubelet sick":
		m.ready = false
	case "cut off from the API":
		m.apiLink = false
	}
	w.tell("%s fails: %s", m.name, how)
}

// recover thaws a machine, boots one that is off, or heals its kubelet.
func (w *world) recover(m *machine) {
	m.ready = true
	if m.off {
		w.reboot(m)
		return
	}
	if !m.running {
		w.tell("%s thaws", m.name)
	}
	m.running = true
}

func (w *world) calm(*rapid.T) {
	w.tell("all is well again")
	for _, m := range w.machines {
		w.recover(m)
		m.apiLink, m.cephLink = true, true
	}
	w.cephWell()
}

func (w *world) webhookChanges(t *rapid.T) {
	w.webhook.down, w.webhook.stale = rapid.Bool().Draw(t, "down"), rapid.Bool().Draw(t, "stale")
	w.tell("the webhook: down %v, its cache stands still %v", w.webhook.down, w.webhook.stale)
}

func (w *world) reboot(m *machine) {
	m.boot++
	m.running, m.off, m.ready = true, false, true
	clear(m.mapped)
	w.tell("%s boots as %s", m.name, m.bootID())
}

func (w *world) linkChanges(t *rapid.T) {
	m := w.anyMachine(t)
	m.apiLink, m.cephLink = rapid.Bool().Draw(t, "to the API"), rapid.Bool().Draw(t, "to Ceph")
	w.tell("%s: link to the API %v, to Ceph %v", m.name, m.apiLink, m.cephLink)
}

func (w *world) cephChanges(t *rapid.T) {
	switch rapid.SampledFrom([]string{"mons", "doubt", "lag", "lag", "no snapshots", "well"}).Draw(t, "what") {
	case "mons":
		w.monsDown = true
		w.tell("the monitors are down")
	case "doubt":
		w.doubt = rapid.SampledFrom([]string{"late", "never"}).Draw(t, "it is done")
		w.lateBy = time.Duration(rapid.IntRange(1, 50).Draw(t, "seconds late")) * time.Second
		w.tell("nobody is told what becomes of the blocklist: it is done %s (%s)", w.doubt, w.lateBy)
	case "lag":
		w.lag(rapid.SampledFrom([]string{"rbd", "ssd"}).Draw(t, "pool"), rapid.Bool().Draw(t, "all of it"))
	case "no snapshots":
		w.snapshots.refused = true
		w.tell("Ceph refuses snapshots")
	case "well":
		w.cephWell()
	}
}

// lag keeps one placement group of a pool, or all, at the map that they have now.
func (w *world) lag(pool string, all bool) {
	number := uint32(1)
	if all {
		number = placementGroups
	}
	for i := range number {
		group := placementGroup{pool, i}
		if _, lags := w.lagging[group]; !lags {
			w.lagging[group] = w.ceph.Blocklist()
			w.ceph.LagPlacementGroup(pool, i, true)
		}
	}
	w.tell("%d placement groups of pool %s lag behind, at %v", number, pool, w.lagging[placementGroup{pool, 0}])
}

// managerWorks: a manager flattens an image, or takes a scheduled snapshot of it.
func (w *world) managerWorks(t *rapid.T) {
	w.managed = rapid.SampledFrom(slices.Sorted(maps.Keys(pools))).Draw(t, "image")
	w.tell("a manager has %s open as %s", w.managed, manager)
	w.tellCephWhoWatches()
}

// processRestarts at any machine that runs, as when the node plugin is updated.
func (w *world) processRestarts(t *rapid.T) {
	mappings := slices.DeleteFunc(w.mappings(), func(mp *mapping) bool {
		return !isProcess(mp.image) || !mp.machine.running || !mp.machine.cephLink || mp.machine.hostCutOff()
	})
	mp, any := drawOne(t, mappings, "mapping")
	if !any {
		t.Skip("no such process runs")
	}
	mp.machine.restartProcess(mp.image)
	w.tellCephWhoWatches()
}

func (w *world) cephWell() {
	w.monsDown, w.managed, w.provisioned, w.doubt, w.snapshots.refused = false, "", "", "", false
	clear(w.lagging)
	w.ceph.Lag(false)
	w.tell("Ceph is well")
}

// tamper removes or shortens an entry behind rbd-rescue's back.
func (w *world) tamper(t *rapid.T) {
	entry, any := drawOne(t, w.ceph.Blocklist(), "entry")
	if !any {
		t.Skip("nothing is on the blocklist")
	}
	left := rapid.SampledFrom([]time.Duration{0, time.Minute, 20 * time.Minute}).Draw(t, "left")
	w.ceph.Tamper(ceph.MustParseAddress(entry), w.now().Add(left))
	w.tampered[entry] = true
	w.forgetForeign()
	w.tell("somebody lets %s run out in %s", entry, left)
}

// somebodyFences is another fence than rbd-rescue's, as ceph-csi's, or Ceph's own of a client whose lock is broken: of a client, or
// of its whole host.
func (w *world) somebodyFences(t *rapid.T) {
	mp, any := drawOne(t, w.mappings(), "mapping")
	if !any {
		t.Skip("nothing is mapped")
	}
	entry := mp.client
	if rapid.Bool().Draw(t, "the whole host") {
		entry = host(entry)
	}
	if slices.Contains(w.ceph.Blocklist(), entry) || len(activeFences(w.askingFor(entry))) > 0 {
		t.Skip("rbd-rescue fences it")
	}
	lasts := rapid.SampledFrom([]time.Duration{20 * time.Minute, time.Hour, 20 * 365 * 24 * time.Hour}).Draw(t, "for")
	w.ceph.Tamper(ceph.MustParseAddress(entry), w.now().Add(lasts))
	w.foreign[entry] = true
	w.happened["foreign entry"]++
	w.tell("somebody else puts %s on the blocklist for %s", entry, lasts)
}

// movedUnfenced excuses a mapping until its client is said to be cut off.
const movedUnfenced = "Kubernetes has moved its volume with no fence"

// outOfService is a person who calls a node so that is not: Kubernetes force-deletes its pods and detaches what they had, while the
// machine may run. Volumes that several nodes may have are left out: what Kubernetes does there needs no such word.
func (w *world) outOfService(t *rapid.T) {
	m := w.anyMachine(t)
	node, there := get[*corev1.Node](w.api.objects, "", m.name)
	if !there {
		t.Skip("its Node object is gone")
	}
	if _, failed := volume.Failed(node); !failed {
		t.Skip("it is well")
	}
	w.tell("a person calls %s out of service", m.name)
	for _, pod := range list[*corev1.Pod](w.api.objects) {
		if pod.Spec.NodeName == m.name && !workloadOf(pod).shared {
			w.api.objects.remove(keyOf(pod))
		}
	}
	for _, va := range list[*storagev1.VolumeAttachment](w.api.objects) {
		pv, _ := volume.Attached(va)
		image := strings.TrimPrefix(pv, "pv-")
		if va.Spec.NodeName != m.name || isShared(image) {
			continue
		}
		w.api.objects.remove(keyOf(va))
		if mp := m.mapped[image]; mp != nil && (w.accepts(mp.client, image) || w.cutOffByOthersAlone(mp.client)) {
			mp.excused = movedUnfenced
			w.happened["moved with no fence"]++
		}
	}
}

// cutOffByOthersAlone tells whether nothing keeps a client from writing but what may end at any time, and is none of rbd-rescue's.
func (w *world) cutOffByOthersAlone(client string) bool {
	return !slices.ContainsFunc(w.ceph.Blocklist(), func(entry string) bool {
		return (entry == client || entry == host(client)) && !w.foreign[entry]
	})
}

// forgetForeign: what is gone is nobody's any more.
func (w *world) forgetForeign() {
	listed := w.ceph.Blocklist()
	for entry := range w.foreign {
		if !slices.Contains(listed, entry) {
			delete(w.foreign, entry)
		}
	}
}

// removeForeign is a person who does as rbd-rescue says of entries that are not its own.
func (w *world) removeForeign() {
	for _, entry := range slices.Sorted(maps.Keys(w.foreign)) {
		w.ceph.Tamper(ceph.MustParseAddress(entry), w.now())
		w.tampered[entry] = true
		w.tell("a person removes %s, which somebody else had put there", entry)
	}
	w.forgetForeign()
}

func (w *world) meddle(t *rapid.T) {
	switch what := rapid.SampledFrom([]string{"delete pod", "delete node", "mode", "allow", "snapshot", "pause"}).Draw(t, "what"); what {
	case "delete pod":
		if pod, any := drawOne(t, list[*corev1.Pod](w.api.objects), "pod"); any {
			w.tell("a person force-deletes pod %s", pod.Name)
			w.api.remove(keyOf(pod))
		}
	case "delete node":
		if node, any := drawOne(t, list[*corev1.Node](w.api.objects), "node"); any {
			w.tell("a person deletes node %s", node.Name)
			w.api.remove(keyOf(node))
		}
	case "mode":
		w.annotate("shop", v1alpha1.AnnotationMode, rapid.SampledFrom([]string{"rescue", "rescue", "observe", "", "resuce"}).Draw(t, "mode"))
	case "allow":
		w.annotate("shop", v1alpha1.AnnotationAllow, rapid.SampledFrom([]string{"", "bare-pods", "unfenced-storage", "bare-pods,unfenced-storage"}).Draw(t, "allow"))
	case "snapshot":
		w.snapshotPolicy(t)
	case "pause":
		w.annotate("rbd-rescue", v1alpha1.AnnotationPaused, rapid.SampledFrom([]string{"", "true"}).Draw(t, "pause"))
	}
}

func (w *world) annotate(namespace, annotation, value string) {
	ns, _ := get[*corev1.Namespace](w.api.objects, "", namespace)
	change(w.api, ns, func(n *corev1.Namespace) {
		metav1.SetMetaDataAnnotation(&n.ObjectMeta, annotation, value)
		if value == "" {
			delete(n.Annotations, annotation)
		}
	})
	w.tell("namespace %s: %s=%s", namespace, annotation, value)
}

// personFences makes a NodeFence by hand: of a node, or by the name of a client, or of its host where no other machine is.
func (w *world) personFences(t *rapid.T, m *machine) {
	spec := v1alpha1.NodeFenceSpec{NodeName: m.name}
	switch rapid.SampledFrom([]string{"nobody", "a client", "the host"}).Draw(t, "names") {
	case "a client":
		if image, any := drawOne(t, m.images(), "image"); any {
			spec.Clients, spec.BootID = []string{m.mapped[image].client}, m.bootID()
		}
	case "the host":
		if !slices.ContainsFunc(w.machines, func(other *machine) bool { return other != m && other.client == m.client }) {
			spec.Clients, spec.BootID = []string{ceph.Address{IP: m.client}.String()}, m.bootID()
		}
	}
	nf := &v1alpha1.NodeFence{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("by-hand-%d", w.api.version)}, Spec: spec}
	if err := w.api.create(nf); err != nil {
		w.Fatal(err)
	}
	w.tell("a person fences %s with %v", m.name, spec.Clients)
}

// personFencesAgain makes another NodeFence of a node that has an active one.
func (w *world) personFencesAgain(t *rapid.T) {
	nf, any := drawOne(t, activeFences(w.fences()), "NodeFence")
	if !any {
		t.Skip("there is no NodeFence")
	}
	w.personFences(t, w.machine(nf.Spec.NodeName))
	w.happened["fenced twice"]++
}

// personLifts says that a boot is over, be it or not, or deletes the NodeFence.
func (w *world) personLifts(t *rapid.T) {
	nf, any := drawOne(t, activeFences(w.fences()), "NodeFence")
	if !any {
		t.Skip("there is no NodeFence")
	}
	if rapid.Bool().Draw(t, "deletes it") {
		w.tell("a person deletes NodeFence %s", nf.Name)
		w.api.remove(keyOf(nf))
		return
	}
	w.lift(nf)
}

func (w *world) lift(nf *v1alpha1.NodeFence) {
	w.tell("a person lifts NodeFence %s", nf.Name)
	change(w.api, nf, func(f *v1alpha1.NodeFence) {
		metav1.SetMetaDataAnnotation(&f.ObjectMeta, v1alpha1.AnnotationLift, f.Spec.BootID)
	})
}

// looks is one look of one controller, through caches as old as they are.
func (w *world) looks(t *rapid.T) {
	switch rapid.SampledFrom([]string{"volume", "node", "nodes in trouble", "flags", "snapshots", "fence", "fence"}).Draw(t, "at") {
	case "volume":
		w.process.lookAtVolume(volumeOf(rapid.SampledFrom(claims()).Draw(t, "claim")))
	case "node":
		w.process.lookAtNode(w.anyMachine(t).name)
	case "nodes in trouble":
		w.process.lookAtNode("")
	case "flags":
		w.process.lookAtFlags()
	case "snapshots":
		w.process.lookAtSnapshots()
	case "fence":
		if nf, any := drawOne(t, w.fences(), "NodeFence"); any {
			w.process.lookAtFence(nf.Name)
		}
	}
}

func claims() []string {
	var all []string
	for _, l := range workloads {
		all = append(all, l.claims...)
	}
	slices.Sort(all)
	return all
}

func (w *world) goOn(d time.Duration) {
	w.pass(d)
	w.process.lookAtAll()
}

// goWell is time in which rbd-rescue does what it can.
func (w *world) goWell(times int, d time.Duration) {
	for range times {
		w.goOn(d)
	}
}

func (w *world) crashes(t *rapid.T) {
	if w.process.crashed {
		w.anotherLeads(t)
		return
	}
	w.process.crashIn = rapid.IntRange(1, 8).Draw(t, "writes until then")
}

// clockJumps by some seconds, as where it is set anew; while nothing is in doubt, for which seconds matter, also by many minutes.
func (w *world) clockJumps(t *rapid.T) {
	most := 4
	if w.doubt == "" && len(w.late) == 0 {
		most = rapid.SampledFrom([]int{4, 20 * 60}).Draw(t, "at most")
	}
	w.process.clock.wrong = time.Duration(rapid.IntRange(-most, most).Draw(t, "wrong by")) * time.Second
	w.tell("the clock of rbd-rescue is wrong by %s", w.process.clock.wrong)
	w.happened["clock jump"]++
}

// anotherLeads: another process takes over, be the one before alive or not, and looks at everything by its own caches.
func (w *world) anotherLeads(t *rapid.T) {
	w.restart(w.oldCaches(t))
	w.process.lookAround()
	w.happened["change of leaders"]++
}
