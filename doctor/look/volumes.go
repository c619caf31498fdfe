package look

import (
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"github.com/rbd-rescue/rbd-rescue/doctor"
	"github.com/rbd-rescue/rbd-rescue/remediator/observe"
	"github.com/rbd-rescue/rbd-rescue/volume"
)

func schemaKind(apiVersion, kind string) schema.GroupVersionKind {
	return schema.FromAPIVersionAndKind(apiVersion, kind)
}

// rbdVolumes are the RBD PersistentVolumes, with the nodes that have them: by attachment, or where there is none, by their pods.
func (o objects) rbdVolumes() []doctor.Volume {
	noAttachment := map[string]bool{}
	for i := range o.drivers {
		noAttachment[o.drivers[i].Name] = !volume.AttachmentRequired(&o.drivers[i])
	}
	attached := map[string]map[string]time.Time{}
	for i := range o.attachments {
		va := &o.attachments[i]
		if name, is := volume.Attached(va); is {
			if attached[name] == nil {
				attached[name] = map[string]time.Time{}
			}
			attached[name][va.Spec.NodeName] = va.CreationTimestamp.Time
		}
	}
	users := map[types.NamespacedName][]*corev1.Pod{}
	for i := range o.pods {
		pod := &o.pods[i]
		for _, claim := range volume.Claims(pod, pod.Namespace) {
			users[claim] = append(users[claim], pod)
		}
	}
	var volumes []doctor.Volume
	for i := range o.volumes {
		pv := &o.volumes[i]
		if !volume.IsRBD(pv) {
			continue
		}
		v := doctor.Volume{ReadOnly: volume.ReadOnlyModes(pv)}
		v.Volume, v.FormError = volume.Parse(pv)
		if csi := pv.Spec.CSI; csi != nil {
			v.Driver, v.DataPool = csi.Driver, csi.VolumeAttributes["dataPool"]
		} else {
			v.Driver = pv.Annotations[volume.AnnotationMigrated]
		}
		if v.Driver == "" || noAttachment[v.Driver] {
			v.NeedsNoAttachment()
		}
		v.Record, v.RecordError = observe.ReadRecord(pv)
		v.Nodes = uses(attached[pv.Name], users[v.Claim])
		volumes = append(volumes, v)
	}
	return volumes
}

func uses(attached map[string]time.Time, users []*corev1.Pod) []doctor.Use {
	byNode := map[string]*doctor.Use{}
	for node, since := range attached {
		byNode[node] = &doctor.Use{Node: node, Since: since}
	}
	for _, pod := range users {
		use := byNode[pod.Spec.NodeName]
		if use == nil && len(attached) > 0 {
			continue
		}
		if use == nil {
			use = &doctor.Use{Node: pod.Spec.NodeName}
			byNode[pod.Spec.NodeName] = use
		}
		use.Pods = append(use.Pods, pod)
		if started := pod.Status.StartTime; started != nil && started.After(use.Since) {
			use.Since = started.Time
		}
	}
	var all []doctor.Use
	for _, use := range byNode {
		all = append(all, *use)
	}
	return all
}
