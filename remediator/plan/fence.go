package plan

import (
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/rbd-rescue/rbd-rescue/api/v1alpha1"
	"github.com/rbd-rescue/rbd-rescue/ceph"
	"github.com/rbd-rescue/rbd-rescue/volume"
)

// settleVolumes lists the volumes of the incident and judges those that are not on their way yet.
func (d *draft) settleVolumes() {
	judgements := judge(d.s)
	for _, v := range d.s.Volumes {
		j, held := judgements[v.Name]
		if !held {
			continue
		}
		at := slices.IndexFunc(d.status.Volumes, func(e v1alpha1.FencedVolume) bool { return e.PersistentVolume == v.Name })
		if at < 0 {
			at = len(d.status.Volumes)
			d.status.Volumes = append(d.status.Volumes, v1alpha1.FencedVolume{
				PersistentVolume: v.Name, Claim: v.Claim.String(), Image: v.ImageName(), Phase: v1alpha1.VolumeHeld,
			})
		}
		d.applyJudgement(&d.status.Volumes[at], v, j)
	}
	d.forgetUnheld(judgements)
}

func onItsWay(phase v1alpha1.FencedVolumePhase) bool {
	return phase != v1alpha1.VolumeHeld && phase != v1alpha1.VolumeRefused
}

func (d *draft) applyJudgement(entry *v1alpha1.FencedVolume, v Volume, j judgement) {
	if HeldAnew(d.s, v) {
		d.discard(entry)
		*entry = v1alpha1.FencedVolume{
			PersistentVolume: entry.PersistentVolume, Claim: entry.Claim, Image: entry.Image, Phase: v1alpha1.VolumeHeld,
		}
	}
	switch {
	case onItsWay(entry.Phase):
		return // its clients are settled, and a watcher may be the new node's by now (S2)
	case j.refused != nil && j.refused.reason == v1alpha1.ReasonCephUnreachable: // not a verdict: what is settled stays
		entry.Phase, entry.Reason, entry.Message = v1alpha1.VolumeHeld, j.refused.reason, j.refused.message
	case j.refused != nil:
		switch {
		case entry.Phase == v1alpha1.VolumeRefused && entry.Reason == j.refused.reason:
		case moved(d.s, v):
			d.tellMovedUnfenced(v, *j.refused)
		default:
			d.announceVolume(v.Volume, warning, v1alpha1.ReasonVolumeRefused, "Release", fmt.Sprintf(
				"Claim %s stays with failed node %s (%s): %s.", v.Claim, d.s.NodeName, j.refused.reason, j.refused.message))
		}
		entry.Phase, entry.Reason, entry.Message, entry.Clients = v1alpha1.VolumeRefused, j.refused.reason, j.refused.message, nil
	case j.waiting != "":
		entry.Phase, entry.Reason, entry.Message, entry.Clients = v1alpha1.VolumeHeld, v1alpha1.ReasonNoDemand, j.waiting, nil
	default:
		entry.Phase, entry.Reason, entry.Message = v1alpha1.VolumeHeld, v1alpha1.ReasonWaiting, "waits for the proof of the fence"
		entry.Clients, entry.Pods = mergeClients(entry.Clients, j.clients.addresses), podUIDs(usersOn(d.s.NodeName, v))
		entry.Attachment, entry.ReadyTurnedAt = "", readyTurned(d.s.Node).DeepCopy()
		if va := attachmentTo(d.s.NodeName, v); va != nil {
			entry.Attachment = va.UID
		}
		for address, from := range j.clients.from {
			d.from[clientKey{v.ClusterID, address}] = from
		}
	}
	if entry.DemandedAt == nil && j.waiting == "" {
		entry.DemandedAt = d.demandedAt(v)
	}
}

// forgetUnheld drops volumes that left the node before anything was done for them.
func (d *draft) forgetUnheld(judgements map[string]judgement) {
	d.status.Volumes = slices.DeleteFunc(d.status.Volumes, func(e v1alpha1.FencedVolume) bool {
		_, held := judgements[e.PersistentVolume]
		forget := !held && (e.Phase == v1alpha1.VolumeHeld || e.Phase == v1alpha1.VolumeRefused)
		if forget {
			d.discard(&e)
		}
		return forget
	})
}

func mergeClients(known []string, clients []ceph.Address) []string {
	for _, address := range clients {
		if text := address.String(); !slices.Contains(known, text) {
			known = append(known, text)
		}
	}
	return known
}

func podUIDs(pods []*corev1.Pod) []types.UID {
	var uids []types.UID
	for _, pod := range pods {
		uids = append(uids, pod.UID)
	}
	slices.Sort(uids)
	return uids
}

// demandedAt is when the first stuck pod was asked to go, or now where a pod just waits.
func (d *draft) demandedAt(v Volume) *metav1.MicroTime {
	var first *metav1.MicroTime
	for _, pod := range usersOn(d.s.NodeName, v) {
		if !volume.Terminating(pod) {
			continue
		}
		if asked := metav1.NewMicroTime(deletionAsked(pod)); first == nil || asked.Before(first) {
			first = &asked
		}
	}
	if first == nil {
		return d.now()
	}
	return first
}

// settleClients puts the clients of the wanted volumes on the list of entries, before Ceph hears of them (S8).
func (d *draft) settleClients(began bool) {
	if !began && d.s.Fence.Spec.Automatic && notNow(d.s) != nil {
		return // S7; tellPending says so
	}
	before := len(d.status.Clients)
	for _, entry := range d.status.Volumes {
		if entry.Phase != v1alpha1.VolumeHeld {
			continue
		}
		v, _ := d.s.volume(entry.PersistentVolume)
		for _, text := range entry.Clients {
			address, err := ceph.ParseAddress(text)
			known := slices.ContainsFunc(d.status.Clients, func(c v1alpha1.FencedClient) bool {
				return c.ClusterID == v.ClusterID && c.Address == text
			})
			if err == nil && !known {
				d.status.Clients = append(d.status.Clients, v1alpha1.FencedClient{
					ClusterID: v.ClusterID, Address: text, Scope: scopeOf(address), Source: d.from[clientKey{v.ClusterID, address}],
					Foreign: foreign(d.s, v.ClusterID, address),
				})
			}
		}
	}
	if !began && len(d.status.Clients) > 0 {
		d.status.Phase = v1alpha1.PhaseFencing
		d.status.Times.FencingAt = d.now()
		d.announceNode(normal, v1alpha1.ReasonFenceStarted, "Fence", fmt.Sprintf(
			"Fencing node %s (%s): its Ceph clients %s are put on the blocklist, since these claims are wanted elsewhere: %s.",
			d.s.NodeName, d.why(), d.clientList(), d.wantedClaims()))
	}
	if len(d.status.Clients) > before {
		d.tellNeighbours()
	}
}

func (d *draft) why() string {
	if d.s.Fence.Spec.Automatic {
		return d.s.Fence.Spec.Reason
	}
	return "a person asked for it"
}

// writeEntries adds blocklist entries, also again, and notes how long they last.
func (d *draft) writeEntries(state nodeState, began bool) {
	for _, step := range entriesToWrite(d.s, d.status, state.acts()) {
		d.steps = append(d.steps, step)
		d.noteAsked(step)
		d.look(immediately)
	}
	gone := false
	for i := range d.status.Clients {
		c := &d.status.Clients[i]
		cluster := d.s.Clusters[c.ClusterID]
		if cluster.Error != nil {
			continue
		}
		stood := c.Until != nil
		c.Until = nil
		address, err := ceph.ParseAddress(c.Address)
		if err != nil {
			continue
		}
		expiry, stands := cluster.Map.Blocklist[address]
		c.Foreign = c.Foreign && foreign(d.s, c.ClusterID, address)
		gone = gone || c.Kept && stood && !stands
		if stands {
			c.Until = new(metav1.NewTime(expiry))
		}
		if listed(cluster, address, d.s.Now.Add(expiryMargin)) {
			d.noteArrived(c)
			continue
		}
		c.Epoch = 0 // proven no longer
		if stands {
			d.tellEndsTooSoon(*c, expiry)
		}
	}
	if began && gone {
		d.announceFence(normal, v1alpha1.ReasonFenceRenewed, "Renew", fmt.Sprintf(
			"Writing blocklist entries of node %s again: they were gone.", d.s.NodeName))
	}
}

// recordProof keeps the epoch with which each entry was proven, and tells when all are for the first time.
func (d *draft) recordProof(proof verified) {
	for i := range d.status.Clients {
		c := &d.status.Clients[i]
		if address, err := ceph.ParseAddress(c.Address); err == nil {
			if epoch := proof.epoch(c.ClusterID, address); epoch > 0 {
				c.Epoch, c.Kept = int64(epoch), true
			}
		}
	}
	if d.status.Times.FencedAt == nil && d.allProven() {
		d.status.Times.FencedAt = d.now()
		d.announceNode(normal, v1alpha1.ReasonNodeFenced, "Fence", fmt.Sprintf(
			"Fenced node %s: Ceph refuses its clients %s, proven on every placement group that serves its volumes. "+
				"The fence stays until the node is Ready with a new boot.", d.s.NodeName, d.clientList()))
	}
}

func (d *draft) allProven() bool {
	return len(d.status.Clients) > 0 && !slices.ContainsFunc(d.status.Clients, func(c v1alpha1.FencedClient) bool { return c.Epoch == 0 })
}

func (d *draft) clientList() string {
	addresses := make([]string, len(d.status.Clients))
	for i, c := range d.status.Clients {
		addresses[i] = c.Address
	}
	return strings.Join(addresses, ", ")
}

func (d *draft) wantedClaims() string {
	var claims []string
	for _, entry := range d.status.Volumes {
		if len(entry.Clients) > 0 {
			claims = append(claims, entry.Claim)
		}
	}
	return strings.Join(claims, ", ")
}

// deletionAsked is when the deletion of a Terminating pod was asked for: its deletionTimestamp is when its grace period ends.
func deletionAsked(pod *corev1.Pod) time.Time {
	asked := pod.DeletionTimestamp.Time
	if grace := pod.DeletionGracePeriodSeconds; grace != nil {
		asked = asked.Add(-time.Duration(*grace) * time.Second)
	}
	return asked
}
