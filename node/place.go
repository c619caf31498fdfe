package node

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
)

// PlaceKind says whose a mount point is.
type PlaceKind string

const (
	// PlaceForeign: not the kubelet's.
	PlaceForeign PlaceKind = "foreign"
	// PlaceStaging: the volume on the node, which its pods share.
	PlaceStaging PlaceKind = "staging"
	// PlacePod: the volume in one pod.
	PlacePod PlaceKind = "pod"
	// PlaceSubpath: a part of the volume in one pod.
	PlaceSubpath PlaceKind = "subpath"
)

// Place is what the path of a mount point says.
type Place struct {
	Kind PlaceKind `json:"kind"`
	// Volume is the PersistentVolume; empty where the path does not tell.
	Volume string `json:"volume,omitempty"`
	// Pod is its UID.
	Pod string `json:"pod,omitempty"`
}

// placeOf reads a path below the kubelet's folder:
//
//	pods/UID/volumes/kubernetes.io~csi/PV/mount, pods/UID/volumes/kubernetes.io~rbd/PV   the volume in a pod
//	pods/UID/volume-subpaths/PV/CONTAINER/INDEX                                           a part of it
//	plugins/kubernetes.io/csi/DRIVER/HASH/globalmount (before 1.24: csi/pv/PV/globalmount) the volume on the node
//	plugins/kubernetes.io/csi/volumeDevices/publish/PV/UID                                 mode Block: its device in a pod
//	plugins/kubernetes.io/csi/volumeDevices/staging/PV…, …/PV/dev/UID                      the device on the node, and the kubelet's own
//
// The folder is given by its real path, as the kernel tells mount points.
func placeOf(kubelet, path string) Place {
	rest, below := strings.CutPrefix(path, strings.TrimSuffix(kubelet, "/")+"/")
	if !below {
		return Place{Kind: PlaceForeign}
	}
	part := strings.Split(rest, "/")
	at := func(i int) string {
		if i < len(part) {
			return part[i]
		}
		return ""
	}
	switch {
	case at(0) == "pods" && at(2) == "volumes" && strings.HasPrefix(at(3), "kubernetes.io~") && at(4) != "":
		return Place{Kind: PlacePod, Pod: at(1), Volume: at(4)}
	case at(0) == "pods" && at(2) == "volume-subpaths" && at(3) != "":
		return Place{Kind: PlaceSubpath, Pod: at(1), Volume: at(3)}
	case at(0) != "plugins" || at(1) != "kubernetes.io":
		return Place{Kind: PlaceForeign}
	case at(2) == "csi" && at(3) == "volumeDevices" && at(4) == "publish":
		return Place{Kind: PlacePod, Volume: at(5), Pod: at(6)}
	case at(2) == "csi" && at(3) == "volumeDevices" && at(4) == "staging":
		return Place{Kind: PlaceStaging, Volume: at(5)}
	case at(2) == "csi" && at(3) == "volumeDevices" && at(5) == "dev":
		return Place{Kind: PlacePod, Volume: at(4), Pod: at(6)}
	case at(2) == "csi" && at(3) == "pv":
		return Place{Kind: PlaceStaging, Volume: at(4)}
	default: // in-tree plugins, and CSI's staging by hash
		return Place{Kind: PlaceStaging}
	}
}

// stagedVolume reads which PersistentVolume is staged at a path of the kubelet's, from the file that the kubelet keeps beside it; empty
// if nothing tells.
func stagedVolume(root, path string) string {
	text, err := os.ReadFile(filepath.Join(root, filepath.Dir(path), "vol_data.json"))
	if err != nil {
		return ""
	}
	var data struct {
		Volume string `json:"specVolID"`
	}
	if json.Unmarshal(text, &data) != nil {
		return ""
	}
	return data.Volume
}
