package status

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rbd-rescue/rbd-rescue/api/v1alpha1"
	"github.com/rbd-rescue/rbd-rescue/cmd/rbd-rescue/config"
	"github.com/rbd-rescue/rbd-rescue/remediator/observe"
	"github.com/rbd-rescue/rbd-rescue/remediator/plan"
	"github.com/rbd-rescue/rbd-rescue/volume"
)

// Look reads what is so, with the right to list what a snapshot is made of (docs/kubectl-rescue.md).
func Look(ctx context.Context, from client.Reader, namespace string, now clock.PassiveClock) (Status, error) {
	s := Status{At: now.Now(), Namespace: namespace, Nodes: []Node{}, Waiting: []Pod{}}
	settings, note, err := settings(ctx, from, namespace)
	if err != nil {
		return s, err
	}
	if note != "" {
		s.Notes = append(s.Notes, note)
	}
	reader, err := observe.NewListed(ctx, from, func(o client.Object) client.Object { return o })
	if err != nil {
		return s, err
	}
	look := &look{reader: reader, status: &s, observer: &observe.Observer{
		Reader: reader, Live: reader, Clock: now, Namespace: namespace, Settings: settings,
	}}
	for _, read := range []func(context.Context) error{look.whole, look.nodes, look.waiting, look.protection} {
		if err := read(ctx); err != nil {
			return s, err
		}
	}
	return s, nil
}

// settings are the remediator's, or its defaults and a note where they cannot be read.
func settings(ctx context.Context, from client.Reader, namespace string) (plan.Settings, string, error) {
	const name, key = "rbd-rescue-remediator", "config.yaml"
	var file corev1.ConfigMap
	switch err := from.Get(ctx, client.ObjectKey{Namespace: namespace, Name: name}, &file); {
	case apierrors.IsNotFound(err), apierrors.IsForbidden(err):
		return plan.DefaultSettings(), fmt.Sprintf("the remediator's settings cannot be read, so that its defaults are assumed: %v", err), nil
	case err != nil:
		return plan.Settings{}, "", fmt.Errorf("reading the remediator's settings: %w", err)
	}
	configuration, err := config.Parse([]byte(file.Data[key]))
	if err != nil {
		return plan.DefaultSettings(), fmt.Sprintf("ConfigMap %s/%s holds no configuration, so that defaults are assumed: %v", namespace, name, err), nil
	}
	return configuration.Settings(), "", nil
}

type look struct {
	reader   client.Reader
	observer *observe.Observer
	status   *Status
}

// whole reads what holds for all nodes: breaker and pause.
func (l *look) whole(ctx context.Context) error {
	health, err := l.observer.Health(ctx)
	if err != nil {
		return err
	}
	settings := l.observer.Settings
	l.status.Breaker = Breaker{
		Open: plan.BreakerOpen(health, nil, settings), Nodes: health.Nodes, Failed: health.Failed, NotReady: health.NotReady,
		Returned: health.Returned, MaxFailedNodes: settings.MaxFailedNodes.String(),
	}
	var namespace corev1.Namespace
	switch err := l.reader.Get(ctx, client.ObjectKey{Name: l.status.Namespace}, &namespace); {
	case apierrors.IsNotFound(err):
		l.status.Notes = append(l.status.Notes, fmt.Sprintf("there is no namespace %s: say where rbd-rescue runs with --rescue-namespace", l.status.Namespace))
	case err != nil:
		return err
	}
	l.status.Paused = pauseOf(&namespace)
	return nil
}

func pauseOf(o client.Object) *Pause {
	annotations := o.GetAnnotations()
	if annotations[v1alpha1.AnnotationPaused] != "true" {
		return nil
	}
	return &Pause{By: annotations[v1alpha1.AnnotationPausedBy], Reason: annotations[v1alpha1.AnnotationPausedReason]}
}

// nodes are those that a person wants to know of.
func (l *look) nodes(ctx context.Context) error {
	names, err := l.observer.NodesInTrouble(ctx)
	if err != nil {
		return err
	}
	var fences v1alpha1.NodeFenceList
	if err := l.reader.List(ctx, &fences); err != nil {
		return err
	}
	for i := range fences.Items {
		if fences.Items[i].Active() {
			names = append(names, fences.Items[i].Spec.NodeName)
		}
	}
	var nodes corev1.NodeList
	if err := l.reader.List(ctx, &nodes); err != nil {
		return err
	}
	for i := range nodes.Items {
		if pauseOf(&nodes.Items[i]) != nil {
			names = append(names, nodes.Items[i].Name)
		}
	}
	slices.Sort(names)
	for _, name := range slices.Compact(names) {
		snapshot, err := l.observer.Node(ctx, name)
		if err != nil {
			return err
		}
		l.status.Nodes = append(l.status.Nodes, nodeOf(snapshot))
	}
	return nil
}

func nodeOf(s plan.Snapshot) Node {
	n := Node{Name: s.NodeName, State: "Gone"}
	if s.Node != nil {
		n.State, n.Since = stateOf(s.Node)
		n.Paused = pauseOf(s.Node)
	}
	nf := s.Fence
	if nf == nil || !nf.Active() {
		n.Next, n.Volumes = outlook(plan.Detect(s)), held(s)
		return n
	}
	n.Next = nf.Status.Message
	n.Fence = &Fence{Name: nf.Name, Phase: string(nf.Status.Phase), Progress: nf.Status.Progress}
	if nf.Status.Phase == "" {
		n.Next = fmt.Sprintf("no remediator has begun with NodeFence %s; if that stays so, kubectl rescue doctor says whether one runs", nf.Name)
		n.Volumes = held(s)
		return n
	}
	for _, c := range nf.Status.Clients {
		n.Fence.Clients = append(n.Fence.Clients, c.Address)
	}
	for _, v := range nf.Status.Volumes {
		n.Volumes = append(n.Volumes, Volume{
			Claim: v.Claim, PersistentVolume: v.PersistentVolume, Image: v.Image, Phase: string(v.Phase), Reason: v.Reason,
			WaitsFor: v.Message, RecoveredOn: v.RecoveredOn,
		})
	}
	for _, v := range nf.Status.Neighbours {
		n.Volumes = append(n.Volumes, Volume{Claim: v.Claim, PersistentVolume: v.PersistentVolume, Phase: "Neighbour", WaitsFor: "cut off as well; stays on the node"})
	}
	return n
}

// held are the volumes that the node holds and no NodeFence lists yet.
func held(s plan.Snapshot) []Volume {
	var found []Volume
	for _, v := range s.Volumes {
		if plan.HeldBy(s, v) {
			found = append(found, Volume{
				Claim: v.Claim.String(), PersistentVolume: v.Name, Image: v.ImageName(), Phase: string(v1alpha1.VolumeHeld),
				WaitsFor: plan.WaitsFor(s, v),
			})
		}
	}
	return found
}

func stateOf(node *corev1.Node) (string, *metav1.Time) {
	if failure, failed := volume.Failed(node); failed {
		return "Failed", new(metav1.NewTime(failure.Since))
	}
	if since, is := volume.NotReady(node); is {
		return "NotReady", new(metav1.NewTime(since))
	}
	since, ready := volume.ReadySince(node)
	if !ready {
		return "NotReady", nil
	}
	return "Ready", new(metav1.NewTime(since))
}

// outlook says why there is no NodeFence.
func outlook(verdict plan.Verdict) string {
	switch {
	case len(verdict.Events) > 0:
		return verdict.Events[0].Note
	case verdict.Create != nil:
		return "a NodeFence is due"
	default:
		return verdict.Why
	}
}

// waiting are the pods that carry the flag or the gate.
func (l *look) waiting(ctx context.Context) error {
	flagged, err := l.observer.Flagged(ctx)
	if err != nil {
		return err
	}
	for _, pod := range flagged {
		var held []v1alpha1.HeldVolume
		_ = json.Unmarshal([]byte(pod.Annotations[v1alpha1.AnnotationHeldVolumes]), &held) // a hint for people
		p := Pod{Namespace: pod.Namespace, Name: pod.Name, Gated: plan.Gated(pod), WaitsFor: []string{}}
		for _, v := range held {
			p.WaitsFor = append(p.WaitsFor, fmt.Sprintf("claim %s on node %s", v.Claim, v.Node))
		}
		l.status.Waiting = append(l.status.Waiting, p)
	}
	slices.SortFunc(l.status.Waiting, func(a, b Pod) int {
		return strings.Compare(a.Namespace+"/"+a.Name, b.Namespace+"/"+b.Name)
	})
	return nil
}

// protection looks at every RBD volume that is attached.
func (l *look) protection(ctx context.Context) error {
	p := &l.status.Protection
	p.Unrecorded, p.NotOptedIn = []Unprotected{}, []Unprotected{}
	var attachments storagev1.VolumeAttachmentList
	if err := l.reader.List(ctx, &attachments); err != nil {
		return err
	}
	for i := range attachments.Items {
		va := &attachments.Items[i]
		name, attached := volume.Attached(va)
		if !attached {
			continue
		}
		var pv corev1.PersistentVolume
		if err := l.reader.Get(ctx, client.ObjectKey{Name: name}, &pv); err != nil {
			if apierrors.IsNotFound(err) {
				continue
			}
			return err
		}
		if !volume.IsRBD(&pv) || volume.ReadOnlyModes(&pv) {
			continue
		}
		if err := l.protected(ctx, &pv, va.Spec.NodeName); err != nil {
			return err
		}
	}
	return nil
}

func (l *look) protected(ctx context.Context, pv *corev1.PersistentVolume, nodeName string) error {
	p := &l.status.Protection
	p.Attached++
	v, formError := volume.Parse(pv)
	policy, err := l.observer.Policy(ctx, v.Claim.Namespace)
	if err != nil {
		return err
	}
	users, err := l.observer.Users(ctx, v.Claim)
	if err != nil {
		return err
	}
	node, err := observe.ReadNode(ctx, l.reader, nodeName)
	if err != nil {
		return err
	}
	entry := Unprotected{Claim: v.Claim.String(), PersistentVolume: pv.Name, Node: nodeName}
	switch entry.Why = missing(pv, formError, node, nodeName, users); {
	case !policy.OptedIn():
		entry.Why = fmt.Sprintf("namespace %s is in no mode", v.Claim.Namespace)
		p.NotOptedIn = append(p.NotOptedIn, entry)
	case entry.Why != "":
		p.Unrecorded = append(p.Unrecorded, entry)
	case policy.Mode == v1alpha1.ModeObserve:
		p.Observed++
	default:
		p.Recorded++
	}
	return nil
}

// missing says what keeps the record of a volume from being fresh; empty for nothing.
func missing(pv *corev1.PersistentVolume, formError error, node *corev1.Node, nodeName string, users []*corev1.Pod) string {
	if formError != nil {
		return formError.Error()
	}
	records, err := observe.ReadRecord(pv)
	if err != nil {
		return err.Error()
	}
	record, is := records[nodeName]
	switch {
	case !is || len(record.Clients) == 0:
		return "no Ceph client is on record"
	case node != nil && record.BootID != volume.BootID(node):
		return "the record is of an earlier boot"
	}
	for _, pod := range users {
		if pod.Spec.NodeName == nodeName && pod.Status.Phase == corev1.PodRunning && !record.Covers(pod.UID) {
			return fmt.Sprintf("the record is older than pod %s/%s", pod.Namespace, pod.Name)
		}
	}
	return ""
}
