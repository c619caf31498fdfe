package policies

import (
	"testing"

	"github.com/rbd-rescue/rbd-rescue/api/v1alpha1"
)

// A fence may be lifted by what an agent says (S3): it speaks for its own node alone, and nobody else speaks for it.
func TestAnAgentSpeaksForItsOwnNodeAlone(t *testing.T) {
	t.Parallel()
	own := nodeFence("agent-own", func(nf *v1alpha1.NodeFence) {
		nf.Spec.NodeName, nf.Annotations = agentNode, map[string]string{"a": "b"}
		nf.Finalizers = []string{"rbd-rescue.io/fence"}
	})
	told := nodeFence("agent-told", func(nf *v1alpha1.NodeFence) {
		nf.Spec.NodeName, nf.Annotations = agentNode, map[string]string{v1alpha1.AnnotationCleared: "{}"}
	})
	other := nodeFence("agent-other", nil)
	made(t, own, told, other)
	const (
		cleared   = `{"metadata":{"annotations":{"rbd-rescue.io/cleared":"{\"left\":[]}"}}}`
		ownNode   = "an agent speaks for its own node only"
		onlyThat  = "an agent writes annotation rbd-rescue.io/cleared and no other metadata"
		nodesWord = "annotation rbd-rescue.io/cleared is the node's own word"
	)
	try(t, by([]string{"agent"}, map[string]attempt{
		"tells what is left":             {do: merge(own, cleared)},
		"tells it first":                 {do: merge(told, cleared)},
		"tells it no more":               {do: merge(told, `{"metadata":{"annotations":null}}`)},
		"not of another node":            {do: merge(other, cleared), refused: ownNode},
		"does not lift":                  {do: merge(own, `{"metadata":{"annotations":{"rbd-rescue.io/lift":"boot"}}}`), refused: onlyThat},
		"does not lift beside it":        {do: merge(own, `{"metadata":{"annotations":{"rbd-rescue.io/cleared":"{}","rbd-rescue.io/lift":"boot"}}}`), refused: onlyThat},
		"takes no annotation":            {do: merge(own, `{"metadata":{"annotations":null}}`), refused: onlyThat},
		"changes none":                   {do: merge(own, `{"metadata":{"annotations":{"a":"c"}}}`), refused: onlyThat},
		"labels nothing":                 {do: merge(own, `{"metadata":{"labels":{"a":"b"}}}`), refused: onlyThat},
		"keeps the finalizer":            {do: merge(own, `{"metadata":{"finalizers":null}}`), refused: "denied request"}, // by two policies; either may answer
		"changes no boot":                {do: merge(own, `{"spec":{"bootID":"boot"}}`), refused: "changes no spec"},
		"moves no NodeFence to its node": {do: merge(other, `{"spec":{"nodeName":"node-agent"}}`), refused: "its spec cannot be changed"},
		"writes no status":               {do: mergeStatus(own, `{"status":{"phase":"Lifted"}}`), refused: "cannot patch resource"},
		"makes no NodeFence":             {do: create(nodeFence("agent-new", nil)), refused: "cannot create resource"},
		"deletes no NodeFence":           {do: remove(own), refused: "cannot delete resource"},
		"writes no node":                 {do: merge(node(agentNode, ""), `{"metadata":{"labels":{"a":"b"}}}`), refused: "cannot patch resource"},
	}))
	try(t, map[string]attempt{
		"an agent whose token names no node says nothing": {as: "anywhere", do: merge(own, cleared), refused: ownNode},
		"the kubelet does not speak for its node":         {as: "system:node:node-a", do: merge(other, cleared), refused: "cannot patch resource"},
		"the remediator does not speak for a node":        {as: "remediator", do: merge(own, cleared), refused: "the remediator annotates no NodeFence"},
		"no other speaks for a node":                      {as: "operator", do: merge(own, cleared), refused: nodesWord},
		"no other takes a node's word away":               {as: "operator", do: merge(told, `{"metadata":{"annotations":null}}`), refused: nodesWord},
		"no other makes a NodeFence that is cleared": {as: "operator", do: create(nodeFence("agent-forged", func(nf *v1alpha1.NodeFence) {
			nf.Annotations = map[string]string{v1alpha1.AnnotationCleared: "{}"}
		})), refused: nodesWord},
		"who may override may": {as: "overrider", do: merge(own, cleared)},
	})
}
