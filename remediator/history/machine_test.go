package history

import (
	"fmt"
	"net/netip"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/rbd-rescue/rbd-rescue/ceph"
	"github.com/rbd-rescue/rbd-rescue/volume"
)

// machine is one host with its kubelet and its kernel's RBD client, which all its images share (facts/krbd.md).
type machine struct {
	world        *world
	name, id     string
	node, client netip.Addr
	boot         int
	// off: powered off. running: neither off nor frozen. ready: the kubelet is well, and says so.
	off, running, ready bool
	apiLink, cephLink   bool
	mapped              map[string]*mapping
	nonce               uint32
}

// mapping is one image in a machine's kernel.
type mapping struct {
	machine *machine
	image   string
	client  string
	// alive is the client's last sign of life; deaf is a client that was cut off once: it never watches again.
	alive time.Time
	deaf  bool
	// excused says why nobody can keep this mapping from writing beside another.
	excused string
	// over is what was done because this mapping of a ReadWriteMany volume cannot write any more; empty for nothing.
	over string
}

// GoString is how rapid prints a draw.
func (m *machine) GoString() string { return m.name }

func (m *machine) bootID() string { return fmt.Sprintf("%s-boot-%d", m.name, m.boot) }

func (m *machine) images() []string {
	var images []string
	for image := range m.mapped {
		images = append(images, image)
	}
	slices.Sort(images)
	return images
}

// mapImage through the kernel's client, which ends with its last mapping, or through a process of its own.
func (m *machine) mapImage(image string) {
	nonce := m.nonce
	if isProcess(image) || len(m.kernelMaps()) == 0 {
		m.world.nonces++
		nonce = m.world.nonces
	}
	if !isProcess(image) {
		m.nonce = nonce
	}
	mp := &mapping{machine: m, image: image, client: ceph.Address{IP: m.client, Nonce: nonce}.String(), alive: m.world.now()}
	m.mapped[image] = mp
	m.world.newest[image] = mp
	m.world.tell("%s maps %s as %s", m.name, image, mp.client)
}

// kernelMaps are the images that share the kernel's client.
func (m *machine) kernelMaps() []string { return slices.DeleteFunc(m.images(), isProcess) }

// restartProcess is ceph-csi's node plugin, which starts what maps an image anew, be the API there or not: with another client.
func (m *machine) restartProcess(image string) {
	was, newest := m.mapped[image], m.world.newest[image]
	m.mapImage(image)
	mp := m.mapped[image]
	mp.excused, mp.over = was.excused, was.over
	if newest != was {
		m.world.newest[image] = newest // another machine has mapped it since
	}
	if m.world.namedOthers(mp) {
		mp.excused = "a person named the clients of the boot, and this is none of them"
	}
	m.world.happened["process restarted"]++
}

func (m *machine) unmap(image string) {
	m.world.tell("%s unmaps %s", m.name, image)
	delete(m.mapped, image)
}

// write lets every mapping write to its image, and keep its watch.
func (m *machine) write() {
	if !m.running || !m.cephLink {
		return
	}
	for _, image := range m.images() {
		mp := m.mapped[image]
		if !m.world.accepts(mp.client, image) {
			mp.deaf = true
			if newest := m.world.newest[image]; newest.machine != m {
				m.world.happened["stale write refused"]++
			}
			continue
		}
		m.world.checkWriter(mp)
		m.world.noteWrite(mp)
		mp.alive = m.world.now()
	}
}

// tellCephWhoWatches: a watch ends watchEnds after its client's last sign of life.
func (w *world) tellCephWhoWatches() {
	watchers := map[string][]string{}
	for _, mp := range w.mappings() {
		if !mp.deaf && w.now().Sub(mp.alive) < watchEnds {
			watchers[mp.image] = append(watchers[mp.image], mp.client)
		}
	}
	if w.managed != "" {
		watchers[w.managed] = append(watchers[w.managed], manager.String())
	}
	if w.provisioned != "" {
		for _, p := range w.provisioners() {
			watchers[w.provisioned] = append(watchers[w.provisioned], p.client)
		}
	}
	for _, l := range w.workloads {
		for _, image := range l.claims {
			w.ceph.Watch(ceph.Image{Pool: pools[image][0], Name: image}, watchers[image]...)
		}
	}
}

// kubelet reports, and brings what is mapped in line with the pods of its node.
func (m *machine) kubelet() {
	if !m.running || !m.apiLink {
		return
	}
	m.report()
	defer m.reportVolumesInUse()
	if !m.ready {
		return
	}
	wanted := map[string]bool{}
	for _, pod := range list[*corev1.Pod](m.world.api.objects) {
		if pod.Spec.NodeName != m.name {
			continue
		}
		if pod.DeletionTimestamp != nil {
			m.end(pod)
			continue
		}
		for _, image := range imagesOf(pod) {
			wanted[image] = true
		}
	}
	for _, image := range m.images() {
		if !wanted[image] {
			m.unmap(image)
		}
	}
	for _, pod := range list[*corev1.Pod](m.world.api.objects) {
		if pod.Spec.NodeName == m.name && pod.DeletionTimestamp == nil {
			m.start(pod)
		}
	}
}

// report keeps the Node object, and makes it anew if somebody has deleted it.
func (m *machine) report() {
	node, there := get[*corev1.Node](m.world.api.objects, "", m.name)
	if !there {
		node = &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: m.name}}
		if err := m.world.api.create(node); err != nil {
			m.world.Fatal(err)
		}
	}
	want := corev1.ConditionTrue
	if !m.ready {
		want = corev1.ConditionFalse
	}
	change(m.world.api, node, func(n *corev1.Node) {
		m.setReady(n, want)
		n.Status.Conditions[0].LastHeartbeatTime = metav1.NewTime(m.world.now())
		n.Status.NodeInfo = corev1.NodeSystemInfo{BootID: m.bootID(), MachineID: m.id}
		n.Status.Addresses = []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: m.node.String()}}
	})
}

func (m *machine) setReady(n *corev1.Node, status corev1.ConditionStatus) {
	if len(n.Status.Conditions) == 0 {
		n.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady}}
	}
	c := &n.Status.Conditions[0]
	if c.Status != status {
		c.Status, c.Reason, c.LastTransitionTime = status, "Kubelet", metav1.NewTime(m.world.now())
	}
}

// end lets a pod of a kubelet that is well go; what no other pod there uses is unmapped next.
func (m *machine) end(pod *corev1.Pod) {
	m.world.api.objects.remove(keyOf(pod))
	m.world.tell("%s ends pod %s", m.name, pod.Name)
}

// start mounts a pod's volumes once they are attached, and says that it runs. It does not ask who else uses the image, as
// ceph-csi does: the fence alone must hold.
func (m *machine) start(pod *corev1.Pod) {
	for _, image := range imagesOf(pod) {
		if m.mapped[image] != nil {
			continue
		}
		if m.world.attachmentOf(volumeOf(image), m.name) == nil || !m.cephLink || !isProcess(image) && m.stale() || m.hostCutOff() {
			return
		}
		m.mapImage(image)
	}
	if pod.Status.Phase != corev1.PodRunning {
		change(m.world.api, pod, func(p *corev1.Pod) { p.Status.Phase, p.Status.PodIP = corev1.PodRunning, podIP(p).String() })
	}
}

// stale: a new mapping shares the kernel's client with those that are left, and fails as they do.
func (m *machine) stale() bool {
	for _, image := range m.kernelMaps() {
		if m.mapped[image].deaf || !m.world.accepts(m.mapped[image].client, image) {
			return true
		}
	}
	return m.hostCutOff()
}

func (m *machine) hostCutOff() bool {
	return cutOff(m.world.ceph.Blocklist(), ceph.Address{IP: m.client, Nonce: 1}.String())
}

func (m *machine) reportVolumesInUse() {
	var inUse []corev1.UniqueVolumeName
	for _, image := range m.images() {
		inUse = append(inUse, uniqueName(image))
	}
	node, _ := get[*corev1.Node](m.world.api.objects, "", m.name)
	if !slices.Equal(node.Status.VolumesInUse, inUse) {
		change(m.world.api, node, func(n *corev1.Node) { n.Status.VolumesInUse = inUse })
	}
}

func uniqueName(image string) corev1.UniqueVolumeName {
	return corev1.UniqueVolumeName("kubernetes.io/csi/rbd.csi.ceph.com^" + image)
}

func imagesOf(pod *corev1.Pod) []string {
	var images []string
	for _, claim := range volume.Claims(pod, pod.Namespace) {
		images = append(images, claim.Name)
	}
	return images
}
