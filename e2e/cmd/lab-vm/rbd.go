package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/rbd-rescue/rbd-rescue/e2e/krbd"
)

const (
	busDir     = "/sys/bus/rbd"
	sectorSize = 512
)

// rbd is this machine's kernel RBD client.
type rbd struct {
	log *kernelLog

	lock  sync.Mutex
	files map[int]*os.File // open devices, by number
}

func newRBD() (*rbd, error) {
	log, err := openKernelLog()
	if err != nil {
		return nil, err
	}
	return &rbd{log: log, files: map[int]*os.File{}}, nil
}

// Map does what the rbd command does.
func (r *rbd) Map(image krbd.Image) (int, int64, error) {
	if id, err := deviceOf(image); err == nil {
		return 0, 0, fmt.Errorf("mapping image %s: it is mapped as rbd%d", image.Name, id)
	}
	request := fmt.Sprintf("%s name=%s,secret=%s %s %s -", image.Monitors, image.User, image.Key, image.Pool, image.Name)
	if err := os.WriteFile(busDir+"/add_single_major", []byte(request), 0o200); err != nil {
		return 0, 0, fmt.Errorf("mapping image %s: %w", image.Name, err)
	}
	id, err := deviceOf(image)
	if err != nil {
		return 0, 0, err
	}
	size, err := sizeOf(id)
	if err != nil {
		return 0, 0, err
	}
	file, err := os.OpenFile(fmt.Sprintf("/dev/rbd%d", id), os.O_RDWR|unix.O_DIRECT, 0)
	if err != nil {
		return 0, 0, fmt.Errorf("opening the device of image %s: %w", image.Name, err)
	}
	r.lock.Lock()
	defer r.lock.Unlock()
	r.files[id] = file
	return id, size, nil
}

// deviceOf is the number of an image's device.
func deviceOf(image krbd.Image) (int, error) {
	devices, err := filepath.Glob(busDir + "/devices/*")
	if err != nil {
		return 0, fmt.Errorf("listing the mapped images: %w", err)
	}
	for _, device := range devices {
		if read(device+"/pool") == image.Pool && read(device+"/name") == image.Name {
			return strconv.Atoi(filepath.Base(device))
		}
	}
	return 0, fmt.Errorf("image %s/%s is not mapped", image.Pool, image.Name)
}

func sizeOf(id int) (int64, error) {
	sectors, err := strconv.ParseInt(read(fmt.Sprintf("/sys/block/rbd%d/size", id)), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("reading the size of rbd%d: %w", id, err)
	}
	return sectors * sectorSize, nil
}

// read gives a file of sysfs; empty if it cannot be read.
func read(path string) string {
	text, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(text))
}

// Unmap hangs while I/O does.
func (r *rbd) Unmap(id int) error {
	if err := r.Close(id); err != nil {
		return err
	}
	if err := os.WriteFile(busDir+"/remove_single_major", []byte(strconv.Itoa(id)), 0o200); err != nil {
		return fmt.Errorf("unmapping rbd%d: %w", id, err)
	}
	return nil
}

// Close implements krbd.Kernel.
func (r *rbd) Close(id int) error {
	r.lock.Lock()
	file := r.files[id]
	delete(r.files, id)
	r.lock.Unlock()
	if file != nil {
		if err := file.Close(); err != nil {
			return fmt.Errorf("closing rbd%d: %w", id, err)
		}
	}
	return nil
}

// ReadAt implements krbd.Kernel.
func (r *rbd) ReadAt(id int, p []byte, offset int64) error {
	file, err := r.file(id)
	if err != nil {
		return err
	}
	buffer := aligned(len(p))
	if _, err := file.ReadAt(buffer, offset); err != nil {
		return r.explain(id, err)
	}
	copy(p, buffer)
	return nil
}

// WriteAt implements krbd.Kernel.
func (r *rbd) WriteAt(id int, p []byte, offset int64) error {
	file, err := r.file(id)
	if err != nil {
		return err
	}
	buffer := aligned(len(p))
	copy(buffer, p)
	if _, err := file.WriteAt(buffer, offset); err != nil {
		return r.explain(id, err)
	}
	return nil
}

func (r *rbd) file(id int) (*os.File, error) {
	r.lock.Lock()
	defer r.lock.Unlock()
	if file := r.files[id]; file != nil {
		return file, nil
	}
	return nil, fmt.Errorf("rbd%d is not mapped", id)
}

// explain adds what Ceph said: to applications all failed I/O is EIO, the log has the reason.
func (r *rbd) explain(id int, err error) error {
	if result := r.log.lastResult(fmt.Sprintf("rbd%d", id)); result != 0 {
		return fmt.Errorf("%w: result -%d (%v)", err, int(result), result) //nolint:errorlint // an application sees the first
	}
	return err
}

// aligned is what direct I/O wants of memory.
func aligned(size int) []byte {
	buffer := make([]byte, size+sectorSize)
	skip := -uintptr(unsafe.Pointer(unsafe.SliceData(buffer))) % sectorSize
	return buffer[skip:][:size]
}

var _ krbd.Kernel = (*rbd)(nil)
