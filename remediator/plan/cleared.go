package plan

import (
	"fmt"
	"slices"
	"strings"

	"github.com/rbd-rescue/rbd-rescue/api/v1alpha1"
)

// clearedBy tells whether the node itself has proven that the clients which are cut off have ended, or what is missing; empty where its
// agent has said nothing. The proof is of what the kernel of this very boot showed after each of these clients was listed: one that has
// no mapping left has ended, and a new mapping is another client. So no clock is compared, and no later mapping spoils it (S3).
//
// It is no proof where images are mapped by processes (rbd-nbd): a CSI plugin starts these again by itself.
func clearedBy(s Snapshot) (cleared bool, missing string) {
	text, told := s.Fence.Annotations[v1alpha1.AnnotationCleared]
	if !told {
		return false, ""
	}
	proof, err := v1alpha1.ParseCleared(text)
	if err != nil {
		return false, err.Error()
	}
	if proof.BootID != s.Fence.Spec.BootID || !sameBoot(s) || !sameMachine(s) {
		return false, "what its agent says is not of this boot and machine"
	}
	for _, c := range s.Fence.Status.Clients {
		if !slices.Contains(proof.Clients, c.Address) {
			return false, fmt.Sprintf("its agent has not looked for client %s yet", c.Address)
		}
	}
	for _, v := range s.Volumes {
		if v.Userspace {
			return false, fmt.Sprintf("claim %s is mapped by a process, which the node cannot prove to be over", v.Claim)
		}
	}
	if len(proof.Left) > 0 {
		return false, leftOver(proof.Left)
	}
	return true, ""
}

func isCleared(s Snapshot) bool {
	cleared, _ := clearedBy(s)
	return cleared
}

// leftOver names the mappings that keep a fence, and who has to go.
func leftOver(left []v1alpha1.LeftMapping) string {
	var texts []string
	for _, m := range left {
		text := m.Device
		if m.Image != "" {
			text += " (image " + m.Image + ")"
		}
		if len(m.Pods) > 0 {
			text += " is used by " + strings.Join(m.Pods, ", ") + ", which has to be deleted"
		}
		texts = append(texts, text)
	}
	return "mapped by a client that is cut off: " + strings.Join(texts, "; ")
}
