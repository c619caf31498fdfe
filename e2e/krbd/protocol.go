package krbd

import (
	"errors"
	"syscall"
)

// Image is what the kernel needs to map one.
type Image struct {
	// Monitors as host:port, separated by commas.
	Monitors string
	// User without "client.", and its key.
	User, Key  string
	Pool, Name string
}

// Kernel maps images and does I/O on their devices. Any of its methods may hang for as long as Ceph does not answer.
type Kernel interface {
	// Map gives the number of the device and its bytes.
	Map(Image) (id int, size int64, err error)
	Unmap(id int) error
	// Close lets go a device that stays mapped.
	Close(id int) error
	// Run runs a program of the machine until it ends, and gives what it printed.
	Run(Program) ([]byte, error)
	// ReadAt and WriteAt go past the page cache: what is acknowledged has landed.
	ReadAt(id int, p []byte, offset int64) error
	WriteAt(id int, p []byte, offset int64) error
}

// Program is one that the machine has in its root.
type Program struct {
	Path string
	Args []string
	// Files are written before, by their paths.
	Files map[string][]byte
	// BootID is what the machine calls its boot from then on: that of its node in the lab. Its own if empty.
	BootID string
}

// Transfer is a read or a write of a device.
type Transfer struct {
	ID     int
	Offset int64
	// Length of a read.
	Length int
	// Data of a write.
	Data []byte
}

// Reply is the answer to any call.
type Reply struct {
	// Failure is nil if there was none. It is no error of net/rpc's: those lose their number on the way.
	Failure *Failure
	ID      int
	Size    int64
	Data    []byte
}

// Failure is an error with its number.
type Failure struct {
	Text  string
	Errno syscall.Errno
}

func failureOf(err error) *Failure {
	if err == nil {
		return nil
	}
	f := &Failure{Text: err.Error()}
	_ = errors.As(err, &f.Errno) // zero if it has none
	return f
}

func (f *Failure) Error() string { return f.Text }

// Is compares with a syscall.Errno.
func (f *Failure) Is(target error) bool { return f.Errno != 0 && target == f.Errno }
