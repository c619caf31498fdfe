package history

import (
	"encoding/json"

	"github.com/rbd-rescue/rbd-rescue/api/v1alpha1"
	"github.com/rbd-rescue/rbd-rescue/ceph"
	"github.com/rbd-rescue/rbd-rescue/node"
)

// survey is what an agent on the machine finds.
func (m *machine) survey() node.Survey {
	s := node.Survey{BootID: m.bootID()}
	for i, image := range m.images() {
		if isProcess(image) {
			s.Processes = append(s.Processes, node.Process{PID: i, Name: "rbd-nbd"})
			continue
		}
		s.Mappings = append(s.Mappings, node.Mapping{ID: i, Pool: pools[image][0], Image: image, Client: m.mapped[image].client})
	}
	return s
}

// agent clears what was moved away, and tells on the NodeFences of this very boot what is left.
func (m *machine) agent() {
	if !m.world.agents || !m.running || !m.apiLink {
		return
	}
	for _, nf := range list[*v1alpha1.NodeFence](m.world.api.objects) {
		if nf.Spec.NodeName != m.name || !nf.Active() || len(nf.Status.Clients) == 0 || nf.Spec.BootID != m.bootID() {
			continue
		}
		for _, moved := range node.MovedAway(m.survey(), nf) {
			m.unmap(moved.Image)
			m.world.happened["agent cleared"]++
		}
		text, err := json.Marshal(node.Cleared(m.survey(), nf))
		if err != nil {
			m.world.Fatal(err)
		}
		if nf.Annotations[v1alpha1.AnnotationCleared] == string(text) {
			continue
		}
		m.world.tell("%s says on %s: %s", m.name, nf.Name, text)
		change(m.world.api, nf, func(nf *v1alpha1.NodeFence) {
			if nf.Annotations == nil {
				nf.Annotations = map[string]string{}
			}
			nf.Annotations[v1alpha1.AnnotationCleared] = string(text)
		})
	}
}

// checkCleared is S3 where the boot that is cut off goes on: it has no mapping of the client, or of the host, whose entry is removed.
func (w *world) checkCleared(m *machine, address string) {
	for _, image := range m.images() {
		if mp := m.mapped[image]; mp.client == address || host(mp.client) == address {
			w.broken("S3", "%s is removed from the blocklist by the word of %s, which has %s mapped as %s", address, m.name, image, mp.client)
		}
	}
	if parsed, err := ceph.ParseAddress(address); err == nil && parsed.Nonce == 0 && len(m.mapped) > 0 {
		w.broken("S3", "host %s is removed from the blocklist by the word of %s, which has images mapped", address, m.name)
	}
	w.happened["lifted by the node's word"]++
}
