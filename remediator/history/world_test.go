package history

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	clocktesting "k8s.io/utils/clock/testing"
	"pgregory.net/rapid"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rbd-rescue/rbd-rescue/api/v1alpha1"
	"github.com/rbd-rescue/rbd-rescue/ceph"
	"github.com/rbd-rescue/rbd-rescue/ceph/cephtest"
	"github.com/rbd-rescue/rbd-rescue/remediator/observe"
)

const (
	grace     = 50 * time.Second // until a silent node is NotReady
	watchEnds = 30 * time.Second // after a client's last sign of life
	podGrace  = 30 * time.Second
)

// world is what is true: machines and what they have mapped, the API, Ceph, and rbd-rescue's process in it.
type world struct {
	*rapid.T
	clock *clocktesting.FakePassiveClock
	api   *api
	// past are the states that the API was in, the oldest first.
	past      []moment
	indexes   indexer
	indexed   map[indexed][]string
	strips    map[client.Object]client.Object // whole and stripped
	ceph      *cephtest.Cluster
	machines  []*machine
	workloads []workload
	process   *process
	webhook   *webhook
	monsDown  bool
	// doubt is when what is asked of the blocklist is done while nobody is answered: "late", by lateBy, or "never"; empty while all
	// is well. late is what is under way.
	doubt     string
	lateBy    time.Duration
	late      []lateCommand
	snapshots snapshots
	// managed is the image that a manager has open, to flatten it or for a scheduled snapshot; empty for none.
	managed string
	// provisioned is the image that the CSI provisioner has open; empty for none.
	provisioned string
	// lagging are the placement groups that lag behind, with the blocklist that they still go by.
	lagging map[placementGroup][]string
	// newest is the mapping of each image that was made last: whoever else writes, corrupts.
	newest map[string]*mapping
	// tampered are entries that somebody removed or shortened behind rbd-rescue's back, until it has looked again.
	tampered map[string]bool
	// foreign are entries that stand and that somebody else had made before any NodeFence asked for them.
	foreign map[string]bool
	// relied are the entries of each NodeFence behind which something is or was released; proven are those that were proven.
	relied, proven map[types.UID][]string
	nonces         uint32
	// agents: one is on every machine.
	agents bool
	// made counts the pods.
	made    int
	story   []string
	failure string
	// happened counts what the histories must have in them to mean something.
	happened map[string]int
}

// workload is a StatefulSet of one pod with its claims, or none, or, on a ReadWriteMany volume, a Deployment of two.
type workload struct {
	namespace, name         string
	claims                  []string
	bare, otherDisk, shared bool
	// process: rbd-nbd maps the images, a process for each.
	process bool
	// patient pods stay on a failed node for longer, so that their volumes are wanted when others are released already.
	patient bool
	// comesBack: it tolerates the taint of a fence.
	comesBack bool
}

// volumeOf is the PersistentVolume of a claim, and the name of its image.
func volumeOf(claim string) string { return "pv-" + claim }

var workloads = []workload{
	{namespace: "shop", name: "db", claims: []string{"db"}, patient: true, comesBack: true},
	{namespace: "shop", name: "pair", claims: []string{"left", "right"}},
	{namespace: "shop", name: "mixed", claims: []string{"mixed"}, otherDisk: true},
	{namespace: "shop", name: "bare", claims: []string{"bare"}, bare: true},
	{namespace: "shop", name: "vm", claims: []string{"disk"}, shared: true},
	{namespace: "shop", name: "log", claims: []string{"log"}, process: true},
	{namespace: "web", name: "site", claims: []string{"site"}},
	{namespace: "rook-ceph", name: provisioner},
}

// pools are those that each image is in: its own, and the one of its data if that is another.
var pools = map[string][]string{
	"db": {"ssd"}, "left": {"rbd"}, "right": {"rbd", "ssd"}, "mixed": {"rbd"}, "bare": {"ssd"}, "disk": {"ssd"}, "log": {"rbd"}, "site": {"rbd"},
}

const placementGroups = 8 // of each pool

// manager is a client of a daemon of Ceph, which lives apart.
var manager = ceph.MustParseAddress("10.0.0.200:0/77")

type placementGroup struct {
	pool   string
	number uint32
}

// toleration is how long a failed node keeps the pods.
func (l workload) toleration() time.Duration {
	if l.patient {
		return 3 * time.Minute
	}
	return time.Minute
}

// pods is how many it wants to run.
func (l workload) pods() int {
	if l.shared {
		return 2
	}
	return 1
}

func workloadOf(pod *corev1.Pod) workload {
	return workloads[slices.IndexFunc(workloads, func(l workload) bool { return l.name == pod.Labels["app"] })]
}

func (w *world) podsOf(l workload) []*corev1.Pod {
	return slices.DeleteFunc(list[*corev1.Pod](w.api.objects), func(pod *corev1.Pod) bool { return pod.Labels["app"] != l.name })
}

// isShared tells whether an image is a ReadWriteMany volume.
func isShared(image string) bool { return workloadWith(image).shared }

// isProcess tells whether a process maps the image, and not the kernel.
func isProcess(image string) bool { return workloadWith(image).process }

func workloadWith(image string) workload {
	return workloads[slices.IndexFunc(workloads, func(l workload) bool { return slices.Contains(l.claims, image) })]
}

func newWorld(t *rapid.T) *world {
	w := &world{
		T: t, clock: clocktesting.NewFakePassiveClock(time.Date(2026, 11, 23, 3, 0, 0, 0, time.UTC)), indexes: indexer{},
		indexed: map[indexed][]string{}, strips: map[client.Object]client.Object{}, lagging: map[placementGroup][]string{}, workloads: workloads, newest: map[string]*mapping{}, tampered: map[string]bool{}, foreign: map[string]bool{}, relied: map[types.UID][]string{}, proven: map[types.UID][]string{}, nonces: 100, happened: map[string]int{},
	}
	w.snapshots = snapshots{attached: map[types.UID]time.Time{}, wrote: map[string]time.Time{}, spoiled: map[string]string{}, counted: map[string]bool{}, releasing: map[string]bool{}}
	w.api = &api{now: w.clock.Now, objects: objects{}}
	w.webhook = &webhook{world: w, cache: objects{}}
	if err := observe.AddIndexes(context.Background(), w.indexes); err != nil {
		t.Fatal(err)
	}
	w.indexes["Pod status.podIP"] = selectablePodIP
	w.ceph = cephtest.New(w.clock) // with pool rbd
	w.ceph.AddPool("ssd", placementGroups)
	w.ceph.FailWith(func(string) error { return w.cephFails() })
	w.layOut(rapid.SampledFrom([]string{"own addresses", "storage network", "NAT"}).Draw(t, "network"))
	w.agents = rapid.Bool().Draw(t, "agents")
	for _, namespace := range []string{"shop", "web", "rook-ceph", "rbd-rescue"} {
		ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace}}
		if namespace == "shop" {
			policy := rapid.SampledFrom([]string{"best-effort", "required"}).Draw(t, "snapshot")
			ns.Annotations = map[string]string{v1alpha1.AnnotationMode: "rescue", v1alpha1.AnnotationSnapshot: policy}
		}
		w.api.put(ns)
	}
	for _, l := range w.workloads {
		for _, claim := range l.claims {
			w.addVolume(l.namespace, claim)
		}
		if l.bare {
			w.createPod(l)
		}
	}
	w.process = newProcess(w, maps.Clone(w.api.objects))
	for range 6 {
		w.pass(5 * time.Second)
		w.process.lookAtAll()
	}
	return w
}

// layOut makes the machines: each clients' addresses are its node's, or on a network of their own, or shared by all; on the
// last machine a daemon of Ceph lives.
func (w *world) layOut(network string) {
	for i := range 5 {
		m := &machine{
			world: w, name: fmt.Sprintf("node-%d", i), id: fmt.Sprintf("machine-%d", i), boot: 1, running: true, ready: true,
			apiLink: true, cephLink: true, node: netip.AddrFrom4([4]byte{10, 0, 0, byte(i + 1)}), mapped: map[string]*mapping{},
		}
		switch network {
		case "own addresses":
			m.client = m.node
		case "storage network":
			m.client = netip.AddrFrom4([4]byte{10, 1, 0, byte(i + 1)})
		case "NAT":
			m.client = netip.AddrFrom4([4]byte{10, 2, 0, byte(i/2 + 1)})
		}
		w.machines = append(w.machines, m)
	}
	w.ceph.SetManager(netip.AddrPortFrom(manager.IP, 6800).String() + "/7")
	w.ceph.SetDaemons(w.machines[4].client.String() + ":6789/0")
}

func (w *world) addVolume(namespace, claim string) {
	w.api.put(&corev1.PersistentVolumeClaim{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: claim, UID: types.UID("claim-" + claim)},
		Spec:       corev1.PersistentVolumeClaimSpec{VolumeName: volumeOf(claim)},
	})
	mode := corev1.ReadWriteOnce
	if isShared(claim) {
		mode = corev1.ReadWriteMany
	}
	mounter := "rbd"
	if isProcess(claim) {
		mounter = "rbd-nbd"
	}
	if in := pools[claim]; len(in) > 1 {
		w.ceph.SetDataPool(ceph.Image{Pool: in[0], Name: claim}, in[1])
	}
	w.api.put(&corev1.PersistentVolume{
		ObjectMeta: metav1.ObjectMeta{Name: volumeOf(claim)},
		Spec: corev1.PersistentVolumeSpec{
			AccessModes: []corev1.PersistentVolumeAccessMode{mode},
			ClaimRef:    &corev1.ObjectReference{Namespace: namespace, Name: claim},
			PersistentVolumeSource: corev1.PersistentVolumeSource{CSI: &corev1.CSIPersistentVolumeSource{
				Driver: "rbd.csi.ceph.com", VolumeHandle: claim,
				VolumeAttributes: map[string]string{"clusterID": "c1", "pool": pools[claim][0], "imageName": claim, "mounter": mounter},
			}},
		},
	})
}

func (w *world) podOf(l workload) *corev1.Pod {
	w.made++
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: l.namespace, Name: l.name + "-0", UID: types.UID(fmt.Sprintf("pod-%d", w.made)), Labels: map[string]string{"app": l.name},
			CreationTimestamp: metav1.NewTime(w.now()),
		},
		Status: corev1.PodStatus{Phase: corev1.PodPending},
	}
	if l.shared {
		pod.Name = fmt.Sprintf("%s-%d", l.name, w.made)
	}
	if !l.bare {
		pod.OwnerReferences = []metav1.OwnerReference{{Kind: "StatefulSet", Name: l.name, Controller: new(true)}}
	}
	for _, claim := range l.claims {
		pod.Spec.Volumes = append(pod.Spec.Volumes, corev1.Volume{Name: claim, VolumeSource: corev1.VolumeSource{
			PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: claim},
		}})
	}
	if l.otherDisk {
		pod.Spec.Volumes = append(pod.Spec.Volumes, corev1.Volume{Name: "share", VolumeSource: corev1.VolumeSource{NFS: &corev1.NFSVolumeSource{Server: "nfs"}}})
	}
	return pod
}

func (w *world) now() time.Time { return w.clock.Now() }

// pass lets time go by: machines write, kubelets and Kubernetes' controllers act.
func (w *world) pass(d time.Duration) {
	w.elapse(d)
	for _, m := range w.machines {
		m.write()
	}
	w.tellCephWhoWatches()
	for _, m := range w.machines {
		m.kubelet()
		m.agent()
	}
	w.kubernetes()
	w.tellCephWhoWatches()
	w.remember()
	w.failIfBroken()
}

// moment is what the API was at one time.
type moment struct {
	at      time.Time
	objects objects
}

func (w *world) remember() {
	w.past = append(w.past, moment{w.now(), maps.Clone(w.api.objects)})
}

// elapse sets the clock.
func (w *world) elapse(d time.Duration) {
	w.clock.SetTime(w.now().Add(d))
	w.forgetForeign()
	w.arrive()
	w.arriveSnapshots()
}

// tell adds to the story that a failed check prints.
func (w *world) tell(format string, args ...any) {
	w.story = append(w.story, w.now().Format("15:04:05 ")+fmt.Sprintf(format, args...))
}

// broken notes by the name of the rule that the history has failed. It may be called on any goroutine.
func (w *world) broken(rule, format string, args ...any) {
	if w.failure == "" {
		w.failure = fmt.Sprintf("%s: %s\n%s", rule, fmt.Sprintf(format, args...), strings.Join(w.story, "\n"))
	}
}

func (w *world) failIfBroken() {
	if w.failure != "" {
		w.Fatal(w.failure)
	}
}

func (w *world) machine(name string) *machine {
	for _, m := range w.machines {
		if m.name == name {
			return m
		}
	}
	return nil
}

// mappings are all that still exist, on machines that run or are frozen.
func (w *world) mappings() []*mapping {
	var all []*mapping
	for _, m := range w.machines {
		if m.off {
			continue
		}
		for _, image := range m.images() {
			all = append(all, m.mapped[image])
		}
	}
	return all
}

func (w *world) fences() []*v1alpha1.NodeFence { return list[*v1alpha1.NodeFence](w.api.objects) }

// accepts tells whether some placement group of an image's pools would take a client's write.
func (w *world) accepts(client, image string) bool {
	for group, entries := range w.lagging {
		if slices.Contains(pools[image], group.pool) && !cutOff(entries, client) {
			return true
		}
	}
	return !cutOff(w.ceph.Blocklist(), client)
}

// cutOff looks for the client's own entry and for its host's.
func cutOff(entries []string, client string) bool {
	host := client[:strings.LastIndexByte(client, '/')] + "/0"
	return slices.Contains(entries, client) || slices.Contains(entries, host)
}
