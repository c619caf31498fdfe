package node

import (
	"slices"

	"github.com/rbd-rescue/rbd-rescue/api/v1alpha1"
	"github.com/rbd-rescue/rbd-rescue/ceph"
)

// Fenced tells whether a mapping's client is, or may be, one of those that a NodeFence has cut off. Where in doubt it is: only a client
// that is certainly another one, of a later mapping, does not count (S3).
func Fenced(m Mapping, clients []v1alpha1.FencedClient) bool {
	client, err := ceph.ParseAddress(m.Client)
	if err != nil {
		return true
	}
	return slices.ContainsFunc(clients, func(c v1alpha1.FencedClient) bool {
		address, err := ceph.ParseAddress(c.Address)
		// The nonce alone is compared: a cluster may know the machine by another address than the machine itself does.
		return err != nil || address.Nonce == 0 || address.Nonce == client.Nonce
	})
}

// MovedAway are the mappings whose client is cut off and whose volume has left this node as Kubernetes sees it: no pod of it is left here
// in the API, and nothing that they write lands any more.
func MovedAway(s Survey, nf *v1alpha1.NodeFence) []Mapping {
	return slices.DeleteFunc(slices.Clone(s.Mappings), func(m Mapping) bool {
		return !Fenced(m, nf.Status.Clients) || !slices.ContainsFunc(nf.Status.Volumes, func(v v1alpha1.FencedVolume) bool {
			return v.Image == m.ImageName() && (v.Phase == v1alpha1.VolumeReleased || v.Phase == v1alpha1.VolumeRecovered)
		})
	})
}

// Cleared is what the machine itself can say of a NodeFence: which mappings of the clients that are cut off are left. The NodeFence was
// read before the survey: a client without a mapping has ended, and never comes back, since each new one has a nonce of its own. Behind
// the entry of a whole host no new mapping can be made once it is proven: before that, nothing is said of it.
func Cleared(s Survey, nf *v1alpha1.NodeFence) v1alpha1.Cleared {
	cleared := v1alpha1.Cleared{BootID: s.BootID, Left: []v1alpha1.LeftMapping{}}
	for _, c := range nf.Status.Clients {
		address, err := ceph.ParseAddress(c.Address)
		if wholeHost := err != nil || address.Nonce == 0; wholeHost && c.Epoch == 0 {
			continue
		}
		cleared.Clients = append(cleared.Clients, c.Address)
	}
	for _, m := range s.Mappings {
		if !Fenced(m, nf.Status.Clients) {
			continue
		}
		left := v1alpha1.LeftMapping{Device: m.Device, Image: m.ImageName(), Client: m.Client}
		for _, pod := range m.Pods {
			left.Pods = append(left.Pods, pod.String())
		}
		cleared.Left = append(cleared.Left, left)
	}
	for _, process := range s.Processes { // which image it has, and by which client, is not told
		cleared.Left = append(cleared.Left, v1alpha1.LeftMapping{Device: process.String()})
	}
	return cleared
}
