package history

import (
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rbd-rescue/rbd-rescue/api/v1alpha1"
	"github.com/rbd-rescue/rbd-rescue/ceph"
	"github.com/rbd-rescue/rbd-rescue/ceph/cephtest"
	"github.com/rbd-rescue/rbd-rescue/volume"
)

// margin is how long an entry must at least last when something is released behind it (S1).
const margin = 30 * time.Minute

// checkWriter: whoever writes to an image is the one that mapped it last, or, where it is ReadWriteMany, one that nothing was
// opened or released for. This is what all the rules are for.
func (w *world) checkWriter(mp *mapping) {
	if mp.excused != "" || w.tampered[mp.client] || w.tampered[host(mp.client)] {
		return
	}
	if isShared(mp.image) {
		if mp.over != "" {
			w.broken("stale writer", "%s writes to %s as %s, and rbd-rescue has %s since", mp.machine.name, mp.image, mp.client, mp.over)
		}
		return
	}
	newest := w.newest[mp.image]
	if newest == mp || newest.machine == mp.machine {
		return
	}
	w.broken("two writers", "%s writes to %s as %s, and %s has mapped it since as %s", mp.machine.name, mp.image, mp.client, newest.machine.name, newest.client)
}

func host(client string) string { return client[:strings.LastIndexByte(client, '/')] + "/0" }

// checkFenced is S1: whatever a machine still has of an image cannot write to it any more, anywhere, for a good while.
func (w *world) checkFenced(node, image, what string) {
	m := w.machine(node)
	mp := m.mapped[image]
	if mp == nil || m.off {
		return
	}
	if w.namedOthers(mp) {
		mp.excused = "a person named the clients of the boot, and this is none of them"
		return
	}
	if w.accepts(mp.client, image) {
		w.broken("S1", "%s, while %s may write to %s in %v as %s", what, node, image, pools[image], mp.client)
	}
	if !w.lasts(mp.client, margin) {
		w.broken("S1", "%s, while the entry of %s is about to run out", what, mp.client)
	}
	mp.over = what
}

func (w *world) namedOthers(mp *mapping) bool {
	return slices.ContainsFunc(w.fences(), func(nf *v1alpha1.NodeFence) bool {
		return nf.Spec.BootID == mp.machine.bootID() && len(nf.Spec.Clients) > 0 && !cutOff(nf.Spec.Clients, mp.client)
	})
}

// lasts tells whether a client is cut off for a while yet.
func (w *world) lasts(client string, while time.Duration) bool {
	return w.ceph.Until(ceph.MustParseAddress(client)).After(w.now().Add(while))
}

// checkDelete looks at everything that rbd-rescue deletes.
func (w *world) checkDelete(o client.Object, options *client.DeleteOptions) {
	switch o := o.(type) {
	case *corev1.Pod:
		w.checkPodDeleted(o, options)
	case *storagev1.VolumeAttachment:
		pv, _ := volume.Attached(o)
		w.happened["attachment deleted"]++
		w.tell("rbd-rescue deletes the attachment of %s to %s", pv, o.Spec.NodeName)
		w.checkFenced(o.Spec.NodeName, strings.TrimPrefix(pv, "pv-"), "deleted the attachment of "+pv)
		for _, pod := range list[*corev1.Pod](w.api.objects) {
			if pod.Spec.NodeName == o.Spec.NodeName && slices.Contains(imagesOf(pod), strings.TrimPrefix(pv, "pv-")) && !w.process.stale("Pod") {
				w.broken("release", "deleted the attachment of %s while pod %s is left", pv, pod.Name)
			}
		}
	default:
		w.broken("rights", "deleted %T %s", o, o.GetName())
	}
}

func (w *world) checkPodDeleted(pod *corev1.Pod, options *client.DeleteOptions) {
	what := fmt.Sprintf("deleted pod %s of %s", pod.Name, pod.Spec.NodeName)
	w.tell("rbd-rescue: %s, %s", what, graceOf(options))
	w.happened[graceOf(options)]++
	if options.Preconditions == nil || options.Preconditions.UID == nil {
		w.broken("S8", "%s without its UID", what)
	}
	for _, image := range imagesOf(pod) {
		w.checkFenced(pod.Spec.NodeName, image, what)
	}
	ns, _ := get[*corev1.Namespace](w.process.cache, "", pod.Namespace)
	policy, _ := v1alpha1.ParsePolicy(ns.Annotations)
	switch {
	case policy.Mode != v1alpha1.ModeRescue:
		w.broken("S6", "%s, whose namespace has not opted in", what)
	case volume.UnfencedStorage(pod) != "" && !policy.UnfencedStorage:
		w.broken("S6", "%s, which also writes to %s", what, volume.UnfencedStorage(pod))
	case metav1.GetControllerOf(pod) == nil && !policy.BarePods:
		w.broken("S6", "%s, which nobody makes again", what)
	}
}

func graceOf(options *client.DeleteOptions) string {
	if options.GracePeriodSeconds == nil {
		return "pod deleted gracefully"
	}
	return "pod force-deleted"
}

// checkVolumesInUse looks at what rbd-rescue took out of a node's status.
func (w *world) checkVolumesInUse(before *corev1.Node) {
	after, _ := get[*corev1.Node](w.api.objects, "", before.Name)
	for _, name := range before.Status.VolumesInUse {
		if !slices.Contains(after.Status.VolumesInUse, name) {
			w.happened["volumesInUse cleared"]++
			w.checkFenced(before.Name, string(name)[len(uniqueName("")):], "cleared "+string(name))
		}
	}
}

// checkAdd is S2, S7 and S8 for an entry that is about to be written. One that is renewed cuts somebody off already, or did
// when something was released behind it: where somebody else has come to its address since, S4 goes before S2, since a stale
// writer would harm more. That the incident relies on another entry says nothing of this one.
func (w *world) checkAdd(address string) {
	asking := activeFences(w.askingFor(address))
	if len(asking) == 0 {
		w.broken("S8", "%s goes on the blocklist, and no NodeFence asks for it", address)
		return
	}
	if slices.Contains(w.ceph.Blocklist(), address) {
		w.broken("S4", "%s is asked for while it stands: Ceph changes nothing, and the end of the entry is not what is thought", address)
		return
	}
	if w.lasts(address, 0) || slices.ContainsFunc(asking, func(nf *v1alpha1.NodeFence) bool { return w.reliedOn(nf, address) || w.wasProven(nf, address) }) {
		w.happened["entry renewed"]++
		return
	}
	fenced := func(node string) bool {
		return slices.ContainsFunc(asking, func(nf *v1alpha1.NodeFence) bool { return nf.Spec.NodeName == node })
	}
	w.checkNoProvisioner(address, fenced)
	for _, mp := range w.mappings() {
		if mp.client != address && host(mp.client) != address || w.forgotten(mp.machine) {
			continue
		}
		if !fenced(mp.machine.name) {
			w.broken("S2", "%s goes on the blocklist for %s, and %s has %s mapped through it", address, asking[0].Spec.NodeName, mp.machine.name, mp.image)
		}
	}
	if a := ceph.MustParseAddress(address); a.Nonce == 0 && (a.IP == w.machines[4].client || a == cephtest.Own.Host()) {
		w.broken("S2", "the whole host %s goes on the blocklist, on which Ceph or rbd-rescue itself lives", address)
	}
	if ceph.MustParseAddress(address).IP == manager.IP {
		w.broken("S2", "%s goes on the blocklist, which is a manager's", address)
	}
	if !slices.ContainsFunc(asking, func(nf *v1alpha1.NodeFence) bool { return !nf.Spec.Automatic }) {
		w.checkFirstEntry(address, asking)
	}
}

// forgotten: somebody has deleted the Node object of a machine that does not answer. It is no healthy node.
func (w *world) forgotten(m *machine) bool {
	_, there := get[*corev1.Node](w.api.objects, "", m.name)
	return !there
}

// checkArrived is S2 for an entry that comes after its command had failed in doubt: somebody must look after it still.
func (w *world) checkArrived(address string) {
	if len(activeFences(w.askingFor(address))) == 0 {
		w.broken("S2", "%s comes on the blocklist late, and no NodeFence asks for it any more", address)
	}
}

// checkLeft is S4 for a removal that comes after its command had failed in doubt: nobody may rely on the entry by then.
func (w *world) checkLeft(address string) {
	for _, nf := range activeFences(w.askingFor(address)) {
		if w.machine(nf.Spec.NodeName).bootID() == nf.Spec.BootID && nf.Annotations[v1alpha1.AnnotationLift] != nf.Spec.BootID && w.reliedOn(nf, address) {
			w.broken("S4", "%s leaves the blocklist late, and NodeFence %s relies on it", address, nf.Name)
		}
	}
}

// rely notes, as the status of an incident says, which entries were proven, and behind which something is or was released: from
// then on these stay (S4).
func (w *world) rely(nf *v1alpha1.NodeFence) {
	for _, v := range nf.Status.Volumes {
		if v.Phase == v1alpha1.VolumeHeld || v.Phase == v1alpha1.VolumeRefused {
			continue
		}
		for _, address := range v.Clients {
			if !w.reliedOn(nf, address) {
				w.relied[nf.UID] = append(w.relied[nf.UID], address)
			}
		}
	}
	for _, c := range nf.Status.Clients {
		if c.Epoch > 0 && !w.wasProven(nf, c.Address) {
			w.proven[nf.UID] = append(w.proven[nf.UID], c.Address)
		}
	}
}

func (w *world) reliedOn(nf *v1alpha1.NodeFence, address string) bool {
	return slices.Contains(w.relied[nf.UID], address)
}

func (w *world) wasProven(nf *v1alpha1.NodeFence, address string) bool {
	return slices.Contains(w.proven[nf.UID], address)
}

// checkFirstEntry: an automatic fence begins only at a node that has failed, and only one that is not one of many.
func (w *world) checkFirstEntry(address string, asking []*v1alpha1.NodeFence) {
	failed := slices.ContainsFunc(asking, func(nf *v1alpha1.NodeFence) bool {
		node, there := get[*corev1.Node](w.api.objects, "", nf.Spec.NodeName)
		return !there || !volume.Ready(node) && volume.BootID(node) == nf.Spec.BootID
	})
	if !failed {
		w.broken("S2", "%s goes on the blocklist, and its node is Ready", address)
	}
	for _, nf := range asking {
		if nf.Status.Times.FencingAt.Time.Before(w.now()) {
			return // begun while the breaker was closed
		}
	}
	for _, nf := range asking {
		if nodes, bad := w.badNodes(nf.Spec.NodeName); bad > max(1, nodes*34/100) {
			w.broken("S7", "%s goes on the blocklist for %s while %d of %d nodes are failed or not Ready", address, nf.Spec.NodeName, bad, nodes)
		}
	}
}

// badNodes counts by what the API says of nodes; attachments of nodes that are gone count as far as rbd-rescue knows of them.
// Of nodes whose kubelet says that it is not ready one may be about to join, beside the one that has failed and is fenced.
func (w *world) badNodes(fenced string) (nodes, bad int) {
	names := map[string]bool{}
	notReady := map[string]bool{}
	for _, node := range list[*corev1.Node](w.api.objects) {
		names[node.Name] = true
		if _, failed := volume.Failed(node); failed {
			bad++
		} else if !volume.Ready(node) {
			notReady[node.Name] = true
		}
	}
	for _, va := range list[*storagev1.VolumeAttachment](w.process.cache) {
		if !names[va.Spec.NodeName] {
			names[va.Spec.NodeName] = true
			bad++
		}
	}
	if bad > 0 && len(notReady) > 0 && !notReady[fenced] {
		bad--
	}
	return len(names), bad + len(notReady)
}

func (p *process) stale(kinds ...string) bool {
	now := p.world.stripped(p.world.api.objects, kinds...)
	return slices.ContainsFunc(kinds, func(kind string) bool { return !slices.Equal(p.cache[kind], now[kind]) })
}

func (w *world) askingFor(address string) []*v1alpha1.NodeFence {
	var asking []*v1alpha1.NodeFence
	for _, nf := range w.fences() {
		if slices.ContainsFunc(nf.Status.Clients, func(c v1alpha1.FencedClient) bool { return c.Address == address }) {
			asking = append(asking, nf)
		}
	}
	return asking
}

// checkRemove is S3 for an entry that is about to be removed.
func (w *world) checkRemove(address string) {
	asking := w.askingFor(address)
	if len(asking) == 0 {
		w.broken("S3", "%s is removed from the blocklist, and no NodeFence made it", address)
	}
	if w.foreign[address] {
		w.broken("S3", "%s is removed from the blocklist, and it was somebody else's before", address)
	}
	for _, nf := range activeFences(asking) {
		m := w.machine(nf.Spec.NodeName)
		if m.bootID() != nf.Spec.BootID || nf.Annotations[v1alpha1.AnnotationLift] == nf.Spec.BootID {
			continue
		}
		if w.agents && nf.Status.Times.ClearedAt != nil {
			w.checkCleared(m, address)
		} else {
			w.broken("S3", "%s is removed from the blocklist, and boot %s may still run", address, nf.Spec.BootID)
		}
	}
	for _, mp := range w.mappings() { // by a person's word from here on
		if mp.client == address || host(mp.client) == address {
			mp.excused = "a person lifted the fence"
		}
	}
}

// looked: a NodeFence was looked at with success, so that the entries that it relies on are as they must be (S4).
func (w *world) looked(name string) {
	nf, there := get[*v1alpha1.NodeFence](w.api.objects, "", name)
	if !there || !nf.Active() || w.monsDown {
		return
	}
	m := w.machine(nf.Spec.NodeName)
	for _, c := range nf.Status.Clients {
		if w.lasts(c.Address, margin) && len(w.lagging) == 0 {
			delete(w.tampered, c.Address)
		}
	}
	w.checkMoved(nf, m)
	for _, address := range w.relied[nf.UID] {
		if w.tampered[address] && slices.Contains(w.ceph.Blocklist(), address) {
			continue // somebody has shortened it: only when it has ended there can be another
		}
		if !w.lasts(address, margin) && m.bootID() == nf.Spec.BootID && nf.Annotations[v1alpha1.AnnotationLift] == "" && nf.Status.Times.ClearedAt == nil {
			w.broken("S4", "%s was looked at, and its entry %s is gone or about to run out", name, address)
		}
	}
}

// checkMoved is S1 for volumes that Kubernetes has moved with no fence: what a NodeFence says to be cut off is, and from then on the
// mapping has no excuse.
func (w *world) checkMoved(nf *v1alpha1.NodeFence, m *machine) {
	for _, v := range nf.Status.Volumes {
		mp := m.mapped[strings.TrimPrefix(v.PersistentVolume, "pv-")]
		if v.Phase == v1alpha1.VolumeHeld || v.Phase == v1alpha1.VolumeRefused || mp == nil || mp.excused != movedUnfenced ||
			m.bootID() != nf.Spec.BootID || !cutOff(v.Clients, mp.client) || w.tampered[mp.client] || w.tampered[host(mp.client)] || nf.Annotations[v1alpha1.AnnotationLift] != "" {
			continue
		}
		if w.accepts(mp.client, mp.image) {
			w.broken("S1", "%s is %s in %s, while %s may write to it as %s", v.PersistentVolume, v.Phase, nf.Name, m.name, mp.client)
		}
		mp.excused = ""
		w.happened["moved, then cut off"]++
	}
}
