package policies

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func pod(namespace, name string, change func(*corev1.Pod)) *corev1.Pod {
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name, Labels: map[string]string{"app": name}},
		Spec: corev1.PodSpec{
			Containers: []corev1.Container{{Name: "c", Image: "registry.example.com/app:1"}},
			Volumes: []corev1.Volume{{Name: "data", VolumeSource: corev1.VolumeSource{
				PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: name},
			}}},
		},
	}
	if change != nil {
		change(p)
	}
	return p
}

// flagged is a pod as the webhook gives it back.
func flagged(p *corev1.Pod) {
	p.Labels["rbd-rescue.io/held"] = "true"
	p.Annotations = map[string]string{"rbd-rescue.io/held-volumes": `[{"claim":"shop/a","volume":"pv","node":"node-a"}]`}
}

func gated(p *corev1.Pod) {
	flagged(p)
	p.Spec.SchedulingGates = []corev1.PodSchedulingGate{{Name: "queue"}, {Name: "rbd-rescue.io/held"}}
}

const openGate = `[{"op":"test","path":"/spec/schedulingGates/1/name","value":"rbd-rescue.io/held"},{"op":"remove","path":"/spec/schedulingGates/1"}]`

func TestFlagsAndGatesAreRBDRescues(t *testing.T) {
	t.Parallel()
	plain, held, waiting := pod("shop", "flags-plain", nil), pod("shop", "flags-held", flagged), pod("shop", "flags-gated", gated)
	running := pod("shop", "flags-running", func(p *corev1.Pod) { flagged(p); p.Spec.NodeName = "node-a" })
	elsewhere := pod("watched", "flags-gated", gated)
	made(t, plain, held, waiting, running, elsewhere)
	const theirs = "label rbd-rescue.io/held, annotation rbd-rescue.io/held-volumes and scheduling gate rbd-rescue.io/held are rbd-rescue's"

	try(t, by([]string{"tenant", "opener", "overrider"}, map[string]attempt{
		// What others may do all the time.
		"may label a flagged pod":                             {do: merge(held, `{"metadata":{"labels":{"team":"shop"}}}`)},
		"may annotate a pod without labels":                   {do: merge(plain, `{"metadata":{"labels":null,"annotations":{"a":"b"}}}`)},
		"may write the status of a flagged pod":               {do: mergeStatus(running, `{"status":{"phase":"Running"}}`)},
		"may open another gate":                               {do: operations(waiting, `[{"op":"remove","path":"/spec/schedulingGates/0"}]`)},
		"may delete a gated pod":                              {do: remove(waiting)},
		"may make a pod with the flag that it has been given": {do: create(pod("shop", "flags-new", gated))},
	}))
	try(t, by([]string{"tenant"}, map[string]attempt{
		"may not flag a pod":                     {do: merge(plain, `{"metadata":{"labels":{"rbd-rescue.io/held":"true"}}}`), refused: theirs},
		"may not flag a pod with an empty label": {do: merge(plain, `{"metadata":{"labels":{"rbd-rescue.io/held":""}}}`), refused: theirs},
		"may not change a flag":                  {do: merge(held, `{"metadata":{"labels":{"rbd-rescue.io/held":"no"}}}`), refused: theirs},
		"may not take a flag away":               {do: merge(held, `{"metadata":{"labels":{"rbd-rescue.io/held":null}}}`), refused: theirs},
		"may not take all labels away":           {do: merge(held, `{"metadata":{"labels":null}}`), refused: theirs},
		"may not write what a pod waits for":     {do: merge(plain, `{"metadata":{"annotations":{"rbd-rescue.io/held-volumes":"[]"}}}`), refused: theirs},
		"may not change what a pod waits for":    {do: merge(held, `{"metadata":{"annotations":{"rbd-rescue.io/held-volumes":"[]"}}}`), refused: theirs},
		"may not take away what a pod waits for": {do: merge(held, `{"metadata":{"annotations":null}}`), refused: theirs},
		"may not flag a pod by its status":       {do: mergeStatus(plain, `{"metadata":{"labels":{"rbd-rescue.io/held":"true"}}}`), refused: theirs},
		"may not take a flag away by its status": {do: mergeStatus(held, `{"metadata":{"labels":{"rbd-rescue.io/held":null}}}`), refused: theirs},
		"may not open the gate":                  {do: operations(waiting, openGate), refused: theirs},
		"may not open all gates":                 {do: merge(waiting, `{"spec":{"schedulingGates":null}}`), refused: theirs},
	}))
	try(t, map[string]attempt{
		"who may override in the namespace opens the gate":    {as: "opener", do: operations(waiting, openGate)},
		"who may override everywhere opens the gate":          {as: "overrider", do: operations(waiting, openGate)},
		"who has every right opens the gate":                  {as: "admin", do: operations(waiting, openGate)},
		"who may override in the namespace takes a flag away": {as: "opener", do: merge(held, `{"metadata":{"labels":{"rbd-rescue.io/held":null}}}`)},
		"a kubelet writes the status of a flagged pod":        {as: "system:node:node-a", do: mergeStatus(running, `{"status":{"phase":"Running"}}`)},
		"a kubelet may not take a flag away":                  {as: "system:node:node-a", do: mergeStatus(running, `{"metadata":{"labels":{"rbd-rescue.io/held":null}}}`), refused: "cannot update labels through pod status"},
		"the webhook's own token may write no pod":            {as: "webhook", do: operations(waiting, openGate), refused: "cannot patch resource"},
		"the remediator opens the gate":                       {as: "remediator", do: operations(waiting, openGate)},
		"the remediator flags a pod":                          {as: "remediator", do: merge(plain, `{"metadata":{"labels":{"rbd-rescue.io/held":"true"},"annotations":{"rbd-rescue.io/held-volumes":"[]"}}}`)},
		"the remediator takes a flag away":                    {as: "remediator", do: merge(held, `{"metadata":{"labels":{"rbd-rescue.io/held":null},"annotations":{"rbd-rescue.io/held-volumes":null}}}`)},
	})
}
