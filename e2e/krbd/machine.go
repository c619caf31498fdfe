package krbd

import (
	"context"
	"fmt"
	"net"
	"net/rpc"
	"time"
)

const dialEvery = 100 * time.Millisecond

// Machine is the kernel of a VM, as a plugin sees it.
type Machine struct{ client *rpc.Client }

// Dial waits until the VM is up, or ctx ends.
func Dial(ctx context.Context, address string) (*Machine, error) {
	dialer := net.Dialer{Timeout: time.Second} // a VM that is booting does not answer at all
	for {
		connection, err := dialer.DialContext(ctx, "tcp", address)
		if err == nil {
			return &Machine{client: rpc.NewClient(connection)}, nil
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("waiting for the VM at %s: %w", address, err)
		case <-time.After(dialEvery):
		}
	}
}

// Close ends the connection; what is mapped stays so.
func (m *Machine) Close() error { return m.client.Close() }

// call gives the failure of a call, or the connection's. It hangs while Ceph does, as what it stands for.
func (m *Machine) call(method string, args any) (Reply, error) {
	return m.callUntil(context.Background(), method, args)
}

func (m *Machine) callUntil(ctx context.Context, method string, args any) (Reply, error) {
	var reply Reply
	select {
	case <-ctx.Done():
		return Reply{}, fmt.Errorf("waiting for the VM's answer: %w", ctx.Err())
	case call := <-m.client.Go(serviceName+"."+method, args, &reply, make(chan *rpc.Call, 1)).Done:
		if call.Error != nil {
			return reply, fmt.Errorf("calling the VM: %w", call.Error)
		}
	}
	if reply.Failure != nil {
		return reply, reply.Failure
	}
	return reply, nil
}

// Map maps an image.
func (m *Machine) Map(image Image) (*Device, error) {
	reply, err := m.call("Map", image)
	if err != nil {
		return nil, fmt.Errorf("mapping image %s/%s: %w", image.Pool, image.Name, err)
	}
	return &Device{machine: m, id: reply.ID, size: reply.Size}, nil
}

// Run runs a program in the VM until it ends, and gives what it printed, also when it failed. Once ctx ends it is left running.
func (m *Machine) Run(ctx context.Context, program Program) (string, error) {
	reply, err := m.callUntil(ctx, "Run", program)
	return string(reply.Data), err
}

// Device is a mapped image.
type Device struct {
	machine *Machine
	id      int
	size    int64
}

// Size in bytes.
func (d *Device) Size() int64 { return d.size }

// Unmap ends the mapping.
func (d *Device) Unmap() error {
	_, err := d.machine.call("Unmap", d.id)
	return err
}

// LetGo closes the device and leaves the image mapped, as a plugin does that ends between the two.
func (d *Device) LetGo() error {
	_, err := d.machine.call("Close", d.id)
	return err
}

// ReadAt implements io.ReaderAt, in whole sectors.
func (d *Device) ReadAt(p []byte, offset int64) (int, error) {
	reply, err := d.machine.call("ReadAt", Transfer{ID: d.id, Offset: offset, Length: len(p)})
	if err != nil {
		return 0, err
	}
	return copy(p, reply.Data), nil
}

// WriteAt implements io.WriterAt, in whole sectors.
func (d *Device) WriteAt(p []byte, offset int64) (int, error) {
	if _, err := d.machine.call("WriteAt", Transfer{ID: d.id, Offset: offset, Data: p}); err != nil {
		return 0, err
	}
	return len(p), nil
}
