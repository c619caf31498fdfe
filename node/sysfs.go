package node

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// errNoBus says that sysfs does not tell which images are mapped.
var errNoBus = errors.New("the kernel shows no RBD bus there (is its module rbd loaded?), which does not prove that no image is mapped")

// checkSysfs tells whether a folder is the kernel's sysfs and has the RBD bus. Any other folder would look as if nothing were mapped,
// which would be taken for a proof (S3).
func checkSysfs(sys string) error {
	var stat unix.Statfs_t
	if err := unix.Statfs(sys, &stat); err != nil {
		return fmt.Errorf("reading %s: %w", sys, err)
	}
	if stat.Type != unix.SYSFS_MAGIC {
		return fmt.Errorf("%s is no sysfs", sys)
	}
	return nil
}

// readMappings reads the images that are mapped, with the block devices on them.
func readMappings(ctx context.Context, sys string) ([]Mapping, error) {
	bus := filepath.Join(sys, "bus", "rbd")
	if _, err := os.Stat(filepath.Join(bus, "remove")); err != nil {
		return nil, fmt.Errorf("reading %s: %w: %w", bus, errNoBus, err)
	}
	devices, err := os.ReadDir(filepath.Join(bus, "devices"))
	if err != nil {
		return nil, fmt.Errorf("listing the mapped images: %w", err)
	}
	mappings := []Mapping{}
	for _, device := range devices {
		id, err := strconv.Atoi(device.Name())
		if err != nil {
			return nil, fmt.Errorf("listing the mapped images: %s is no number of a device", device.Name())
		}
		m, mapped, err := readSettled(ctx, sys, id)
		if err != nil {
			return nil, fmt.Errorf("reading mapped image %d: %w", id, err)
		}
		if mapped {
			mappings = append(mappings, m)
		}
	}
	slices.SortFunc(mappings, func(a, b Mapping) int { return a.ID - b.ID })
	return mappings, nil
}

// settleLooks times settlePause is how long an image may be on the bus without its block device: the kernel takes that away before, and
// adds it after, with little in between.
const (
	settleLooks = 20
	settlePause = 50 * time.Millisecond
)

// readSettled reads a mapping; mapped is false if it left the bus meanwhile. One that lacks something is looked at again for a
// second; then it is an error, since the image may be mapped (S3).
func readSettled(ctx context.Context, sys string, id int) (m Mapping, mapped bool, err error) {
	for range settleLooks {
		m, err = readMapping(sys, id)
		if !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, unix.ENODEV) {
			return m, err == nil, err
		}
		if _, gone := os.Stat(filepath.Join(sys, "bus", "rbd", "devices", strconv.Itoa(id))); errors.Is(gone, fs.ErrNotExist) {
			return m, false, nil
		}
		select {
		case <-time.After(settlePause):
		case <-ctx.Done():
			return m, false, errors.Join(err, ctx.Err())
		}
	}
	return m, false, err
}

func readMapping(sys string, id int) (Mapping, error) {
	dir := filepath.Join(sys, "bus", "rbd", "devices", strconv.Itoa(id))
	m := Mapping{ID: id, Device: fmt.Sprintf("/dev/rbd%d", id)}
	for file, into := range map[string]*string{
		"pool": &m.Pool, "name": &m.Image, "client_addr": &m.Client, "current_snap": &m.Snapshot,
	} {
		text, err := readLine(filepath.Join(dir, file))
		if err != nil {
			return m, err
		}
		*into = text
	}
	var err error
	if m.Namespace, err = readLine(filepath.Join(dir, "pool_ns")); err != nil && !errors.Is(err, fs.ErrNotExist) { // Linux before 4.19 has none
		return m, err
	}
	m.Layers, err = readLayers(filepath.Join(sys, "block"), fmt.Sprintf("rbd%d", id), LayerImage)
	return m, err
}

// readLayers reads a block device and, after it, what lies on it.
func readLayers(block, name string, kind LayerKind) ([]Layer, error) {
	dir := filepath.Join(block, name)
	layer := Layer{Name: filepath.Base(name), Kind: kind}
	var err error
	if layer.Number, err = readLine(filepath.Join(dir, "dev")); err != nil {
		return nil, err
	}
	if kind == LayerOther {
		layer.Mapper, _ = readLine(filepath.Join(dir, "dm", "name")) // not every kind is the device mapper's
		if uuid, _ := readLine(filepath.Join(dir, "dm", "uuid")); strings.HasPrefix(uuid, "CRYPT-") {
			layer.Kind = LayerCrypt
		}
	}
	layers := []Layer{layer}
	add := func(name string, kind LayerKind) error {
		above, err := readLayers(block, name, kind)
		layers = append(layers, above...)
		return err
	}
	holders, err := os.ReadDir(filepath.Join(dir, "holders"))
	if err != nil {
		return nil, fmt.Errorf("listing what lies on %s: %w", layer.Name, err)
	}
	for _, holder := range holders {
		if err := add(holder.Name(), LayerOther); err != nil {
			return nil, err
		}
	}
	if kind == LayerPartition {
		return layers, nil
	}
	inside, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("listing the partitions of %s: %w", layer.Name, err)
	}
	for _, entry := range inside {
		if _, err := os.Stat(filepath.Join(dir, entry.Name(), "partition")); err == nil {
			if err := add(filepath.Join(name, entry.Name()), LayerPartition); err != nil {
				return nil, err
			}
		}
	}
	return layers, nil
}

// readLoops gives the loop devices by the file behind each.
func readLoops(sys string) (map[string]Layer, error) {
	files, err := filepath.Glob(filepath.Join(sys, "block", "loop*", "loop", "backing_file"))
	if err != nil {
		return nil, fmt.Errorf("listing the loop devices: %w", err)
	}
	loops := map[string]Layer{}
	for _, file := range files {
		dir := filepath.Dir(filepath.Dir(file))
		backing, err := readLine(file)
		if err != nil {
			continue // detached meanwhile
		}
		number, err := readLine(filepath.Join(dir, "dev"))
		if err != nil {
			return nil, err
		}
		loops[backing] = Layer{Name: filepath.Base(dir), Kind: LayerLoop, Number: number}
	}
	return loops, nil
}

func readLine(path string) (string, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	return strings.TrimSuffix(string(text), "\n"), nil
}
