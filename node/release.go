package node

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Selection says which mappings are to be let go: one of these.
type Selection struct {
	// Pod is NAMESPACE/NAME or a UID.
	Pod string
	// Device is /dev/rbdN or rbdN.
	Device string
	// Image is POOL/IMAGE or POOL/NAMESPACE/IMAGE.
	Image string
	// All are those that Kubernetes mapped.
	All bool
}

// Validate tells whether it says one thing.
func (s Selection) Validate() error {
	given := 0
	for _, is := range []bool{s.Pod != "", s.Device != "", s.Image != "", s.All} {
		if is {
			given++
		}
	}
	if given != 1 {
		return errors.New("say what to release, by one of --pod, --device, --image and --all")
	}
	return nil
}

// Selects tells whether a mapping is meant. All does not mean what nothing says to be Kubernetes': where mounts are gone already, a
// person has to name it.
func (s Selection) Selects(m Mapping) bool {
	switch {
	case s.Device != "":
		return strings.TrimPrefix(s.Device, "/dev/") == strings.TrimPrefix(m.Device, "/dev/")
	case s.Image != "":
		return s.Image == m.ImageName()
	case s.Pod != "":
		return slices.ContainsFunc(m.Pods, func(p Pod) bool { return s.Pod == p.UID || s.Pod == p.Namespace+"/"+p.Name })
	default:
		return s.All && m.Kubernetes()
	}
}

// Unclaimed is an error where mappings are there that nobody is known to use, and that were not named: once a release got as far as
// the unmounts, nothing tells any more whose mapping it is.
func (s Selection) Unclaimed(survey Survey) error {
	if s.Device != "" || s.Image != "" {
		return nil
	}
	var unclaimed []string
	for _, m := range survey.Mappings {
		if m.unclaimed() {
			unclaimed = append(unclaimed, m.String())
		}
	}
	if len(unclaimed) == 0 {
		return nil
	}
	return fmt.Errorf("mapped, and not known to be anybody's: %s. What an earlier release has unmounted may be among these: let it go by --device",
		strings.Join(unclaimed, ", "))
}

// unclaimed tells whether nothing says who uses a mapping. Swap and LVM say that it is no pod.
func (m Mapping) unclaimed() bool {
	other := slices.ContainsFunc(m.Layers, func(l Layer) bool { return l.Kind == LayerOther })
	return len(m.Mounts)+len(m.Pods)+len(m.Elsewhere) == 0 && !m.Swap && !other
}

// Step is one thing to do.
type Step interface {
	fmt.Stringer
	step()
}

// Steps that let a mapping go.
type (
	// StopPod stops what runs of a pod.
	StopPod struct{ Pod Pod }
	// DetachLoop frees a loop device of the kubelet's.
	DetachLoop struct{ Loop string }
	// Unmount unmounts a path of the host; what is left to write is written before it comes back.
	Unmount struct{ Path, Device string }
	// Cover mounts an empty file system that cannot be written to at a path, so that a container that a kubelet starts again fails,
	// rather than writes to the bare folder.
	Cover struct{ Path string }
	// CloseCrypt removes a device of dm-crypt.
	CloseCrypt struct{ Mapper string }
	// Unmap ends the mapping.
	Unmap struct {
		ID            int
		Device, Image string
	}
)

func (StopPod) step()    {}
func (DetachLoop) step() {}
func (Unmount) step()    {}
func (Cover) step()      {}
func (CloseCrypt) step() {}
func (Unmap) step()      {}

func (s StopPod) String() string    { return "stop " + s.Pod.String() }
func (s DetachLoop) String() string { return "detach loop device " + s.Loop }
func (s Unmount) String() string    { return fmt.Sprintf("unmount %s (%s)", s.Path, s.Device) }
func (s Cover) String() string      { return "cover " + s.Path + " by an empty read-only file system" }
func (s CloseCrypt) String() string { return "close encrypted device " + s.Mapper }
func (s Unmap) String() string      { return fmt.Sprintf("unmap %s (image %s)", s.Device, s.Image) }

// Refusal says why a mapping is not let go, with the next step.
func Refusal(s Survey, m Mapping, named bool) string {
	for _, mount := range m.Mounts {
		if mount.Place.Kind == PlaceForeign {
			return fmt.Sprintf("it is mounted at %s, which is not Kubernetes': unmount it by hand", mount.Path)
		}
	}
	for _, layer := range m.Layers {
		if layer.Kind == LayerOther {
			return fmt.Sprintf("block device %s lies on it, which is not Kubernetes': take it down by hand", cmp.Or(layer.Mapper, layer.Name))
		}
	}
	switch {
	case m.Swap:
		return "the machine swaps to it: swapoff first"
	case !m.Kubernetes() && !named:
		return "nothing says that it is Kubernetes': to release it all the same, name it with --device"
	case !m.Kubernetes() && len(m.Elsewhere) > 0:
		return fmt.Sprintf("%s has it mounted, and nothing says which pod that is: end it by hand", m.Elsewhere[0])
	case len(m.Pods) > 0 && s.RuntimeError != "":
		return fmt.Sprintf("%s uses it, and its containers cannot be stopped: %s", m.Pods[0], s.RuntimeError)
	default:
		return ""
	}
}

// Steps are what lets a mapping go, in order: whoever writes to it is stopped first, and then from the top down.
// They are the same for whatever part of it was done before.
func Steps(s Survey, m Mapping) []Step {
	var steps []Step
	for _, pod := range m.Pods {
		if pod.runs() {
			steps = append(steps, StopPod{pod})
		}
	}
	for _, layer := range slices.Backward(m.Layers) {
		if layer.Kind == LayerLoop {
			steps = append(steps, DetachLoop{layer.Name})
		}
	}
	for _, mount := range slices.Backward(m.Mounts) {
		steps = append(steps, Unmount{mount.Path, m.Device})
		if s.KubeletRuns && mount.Place.Kind == PlacePod && !mount.Device {
			steps = append(steps, Cover{mount.Path})
		}
	}
	for _, layer := range slices.Backward(m.Layers) {
		if layer.Kind == LayerCrypt {
			steps = append(steps, CloseCrypt{layer.Mapper})
		}
	}
	return append(steps, Unmap{m.ID, m.Device, m.ImageName()})
}
