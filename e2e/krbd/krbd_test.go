package krbd

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"syscall"
	"testing"
	"time"
)

// memory is a kernel whose devices lie in memory.
type memory struct {
	data   []byte
	refuse error
	hang   chan struct{}
}

func (m *memory) Map(image Image) (int, int64, error) {
	if image != (Image{Monitors: "m", User: "u", Key: "k", Pool: "p", Name: "i"}) {
		return 0, 0, fmt.Errorf("unknown image %+v", image)
	}
	return 7, int64(len(m.data)), m.refuse
}

func (m *memory) Unmap(id int) error {
	if id != 7 {
		return fmt.Errorf("unknown device %d", id)
	}
	if m.hang != nil {
		<-m.hang
	}
	return nil
}

func (m *memory) Close(id int) error { return m.Unmap(id) }

func (m *memory) Run(p Program) ([]byte, error) {
	if m.hang != nil {
		<-m.hang
	}
	return []byte("looked for it"), fmt.Errorf("there is no %s", p.Path)
}

func (m *memory) ReadAt(_ int, p []byte, offset int64) error {
	copy(p, m.data[offset:])
	return m.refuse
}

func (m *memory) WriteAt(_ int, p []byte, offset int64) error {
	if m.refuse == nil {
		copy(m.data[offset:], p)
	}
	return m.refuse
}

func machine(t *testing.T, kernel Kernel) *Machine {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go Serve(listener, kernel) //nolint:errcheck // ends with the listener
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	m, err := Dial(ctx, listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = m.Close(); _ = listener.Close() })
	return m
}

func device(t *testing.T, m *Machine) *Device {
	t.Helper()
	d, err := m.Map(Image{Monitors: "m", User: "u", Key: "k", Pool: "p", Name: "i"})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestWhatIsWrittenIsReadBack(t *testing.T) {
	kernel := &memory{data: make([]byte, 2<<20)}
	d := device(t, machine(t, kernel))
	if d.Size() != 2<<20 {
		t.Errorf("size %d", d.Size())
	}
	block := bytes.Repeat([]byte("sector. "), 64)
	if n, err := d.WriteAt(block, 1<<20); n != len(block) || err != nil {
		t.Errorf("wrote %d bytes: %v", n, err)
	}
	read := make([]byte, 1<<20)
	if n, err := d.ReadAt(read, 1<<20); n != len(read) || err != nil || !bytes.Equal(read[:len(block)], block) {
		t.Errorf("read %d bytes: %v", n, err)
	}
	if err := d.Unmap(); err != nil {
		t.Error(err)
	}
}

func TestARefusalKeepsItsNumber(t *testing.T) {
	kernel := &memory{data: make([]byte, 512)}
	m := machine(t, kernel)
	d := device(t, m)
	kernel.refuse = fmt.Errorf("writing to /dev/rbd7: %w", syscall.ESHUTDOWN)
	_, written := d.WriteAt(make([]byte, 512), 0)
	_, read := d.ReadAt(make([]byte, 512), 0)
	_, remapped := m.Map(Image{Monitors: "m", User: "u", Key: "k", Pool: "p", Name: "i"})
	for what, err := range map[string]error{"write": written, "read": read, "map": remapped} {
		if !errors.Is(err, syscall.ESHUTDOWN) || errors.Is(err, syscall.EIO) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if _, err := m.Map(Image{}); err == nil || errors.Is(err, syscall.Errno(0)) {
		t.Errorf("an error without a number: %v", err)
	}
}

func TestWhatAProgramPrintsIsGivenAlsoWhenItFails(t *testing.T) {
	printed, err := machine(t, &memory{}).Run(t.Context(), Program{Path: "/true"})
	if printed != "looked for it" || err == nil || err.Error() != "there is no /true" {
		t.Errorf("printed %q, %v", printed, err)
	}
}

func TestACallThatHangsHoldsUpNoOther(t *testing.T) {
	kernel := &memory{data: make([]byte, 512), hang: make(chan struct{})}
	d := device(t, machine(t, kernel))
	unmapped := make(chan error, 1)
	go func() { unmapped <- d.Unmap() }()
	if _, err := d.ReadAt(make([]byte, 512), 0); err != nil {
		t.Error(err)
	}
	ended, end := context.WithCancel(t.Context())
	end()
	if _, err := d.machine.Run(ended, Program{}); !errors.Is(err, context.Canceled) {
		t.Errorf("a program is waited for: %v", err)
	}
	close(kernel.hang)
	if err := <-unmapped; err != nil {
		t.Error(err)
	}
}

func TestTheEndOfTheMachineIsAnError(t *testing.T) {
	d := device(t, machine(t, &memory{data: make([]byte, 512)}))
	_ = d.machine.Close()
	if _, err := d.WriteAt(make([]byte, 512), 0); err == nil {
		t.Error("acknowledged by nobody")
	}
}
