package webhook

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"unique"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rbd-rescue/rbd-rescue/api/v1alpha1"
	"github.com/rbd-rescue/rbd-rescue/volume"
)

// volumes keeps what the index reads of PersistentVolumes and VolumeAttachments, of which a large cluster has 100,000 each, and
// answers as a cache of them would: the objects of an informer's cache take ten times the memory, however much of them is
// stripped. What it is asked for costs as much as the answer is long.
type volumes struct {
	// Reader reads all other kinds.
	client.Reader

	lock sync.RWMutex
	// attachments by node; those alone that say attached.
	attachments map[string][]keptAttachment
	byName      map[id]*keptVolume
	// byUniqueName are the first of those with the name.
	byUniqueName map[id]*keptVolume
	// recorded are those whose record names the node.
	recorded map[string][]*keptVolume

	attachmentsSynced, volumesSynced synced
}

// id stands for a name that is only compared: half of its SHA-256.
type id [sha256.Size / 2]byte

func idOf(name string) id {
	sum := sha256.Sum256([]byte(name))
	return id(sum[:len(id{})])
}

// keptAttachment is what is kept of a VolumeAttachment.
type keptAttachment struct{ name, volume id }

// shared is a text that many objects have.
type shared = unique.Handle[string]

// keptVolume is what is kept of a PersistentVolume of RBD; of the others nothing is.
type keptVolume struct {
	name             string
	claimNamespace   shared
	claimName        string
	driver           shared // empty for one of the in-tree driver
	uniqueName       id
	recorded         shared // names of nodes, with commas
	released, shared bool
	// next has the same unique name.
	next *keptVolume
}

func newVolumes(reader client.Reader) *volumes {
	return &volumes{
		Reader: reader, attachments: map[string][]keptAttachment{}, byName: map[id]*keptVolume{}, byUniqueName: map[id]*keptVolume{},
		recorded:          map[string][]*keptVolume{},
		attachmentsSynced: newSynced(), volumesSynced: newSynced(),
	}
}

// object is the PersistentVolume, with all that the index reads of it.
func (p *keptVolume) object() corev1.PersistentVolume {
	pv := corev1.PersistentVolume{ObjectMeta: metav1.ObjectMeta{Name: p.name}}
	if p.claimName != "" {
		pv.Spec.ClaimRef = &corev1.ObjectReference{Namespace: p.claimNamespace.Value(), Name: p.claimName}
	}
	if p.shared {
		pv.Spec.AccessModes = []corev1.PersistentVolumeAccessMode{corev1.ReadWriteMany}
	}
	pv.Status.Phase = corev1.VolumeBound
	if p.released {
		pv.Status.Phase = corev1.VolumeReleased
	}
	if driver := p.driver.Value(); driver != "" {
		pv.Spec.CSI = &corev1.CSIPersistentVolumeSource{Driver: driver}
	} else {
		pv.Spec.RBD = &corev1.RBDPersistentVolumeSource{}
	}
	return pv
}

// recordedNodes are those that the record names.
func (p *keptVolume) recordedNodes() []string {
	return slices.DeleteFunc(strings.Split(p.recorded.Value(), ","), func(name string) bool { return name == "" })
}

// Get reads a PersistentVolume, or an object of another kind from the Reader.
func (v *volumes) Get(ctx context.Context, key client.ObjectKey, obj client.Object, opts ...client.GetOption) error {
	pv, is := obj.(*corev1.PersistentVolume)
	if !is {
		return v.Reader.Get(ctx, key, obj, opts...)
	}
	v.lock.RLock()
	defer v.lock.RUnlock()
	p := v.byName[idOf(key.Name)]
	if p == nil {
		return apierrors.NewNotFound(corev1.Resource("persistentvolumes"), key.Name)
	}
	*pv = p.object()
	return nil
}

// List lists PersistentVolumes and VolumeAttachments by one of the fields, or objects of another kind from the Reader.
func (v *volumes) List(ctx context.Context, list client.ObjectList, opts ...client.ListOption) error {
	var options client.ListOptions
	options.ApplyOptions(opts)
	field, value := "", ""
	if options.FieldSelector != nil && len(options.FieldSelector.Requirements()) == 1 {
		requirement := options.FieldSelector.Requirements()[0]
		field, value = requirement.Field, requirement.Value
	}
	v.lock.RLock()
	defer v.lock.RUnlock()
	switch list := list.(type) {
	case *storagev1.VolumeAttachmentList:
		if field == fieldNode {
			list.Items = v.attachedTo(value)
			return nil
		}
	case *corev1.PersistentVolumeList:
		switch field {
		case fieldUniqueName:
			list.Items = v.called(value)
			return nil
		case fieldRecordedNode:
			list.Items = v.recordedOn(value)
			return nil
		}
	default:
		return v.Reader.List(ctx, list, opts...)
	}
	return fmt.Errorf("listing %T by field %q: only one of the fields of the index can be asked for", list, field)
}

// NodesWithAttachments names them, in order.
func (v *volumes) NodesWithAttachments(context.Context) ([]string, error) {
	v.lock.RLock()
	defer v.lock.RUnlock()
	return slices.Sorted(maps.Keys(v.attachments)), nil
}

// attachedTo leaves out attachments of volumes that are not RBD's, or not there.
func (v *volumes) attachedTo(node string) []storagev1.VolumeAttachment {
	var items []storagev1.VolumeAttachment
	for _, a := range v.attachments[node] {
		if pv := v.byName[a.volume]; pv != nil {
			items = append(items, attached(pv.name, node))
		}
	}
	return items
}

// nodesOf are the nodes that a PersistentVolume is attached to. It looks through all attachments: it is asked only when the
// claim of a volume changes.
func (v *volumes) nodesOf(pv string) []string {
	v.lock.RLock()
	defer v.lock.RUnlock()
	var nodes []string
	wanted := idOf(pv)
	for node, all := range v.attachments {
		if slices.ContainsFunc(all, func(a keptAttachment) bool { return a.volume == wanted }) {
			nodes = append(nodes, node)
		}
	}
	slices.Sort(nodes)
	return nodes
}

func attached(pv, node string) storagev1.VolumeAttachment {
	return storagev1.VolumeAttachment{
		Spec:   storagev1.VolumeAttachmentSpec{NodeName: node, Source: storagev1.VolumeAttachmentSource{PersistentVolumeName: &pv}},
		Status: storagev1.VolumeAttachmentStatus{Attached: true},
	}
}

func (v *volumes) called(uniqueName string) []corev1.PersistentVolume {
	var items []corev1.PersistentVolume
	for p := v.byUniqueName[idOf(uniqueName)]; p != nil; p = p.next {
		items = append(items, p.object())
	}
	return items
}

func (v *volumes) recordedOn(node string) []corev1.PersistentVolume {
	var items []corev1.PersistentVolume
	for _, p := range v.recorded[node] {
		items = append(items, p.object())
	}
	return items
}

// putAttachment tells whether something that the index reads has changed. So do all that put and remove.
func (v *volumes) putAttachment(node string, a keptAttachment) bool {
	v.lock.Lock()
	defer v.lock.Unlock()
	known := slices.IndexFunc(v.attachments[node], func(one keptAttachment) bool { return one.name == a.name })
	switch {
	case known < 0:
		v.attachments[node] = append(v.attachments[node], a)
	case v.attachments[node][known] != a:
		v.attachments[node][known] = a
	default:
		return false
	}
	return true
}

func (v *volumes) removeAttachment(node, name string) bool {
	v.lock.Lock()
	defer v.lock.Unlock()
	wanted := idOf(name)
	before := len(v.attachments[node])
	left := slices.DeleteFunc(v.attachments[node], func(a keptAttachment) bool { return a.name == wanted })
	if v.attachments[node] = left; len(left) == 0 {
		delete(v.attachments, node)
	}
	return len(left) < before
}

// replaceAttachments gives the names of all nodes that have or had some.
func (v *volumes) replaceAttachments(byNode map[string][]keptAttachment) []string {
	v.lock.Lock()
	defer v.lock.Unlock()
	nodes := slices.AppendSeq(slices.Collect(maps.Keys(v.attachments)), maps.Keys(byNode))
	v.attachments = byNode
	slices.Sort(nodes)
	return slices.Compact(nodes)
}

// compact gives what is kept of a PersistentVolume; of one that is not RBD's only the name, and false.
func compact(pv *corev1.PersistentVolume) (*keptVolume, bool) {
	if !volume.IsRBD(pv) {
		return &keptVolume{name: pv.Name}, false
	}
	parsed, _ := volume.Parse(pv) // a volume of an unknown form is held as well
	p := &keptVolume{
		name: pv.Name, claimNamespace: unique.Make(parsed.Claim.Namespace), claimName: parsed.Claim.Name,
		uniqueName: idOf(parsed.UniqueName), released: parsed.ClaimGone, shared: parsed.Shared,
	}
	driver := ""
	if pv.Spec.CSI != nil {
		driver = pv.Spec.CSI.Driver
	}
	p.driver = unique.Make(driver)
	var record v1alpha1.ClientRecord
	if text := pv.Annotations[v1alpha1.AnnotationClients]; text != "" && json.Unmarshal([]byte(text), &record) != nil {
		record = nil
	}
	p.recorded = unique.Make(strings.Join(slices.Sorted(maps.Keys(record)), ","))
	return p, true
}

// putVolume reports a change of what the index reads, but not of the record, which may be old anyway.
func (v *volumes) putVolume(p *keptVolume) bool {
	v.lock.Lock()
	defer v.lock.Unlock()
	before := v.byName[idOf(p.name)]
	v.unlink(before)
	v.link(p)
	return before == nil || before.claimNamespace != p.claimNamespace || before.claimName != p.claimName || before.released != p.released
}

func (v *volumes) removeVolume(name string) bool {
	v.lock.Lock()
	defer v.lock.Unlock()
	before := v.byName[idOf(name)]
	v.unlink(before)
	return before != nil
}

func (v *volumes) replaceVolumes(all []*keptVolume) {
	v.lock.Lock()
	defer v.lock.Unlock()
	v.byName, v.byUniqueName = make(map[id]*keptVolume, len(all)), make(map[id]*keptVolume, len(all))
	v.recorded = map[string][]*keptVolume{}
	for _, p := range all {
		v.link(p)
	}
}

func (v *volumes) link(p *keptVolume) {
	v.byName[idOf(p.name)] = p
	p.next = v.byUniqueName[p.uniqueName]
	v.byUniqueName[p.uniqueName] = p
	for _, node := range p.recordedNodes() {
		v.recorded[node] = append(v.recorded[node], p)
	}
}

func (v *volumes) unlink(p *keptVolume) {
	if p == nil {
		return
	}
	delete(v.byName, idOf(p.name))
	switch first := v.byUniqueName[p.uniqueName]; {
	case first == p && p.next == nil:
		delete(v.byUniqueName, p.uniqueName)
	case first == p:
		v.byUniqueName[p.uniqueName] = p.next
	default:
		for first.next != p {
			first = first.next
		}
		first.next = p.next
	}
	for _, node := range p.recordedNodes() {
		v.recorded[node] = slices.DeleteFunc(v.recorded[node], func(one *keptVolume) bool { return one == p })
		if len(v.recorded[node]) == 0 {
			delete(v.recorded, node)
		}
	}
}
