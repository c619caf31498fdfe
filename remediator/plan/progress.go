package plan

import (
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/rbd-rescue/rbd-rescue/api/v1alpha1"
	"github.com/rbd-rescue/rbd-rescue/volume"
)

// beginRelease moves the wanted volumes whose clients are proven to be cut off on to their release.
func (d *draft) beginRelease(proof verified, missing map[string]refusal) {
	for i := range d.status.Volumes {
		entry := &d.status.Volumes[i]
		v, ok := d.s.volume(entry.PersistentVolume)
		if !ok || entry.Phase != v1alpha1.VolumeHeld || entry.Reason != v1alpha1.ReasonWaiting {
			continue
		}
		if !proof.covers(v, entry.Clients) {
			if why, is := missing[v.ClusterID]; is {
				entry.Message = "waits for the proof of the fence: " + why.message
			}
			if len(settledClients(d.s, v)) == 0 {
				d.look(immediately) // only from now on are its pools asked
			}
			continue
		}
		if watcher := watching(v, entry.Clients); watcher != "" {
			entry.Message = fmt.Sprintf("client %s is cut off, but Ceph still shows it as a watcher of the image", watcher)
			continue
		}
		if !d.settleSnapshot(entry, v) {
			continue
		}
		entry.Phase, entry.Reason, entry.Message = v1alpha1.VolumeReleasing, "", ""
		entry.ReleasingAt = d.now()
		d.keep(v, entry.Clients)
	}
	d.tellWithout()
}

// followVolumes sees which volumes have left the node and which run elsewhere.
func (d *draft) followVolumes() {
	node := d.s.NodeName
	for i := range d.status.Volumes {
		entry := &d.status.Volumes[i]
		v, ok := d.s.volume(entry.PersistentVolume)
		if !ok {
			if entry.Phase == v1alpha1.VolumeReleasing {
				entry.Phase, entry.ReleasedAt, entry.Message = v1alpha1.VolumeReleased, d.now(), "its PersistentVolume was deleted"
			}
			continue
		}
		if entry.Phase == v1alpha1.VolumeReleasing {
			d.tellHindrance(entry, v)
		}
		if entry.Phase == v1alpha1.VolumeReleasing && attachmentTo(node, v) == nil && len(usersOn(node, v)) == 0 {
			entry.Phase, entry.ReleasedAt = v1alpha1.VolumeReleased, d.now()
			d.announceRelease(v)
		}
		if entry.Phase != v1alpha1.VolumeReleased {
			continue
		}
		other := attachedElsewhere(node, v)
		if len(v.Attachments) == 0 { // its driver may need none: then its pod tells
			other = runsElsewhere(node, v)
		}
		if other != "" && entry.AttachedAt == nil {
			entry.AttachedAt = d.now()
		}
		if v.Shared {
			other = sharedElsewhere(node, v)
		}
		if pod := runningOn(other, v); other != "" && pod != nil {
			entry.Phase, entry.RecoveredAt, entry.RecoveredOn, entry.Message = v1alpha1.VolumeRecovered, d.now(), other, ""
			d.announceVolume(v.Volume, normal, v1alpha1.ReasonVolumeRecovered, "Recover", fmt.Sprintf(
				"Claim %s (image %s) is back: pod %s/%s runs with it on node %s%s.",
				v.Claim, v.ImageName(), pod.Namespace, pod.Name, other, d.after(entry)))
		}
	}
}

// tellHindrance says why a release does not go on that was allowed when it began (S6).
func (d *draft) tellHindrance(entry *v1alpha1.FencedVolume, v Volume) {
	before := entry.Reason
	entry.Reason, entry.Message = "", ""
	if !optedIn(d.s, v) {
		entry.Message = fmt.Sprintf("namespace %s is not in mode rescue any more, so that nothing more is done (S6)", v.Claim.Namespace)
		return
	}
	r := hindrance(d.s, d.status.Volumes, v)
	if r == nil {
		return
	}
	entry.Reason, entry.Message = r.reason, r.message
	if r.reason != "" && r.reason != before {
		d.announceVolume(v.Volume, warning, v1alpha1.ReasonVolumeRefused, "Release", fmt.Sprintf(
			"Claim %s does not get away from failed node %s (%s): %s.", v.Claim, d.s.NodeName, r.reason, r.message))
	}
}

// hindrance is why a pod of the node keeps a volume that is being released; nil for none. A pod goes only whole: it may not be
// deleted itself, or another volume of it is not released. Where that one only waits, there is no reason, and nothing to announce.
func hindrance(s Snapshot, volumes []v1alpha1.FencedVolume, v Volume) *refusal {
	users := usersOn(s.NodeName, v)
	for _, pod := range users {
		if r := podRefusal(s, pod); r != nil {
			return r
		}
	}
	for _, pod := range users {
		for _, mate := range heldVolumes(s, pod) {
			at := slices.IndexFunc(volumes, func(e v1alpha1.FencedVolume) bool { return e.PersistentVolume == mate.Name })
			if mate.Name == v.Name || at < 0 || volumes[at].Phase == v1alpha1.VolumeReleasing {
				continue
			}
			sentence := fmt.Sprintf("pod %s/%s also uses claim %s, which", pod.Namespace, pod.Name, mate.Claim)
			if volumes[at].Phase == v1alpha1.VolumeRefused {
				return &refusal{volumes[at].Reason, fmt.Sprintf("%s is refused (%s): %s", sentence, volumes[at].Reason, volumes[at].Message)}
			}
			return &refusal{"", fmt.Sprintf("%s is not released yet: %s", sentence, volumes[at].Message)}
		}
	}
	return nil
}

// sharedElsewhere is another node on which a pod runs with a ReadWriteMany volume, once no pod waits for it any more: others
// may have run all the time. Empty for none.
func sharedElsewhere(node string, v Volume) string {
	for _, pod := range v.Users {
		if pod.Spec.NodeName != node && waitsFor(v, pod) {
			return ""
		}
	}
	return runsElsewhere(node, v)
}

// runsElsewhere is another node on which a pod runs with the volume; empty for none.
func runsElsewhere(node string, v Volume) string {
	for _, pod := range v.Users {
		if pod.Spec.NodeName != node && runningOn(pod.Spec.NodeName, v) != nil {
			return pod.Spec.NodeName
		}
	}
	return ""
}

func (d *draft) after(entry *v1alpha1.FencedVolume) string {
	if entry.DemandedAt == nil {
		return ""
	}
	return fmt.Sprintf(", %.1f s after it was wanted there", d.s.Now.Sub(entry.DemandedAt.Time).Seconds())
}

func runningOn(node string, v Volume) *corev1.Pod {
	for _, pod := range usersOn(node, v) {
		if pod.Status.Phase == corev1.PodRunning && !volume.Terminating(pod) {
			return pod
		}
	}
	return nil
}

// tellPending says why nothing was asked of Ceph yet, and when it is looked at again.
func (d *draft) tellPending(state nodeState) {
	node := d.s.NodeName
	before := d.was(v1alpha1.ConditionFenced)
	refused, allRefused := d.refusals()
	phase, reason, note := v1alpha1.PhasePending, "", ""
	later := notNow(d.s)
	switch {
	case d.s.Fence.Spec.BootID == "":
		phase, reason, note = v1alpha1.PhaseRefused, v1alpha1.ReasonFenceRefused, fmt.Sprintf(
			"Refused to fence node %s: nothing tells its bootID, so the end of its boot could not be told; correct nodeName, or name the boot in spec.bootID", node)
	case state == nodeUnsettled && !sameBoot(d.s):
		reason, note = v1alpha1.ReasonWaiting, fmt.Sprintf("Node %s has booted again since boot %s failed, and is not Ready; only a NodeFence of that newer boot may act", node, d.s.Fence.Spec.BootID)
	case state == nodeUnsettled:
		reason, note = v1alpha1.ReasonWaiting, fmt.Sprintf("The kubelet of node %s answers again, but the node is not Ready; nothing is fenced while it answers", node)
	case later != nil && d.s.Fence.Spec.Automatic:
		reason, note = later.reason, later.message
	case d.unreachable() != "":
		reason, note = v1alpha1.ReasonCephUnreachable, fmt.Sprintf("Cannot fence node %s, so nothing is released; trying again: %s", node, d.unreachable())
	case allRefused:
		phase, reason, note = v1alpha1.PhaseRefused, refused.Reason, fmt.Sprintf("Refused to fence node %s: %s", node, refused.Message)
	default:
		reason, note = v1alpha1.ReasonNoDemand, fmt.Sprintf("Kubernetes does not want any volume of node %s elsewhere at the moment", node)
	}
	d.status.Phase = phase
	d.say(note)
	d.condition(v1alpha1.ConditionFenced, false, reason)
	d.look(d.backoff())
	if reason == before {
		return
	}
	switch reason {
	case v1alpha1.ReasonCephUnreachable:
		d.announceNode(warning, v1alpha1.ReasonCephUnreachable, "Fence", note)
	case v1alpha1.ReasonBreakerOpen, v1alpha1.ReasonPaused:
		d.announceNode(warning, reason, "Fence", note)
	default:
		if phase == v1alpha1.PhaseRefused {
			d.announceNode(warning, v1alpha1.ReasonFenceRefused, "Fence", note)
		}
	}
}

// unreachable says why Ceph could not be asked about a volume; empty if it could.
func (d *draft) unreachable() string {
	for _, entry := range d.status.Volumes {
		if entry.Phase == v1alpha1.VolumeHeld && entry.Reason == v1alpha1.ReasonCephUnreachable {
			return entry.Message
		}
	}
	return ""
}

// refusals gives the first refused volume, and whether no volume is left that is not refused.
func (d *draft) refusals() (first *v1alpha1.FencedVolume, all bool) {
	all = len(d.status.Volumes) > 0
	for i := range d.status.Volumes {
		switch entry := &d.status.Volumes[i]; {
		case entry.Phase != v1alpha1.VolumeRefused:
			all = false
		case first == nil:
			first = entry
		}
	}
	return first, all && first != nil
}

// tally counts the volumes of the incident by how far they are.
type tally struct {
	wanted, releasing, recovering, recovered, refused int
}

func (d *draft) tally() tally {
	var t tally
	for _, entry := range d.status.Volumes {
		switch entry.Phase {
		case v1alpha1.VolumeReleasing:
			t.wanted++
			t.releasing++
		case v1alpha1.VolumeReleased:
			if v, ok := d.s.volume(entry.PersistentVolume); ok && waitsElsewhere(d.s.NodeName, v) {
				t.wanted++
				t.recovering++
			}
		case v1alpha1.VolumeRecovered:
			t.wanted++
			t.recovered++
		case v1alpha1.VolumeRefused:
			t.wanted++
			t.refused++
		case v1alpha1.VolumeHeld:
			if len(entry.Clients) > 0 {
				t.wanted++
				t.releasing++
			}
		}
	}
	return t
}

func (t tally) releasedOf(node string) string {
	message := fmt.Sprintf("Node %s holds none of %d volumes that are wanted elsewhere", node, t.wanted)
	if left := t.releasing + t.refused; left > 0 {
		message = fmt.Sprintf("Node %s still holds %d of %d volumes that are wanted elsewhere", node, left, t.wanted)
	}
	if t.refused > 0 {
		message += fmt.Sprintf("; %d are refused", t.refused)
	}
	return message
}

func waitsElsewhere(node string, v Volume) bool {
	for _, pod := range v.Users {
		if pod.Spec.NodeName != node && !volume.Finished(pod) && !volume.Terminating(pod) {
			return true
		}
	}
	return false
}

// tellProgress sets phase, message and conditions of an incident whose fence has begun, and when to look again.
func (d *draft) tellProgress(state nodeState, missing map[string]refusal) {
	t := d.tally()
	node := d.s.NodeName
	d.status.Progress = fmt.Sprintf("%d/%d", t.recovered, t.wanted)
	proven := d.allProven()
	switch {
	case !proven:
		if d.status.Times.FencedAt == nil {
			d.status.Phase = v1alpha1.PhaseFencing
		}
		d.say(fmt.Sprintf("Fencing node %s: %s", node, firstMissing(missing)))
	case t.releasing > 0:
		d.status.Phase = v1alpha1.PhaseReleasing
		d.say(fmt.Sprintf("Node %s is fenced; moving %d of %d volumes away from it", node, t.releasing, t.wanted))
		if len(missing) > 0 { // proven once, and not in this look
			d.say(fmt.Sprintf("Node %s is fenced; %d of %d volumes wait for its proof: %s", node, t.releasing, t.wanted, firstMissing(missing)))
		} else if held := d.heldForSnapshot(); held != nil {
			d.say(fmt.Sprintf("Node %s is fenced; claim %s %s", node, held.Claim, held.Message))
		}
	case t.recovering > 0:
		d.status.Phase = v1alpha1.PhaseRecovering
		d.say(fmt.Sprintf("Node %s is fenced and holds none of its volumes; waiting for %d of %d to run elsewhere", node, t.recovering, t.wanted))
	default:
		if d.status.Phase != v1alpha1.PhaseRecovered {
			d.status.Times.RecoveredAt = d.now()
		}
		d.status.Phase = v1alpha1.PhaseRecovered
		d.say(fmt.Sprintf("%d of %d volumes run elsewhere; node %s stays fenced until it is Ready with a new boot", t.recovered, t.wanted, node))
	}
	if state == nodeReturned {
		d.say(fmt.Sprintf("Node %s is back with the boot that was cut off, and stays fenced: reboot it", node))
		if _, missing := clearedBy(d.s); missing != "" {
			d.say(fmt.Sprintf("Node %s is back with the boot that was cut off, and stays fenced until it is rebooted or nothing of that is left: %s", node, missing))
		}
	}
	if state == nodeReplaced {
		d.say(fmt.Sprintf("Another machine has taken the name of node %s; the one that was cut off may still run, so its clients stay fenced: make sure that it is off, then: kubectl annotate nodefence %s %s=%s",
			node, d.s.Fence.Name, v1alpha1.AnnotationLift, d.s.Fence.Spec.BootID))
	}
	d.setConditions(state, t, proven, missing)
	d.look(d.nextLook(t, proven))
}

func (d *draft) setConditions(state nodeState, t tally, proven bool, missing map[string]refusal) {
	node := d.s.NodeName
	fencedBefore := d.was(v1alpha1.ConditionFenced)
	liftedBefore := d.was(v1alpha1.ConditionLifted)
	if proven {
		d.conditionSaying(v1alpha1.ConditionFenced, true, v1alpha1.ReasonNodeFenced, fmt.Sprintf(
			"Ceph refuses the clients of node %s, proven on every placement group that serves its volumes", node))
	} else {
		reason := v1alpha1.ReasonFenceUnproven
		for _, m := range missing {
			if m.reason == v1alpha1.ReasonCephUnreachable {
				reason = m.reason
			}
		}
		d.conditionSaying(v1alpha1.ConditionFenced, false, reason, fmt.Sprintf("The fence of node %s is not proven: %s", node, firstMissing(missing)))
		if reason == v1alpha1.ReasonCephUnreachable && reason != fencedBefore {
			d.announceNode(warning, reason, "Fence", fmt.Sprintf(
				"Cannot prove the fence of node %s, so nothing is released; trying again: %s.", node, firstMissing(missing)))
		}
	}
	released := proven && t.releasing == 0 && t.refused == 0
	waits := pick(d.heldForSnapshot() == nil, v1alpha1.ReasonWaiting, v1alpha1.ReasonSnapshotFailed)
	d.conditionSaying(v1alpha1.ConditionReleased, released, pick(released, v1alpha1.ReasonVolumeReleased, waits), t.releasedOf(node))
	recovered := released && t.recovering == 0
	d.conditionSaying(v1alpha1.ConditionRecovered, recovered, pick(recovered, v1alpha1.ReasonVolumeRecovered, v1alpha1.ReasonWaiting),
		fmt.Sprintf("%d of %d volumes run elsewhere", t.recovered, t.wanted))
	if state != nodeReturned {
		d.condition(v1alpha1.ConditionLifted, false, v1alpha1.ReasonWaiting)
		return
	}
	d.condition(v1alpha1.ConditionLifted, false, v1alpha1.ReasonNodeStillFenced)
	if liftedBefore != v1alpha1.ReasonNodeStillFenced {
		d.announceNode(warning, v1alpha1.ReasonNodeStillFenced, "Lift", fmt.Sprintf(
			"Node %s is Ready again with the boot that was cut off (%s). Its old RBD mappings may be left, and would write again if the fence were lifted, "+
				"so it stays fenced and tainted. Reboot it: the fence is lifted by itself once it is Ready with a new boot. "+
				"If no RBD mapping of that boot is left on it (/sys/bus/rbd/devices is empty), you may also lift it: kubectl annotate nodefence %s %s=%s",
			d.s.NodeName, d.s.Fence.Spec.BootID, d.s.Fence.Name, v1alpha1.AnnotationLift, d.s.Fence.Spec.BootID))
	}
}

// heldForSnapshot is the first volume that is not released because its safety snapshot is missing; nil for none.
func (d *draft) heldForSnapshot() *v1alpha1.FencedVolume {
	for i := range d.status.Volumes {
		if entry := &d.status.Volumes[i]; entry.Phase == v1alpha1.VolumeHeld && entry.Reason == v1alpha1.ReasonSnapshotFailed {
			return entry
		}
	}
	return nil
}

// nextLook: volumes and pods send watch events, Ceph does not.
func (d *draft) nextLook(t tally, proven bool) time.Duration {
	switch {
	case !proven:
		age := d.s.Now.Sub(d.status.Times.FencingAt.Time)
		return min(max(age/4, 100*time.Millisecond), 15*time.Second)
	case t.releasing > 0:
		return 2 * time.Second
	case t.recovering > 0 || t.refused > 0:
		return 15 * time.Second
	default:
		return time.Minute
	}
}

func firstMissing(missing map[string]refusal) string {
	first := ""
	for cluster, m := range missing {
		if sentence := fmt.Sprintf("cluster %s: %s", cluster, m.message); first == "" || sentence < first {
			first = sentence
		}
	}
	return first
}

func pick(is bool, yes, no string) string {
	if is {
		return yes
	}
	return no
}
