package policies

import (
	"strings"
	"testing"

	"github.com/rbd-rescue/rbd-rescue/api/v1alpha1"
)

func TestANodeFencesSpecMeansSomething(t *testing.T) {
	t.Parallel()
	with := func(change func(*v1alpha1.NodeFenceSpec)) write {
		return create(nodeFence("spec-new", func(nf *v1alpha1.NodeFence) { change(&nf.Spec) }))
	}
	ofBoot := func(clients ...string) write {
		return with(func(s *v1alpha1.NodeFenceSpec) { s.BootID, s.Clients = "boot", clients })
	}
	const client, nodeName = "a client is IP:0/NONCE as rbd status prints it", "nodeName is the name of a Node"
	const bootID = "bootID is that of the node as it is, without blanks"
	try(t, by([]string{"operator", "admin"}, map[string]attempt{
		"a node":                     {do: with(func(*v1alpha1.NodeFenceSpec) {})},
		"a node of a domain":         {do: with(func(s *v1alpha1.NodeFenceSpec) { s.NodeName = "node-1.example.com" })},
		"no node":                    {do: with(func(s *v1alpha1.NodeFenceSpec) { s.NodeName = "" }), refused: "spec.nodeName"},
		"a node with a blank":        {do: with(func(s *v1alpha1.NodeFenceSpec) { s.NodeName = "node a" }), refused: nodeName},
		"a node with capitals":       {do: with(func(s *v1alpha1.NodeFenceSpec) { s.NodeName = "Node-A" }), refused: nodeName},
		"a node with its kind":       {do: with(func(s *v1alpha1.NodeFenceSpec) { s.NodeName = "node/a" }), refused: nodeName},
		"a name that is too long":    {do: with(func(s *v1alpha1.NodeFenceSpec) { s.NodeName = strings.Repeat("a", 254) }), refused: "spec.nodeName"},
		"a boot":                     {do: with(func(s *v1alpha1.NodeFenceSpec) { s.BootID = "0d9ae9b2-6f14-4b41-8a0b-3f3f6c3a5d5e" })},
		"a boot with a line break":   {do: with(func(s *v1alpha1.NodeFenceSpec) { s.BootID = "boot\n" }), refused: bootID},
		"a boot that is too long":    {do: with(func(s *v1alpha1.NodeFenceSpec) { s.BootID = strings.Repeat("a", 129) }), refused: "spec.bootID"},
		"a reason that is too long":  {do: with(func(s *v1alpha1.NodeFenceSpec) { s.Reason = strings.Repeat("a", 257) }), refused: "spec.reason"},
		"clients of every form":      {do: ofBoot("10.0.0.5:0/42", "[fd00::7]:0/42", "v1:10.0.0.5:0/4294967295", "10.0.0.6:0/0")},
		"clients of no boot":         {do: with(func(s *v1alpha1.NodeFenceSpec) { s.Clients = []string{"10.0.0.5:0/42"} }), refused: "clients are those of one boot: name it in bootID"},
		"a client without a nonce":   {do: ofBoot("10.0.0.5:0"), refused: client},
		"a client that is a host":    {do: ofBoot("10.0.0.5"), refused: client},
		"a client with a name":       {do: ofBoot("node-a:0/42"), refused: client},
		"a client without brackets":  {do: ofBoot("fd00::7:0/42"), refused: client},
		"one bad client of two":      {do: ofBoot("10.0.0.5:0/42", "10.0.0.5:0/x"), refused: client},
		"a client with a blank":      {do: ofBoot("10.0.0.5:0/42 "), refused: client},
		"a client that is too long":  {do: ofBoot(strings.Repeat("1", 81)), refused: "spec.clients"},
		"the same client twice":      {do: ofBoot("10.0.0.5:0/42", "10.0.0.5:0/42"), refused: "Duplicate value"},
		"more clients than are read": {do: ofBoot(strings.Fields(strings.Repeat("10.0.0.5:0/42 ", 65))...), refused: "spec.clients"},
	}))
}

func TestANodeFenceIsOneIncident(t *testing.T) {
	t.Parallel()
	open := nodeFence("incident-open", nil)
	settled := nodeFence("incident-settled", func(nf *v1alpha1.NodeFence) {
		nf.Spec.BootID, nf.Spec.MachineID, nf.Spec.SystemUUID = "boot", "machine", "system"
		nf.Spec.Clients, nf.Spec.Reason, nf.Spec.Automatic = []string{"10.0.0.5:0/42"}, "smoke", false
	})
	made(t, open, settled)
	const immutable = "a NodeFence is one incident: its spec cannot be changed; make another"
	try(t, by([]string{"operator", "admin", "remediator"}, map[string]attempt{
		"its boot and machine are filled in once": {do: merge(open, `{"spec":{"bootID":"boot","machineID":"machine","systemUUID":"system"}}`)},
		"not by nothing":               {do: merge(open, `{"spec":{"bootID":""}}`), refused: "spec.bootID"},
		"its node stays":               {do: merge(open, `{"spec":{"nodeName":"node-b"}}`), refused: immutable},
		"it does not become automatic": {do: merge(open, `{"spec":{"automatic":true}}`), refused: immutable},
		"it gets no clients":           {do: merge(open, `{"spec":{"bootID":"boot","clients":["10.0.0.5:0/42"]}}`), refused: immutable},
		"its boot stays":               {do: merge(settled, `{"spec":{"bootID":"boot-2"}}`), refused: immutable},
		"its boot is not taken away":   {do: merge(settled, `{"spec":{"bootID":null,"clients":null}}`), refused: immutable},
		"its machine stays":            {do: merge(settled, `{"spec":{"machineID":"machine-2"}}`), refused: immutable},
		"its system stays":             {do: merge(settled, `{"spec":{"systemUUID":null}}`), refused: immutable},
		"its clients stay":             {do: merge(settled, `{"spec":{"clients":["10.0.0.5:0/7"]}}`), refused: immutable},
		"its reason stays":             {do: merge(settled, `{"spec":{"reason":"fire"}}`), refused: immutable},
		"its labels change":            {do: merge(settled, `{"metadata":{"labels":{"a":"b"}}}`)},
	}))
}
