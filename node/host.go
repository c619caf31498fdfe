package node

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
)

// Host is where the machine shows itself. The machine's files are read through the root of its process 1, so that an agent in a pod
// needs none of them mounted.
type Host struct {
	// Sys and Proc are the kernel's file systems.
	Sys, Proc string
	// KubeletDir is the kubelet's folder, by its path on the host.
	KubeletDir string
	// Runtime is the container runtime; nil if none was found, for the reason RuntimeError.
	Runtime      Runtime
	RuntimeError error

	// checkSysfs is replaced where a folder of a test stands for sysfs.
	checkSysfs func(string) error
}

// root is the machine's root, as process 1 sees it.
func (h Host) root() string { return filepath.Join(h.Proc, "1", "root") }

// Survey reads what is mapped, and who uses it. It is an error if anything cannot be read: a mapping that was overlooked would pass for
// one that has ended (S3).
func (h Host) Survey(ctx context.Context) (Survey, error) {
	check := h.checkSysfs
	if check == nil {
		check = checkSysfs
	}
	if err := check(h.Sys); err != nil {
		return Survey{}, err
	}
	var s Survey
	var err error
	if s.BootID, err = readLine(filepath.Join(h.Proc, "sys", "kernel", "random", "boot_id")); err != nil {
		return Survey{}, fmt.Errorf("reading the bootID: %w", err)
	}
	// Mappings last: one whose mounts are gone by then is shown without them, and never a mount without its mapping.
	p, err := readProcesses(h.Proc)
	if err != nil {
		return Survey{}, err
	}
	loops, err := readLoops(h.Sys)
	if err != nil {
		return Survey{}, err
	}
	swaps, err := readSwaps(h.Proc)
	if err != nil {
		return Survey{}, err
	}
	if s.Mappings, err = readMappings(ctx, h.Sys); err != nil {
		return Survey{}, err
	}
	kubelet, err := h.kubeletDir()
	if err != nil {
		return Survey{}, err
	}
	s.KubeletRuns, s.Processes = len(p.named("kubelet")) > 0, p.named("rbd-nbd")
	for i := range s.Mappings {
		m := &s.Mappings[i]
		h.findMounts(m, p, loops, kubelet)
		m.Swap = slices.ContainsFunc(m.Layers, func(layer Layer) bool { return swaps[layer.Name] })
	}
	h.findPods(ctx, &s)
	return s, nil
}

// kubeletDir is the kubelet's folder without symbolic links: mount points have none. Where there is no such folder, nothing is
// the kubelet's.
func (h Host) kubeletDir() (string, error) {
	real, err := filepath.EvalSymlinks(filepath.Join(h.root(), h.KubeletDir))
	if errors.Is(err, fs.ErrNotExist) {
		return h.KubeletDir, nil
	}
	if err != nil {
		return "", fmt.Errorf("reading the kubelet's folder: %w", err)
	}
	root, err := filepath.EvalSymlinks(h.root())
	if err != nil {
		return "", fmt.Errorf("reading the machine's root: %w", err)
	}
	for _, prefix := range []string{h.root(), root} {
		if below, is := strings.CutPrefix(real, strings.TrimSuffix(prefix, "/")+"/"); is {
			return "/" + below, nil
		}
	}
	return real, nil // an absolute link, which leads out of a root that is not ours
}

// findMounts looks where the layers of a mapping are mounted: on the host, and in mount namespaces of their own.
func (h Host) findMounts(m *Mapping, p processes, loops map[string]Layer, kubelet string) {
	var ours []mountEntry
	for _, entry := range p.host.mounts {
		is, device := entry.of(m.Layers)
		if !is {
			continue
		}
		ours = append(ours, entry)
		mount := Mount{Path: entry.path, Device: device, Place: placeOf(kubelet, entry.path)}
		if mount.Place.Kind == PlaceStaging && mount.Place.Volume == "" {
			mount.Place.Volume = stagedVolume(h.root(), entry.path)
		}
		m.Mounts = append(m.Mounts, mount)
	}
	for _, mount := range m.Mounts {
		if loop, held := loops[mount.Path]; held && mount.Device {
			m.Layers = append(m.Layers, loop)
		}
	}
	for _, namespace := range p.others {
		if slices.ContainsFunc(namespace.mounts, func(entry mountEntry) bool {
			is, _ := entry.of(m.Layers)
			return is && !entry.follows(ours)
		}) {
			m.Elsewhere = append(m.Elsewhere, namespace.processes...)
		}
	}
	slices.SortFunc(m.Elsewhere, func(a, b Process) int { return a.PID - b.PID })
}

// findPods names the pods whose UIDs the mount points tell, and what of them runs.
func (h Host) findPods(ctx context.Context, s *Survey) {
	known, err := map[string]Pod{}, h.RuntimeError
	if h.Runtime != nil {
		known, err = h.Runtime.Pods(ctx)
	}
	if err != nil {
		s.RuntimeError = err.Error()
	}
	for i := range s.Mappings {
		m := &s.Mappings[i]
		var uids []string
		for _, mount := range m.Mounts {
			if uid := mount.Place.Pod; uid != "" && !slices.Contains(uids, uid) {
				uids = append(uids, uid)
			}
		}
		for _, uid := range uids {
			pod := known[uid]
			pod.UID = uid
			m.Pods = append(m.Pods, pod)
		}
	}
}
