package node

import (
	"fmt"
	"slices"
	"strings"
)

// Survey is what was found on this machine, read at one time.
type Survey struct {
	// BootID of the running kernel, as the kubelet reports it.
	BootID string `json:"bootID"`
	// Mappings are all images that the kernel has mapped.
	Mappings []Mapping `json:"mappings"`
	// Processes are RBD clients that are processes (rbd-nbd): which image each has is not told.
	Processes []Process `json:"processes,omitempty"`
	// KubeletRuns tells whether a kubelet is there that may start a container again.
	KubeletRuns bool `json:"kubeletRuns"`
	// RuntimeError says why the container runtime was not asked; empty if it was.
	RuntimeError string `json:"runtimeError,omitempty"`
}

// Mapping is one image that the kernel has mapped, and what uses it.
type Mapping struct {
	ID int `json:"id"`
	// Device is that of the whole image.
	Device    string `json:"device"`
	Pool      string `json:"pool"`
	Namespace string `json:"namespace,omitempty"`
	Image     string `json:"image"`
	// Snapshot that is mapped, "-" for the image itself.
	Snapshot string `json:"snapshot,omitempty"`
	// Client is the kernel's Ceph client, IP:0/nonce; other mappings may share it.
	Client string `json:"client"`
	// Layers are the block devices that lie on it, the image's own first.
	Layers []Layer `json:"layers"`
	// Mounts are those of the host, in the order in which they were made.
	Mounts []Mount `json:"mounts,omitempty"`
	// Elsewhere are processes in mount namespaces of their own, where it is mounted too, and does not go when the host unmounts it.
	Elsewhere []Process `json:"elsewhere,omitempty"`
	// Pods use the mapping, as the kubelet's paths say.
	Pods []Pod `json:"pods,omitempty"`
	// Swap tells whether the kernel swaps to it.
	Swap bool `json:"swap,omitempty"`
}

// Layer is a block device.
type Layer struct {
	Name string    `json:"name"`
	Kind LayerKind `json:"kind"`
	// Number is major:minor.
	Number string `json:"number"`
	// Mapper is its name below /dev/mapper, for kinds of the device mapper.
	Mapper string `json:"mapper,omitempty"`
}

// LayerKind says what a block device is.
type LayerKind string

const (
	// LayerImage: the image itself.
	LayerImage LayerKind = "image"
	// LayerPartition: a part of the layer below.
	LayerPartition LayerKind = "partition"
	// LayerCrypt: dm-crypt, with which ceph-csi encrypts volumes.
	LayerCrypt LayerKind = "crypt"
	// LayerLoop: the kubelet holds a block volume by a loop device.
	LayerLoop LayerKind = "loop"
	// LayerOther: LVM, RAID, multipath …, which Kubernetes makes none of.
	LayerOther LayerKind = "other"
)

// Mount is one mount point.
type Mount struct {
	Path string `json:"path"`
	// Device says that it is the device's node that is mounted, not a file system: a volume of mode Block.
	Device bool  `json:"device,omitempty"`
	Place  Place `json:"place"`
}

// Process is one that runs on this machine.
type Process struct {
	PID  int    `json:"pid"`
	Name string `json:"name"`
}

func (p Process) String() string { return fmt.Sprintf("process %d (%s)", p.PID, p.Name) }

// Pod is one that uses a mapping. Namespace and Name are empty where the container runtime does not know it any more.
type Pod struct {
	UID       string `json:"uid"`
	Namespace string `json:"namespace,omitempty"`
	Name      string `json:"name,omitempty"`
	// Sandboxes of it that are ready, and the containers of it that run.
	Sandboxes  []string    `json:"sandboxes,omitempty"`
	Containers []Container `json:"containers,omitempty"`
}

// Container is one that runs.
type Container struct {
	ID   string `json:"id"`
	Name string `json:"name"`
}

func (p Pod) String() string {
	if p.Name == "" {
		return "pod " + p.UID
	}
	return "pod " + p.Namespace + "/" + p.Name
}

func (p Pod) runs() bool { return len(p.Sandboxes) > 0 || len(p.Containers) > 0 }

// ImageName is pool/image or pool/namespace/image.
func (m Mapping) ImageName() string {
	return strings.Join(slices.DeleteFunc([]string{m.Pool, m.Namespace, m.Image}, func(part string) bool { return part == "" }), "/")
}

// Kubernetes tells whether a path of the kubelet's says that it is Kubernetes'.
func (m Mapping) Kubernetes() bool {
	return slices.ContainsFunc(m.Mounts, func(mount Mount) bool { return mount.Place.Kind != PlaceForeign })
}

func (m Mapping) String() string {
	return fmt.Sprintf("%s (image %s, client %s)", m.Device, m.ImageName(), m.Client)
}
