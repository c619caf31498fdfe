package krbd

import (
	"fmt"
	"net"
	"net/rpc"
)

const serviceName = "Kernel"

// maxRead bounds what a call may make the VM allocate.
const maxRead = 8 << 20

// Serve answers calls until the listener is closed. Each call has a goroutine of its own: one that hangs holds up no other.
func Serve(listener net.Listener, kernel Kernel) error {
	server := rpc.NewServer()
	if err := server.RegisterName(serviceName, &Service{kernel}); err != nil {
		return fmt.Errorf("registering the kernel's calls: %w", err)
	}
	for {
		connection, err := listener.Accept()
		if err != nil {
			return fmt.Errorf("waiting for calls: %w", err)
		}
		go server.ServeConn(connection)
	}
}

// Service is a Kernel in the form that net/rpc wants.
type Service struct{ kernel Kernel }

// Map maps an image.
func (s *Service) Map(image *Image, reply *Reply) error {
	var err error
	reply.ID, reply.Size, err = s.kernel.Map(*image)
	reply.Failure = failureOf(err)
	return nil
}

// Unmap unmaps a device.
func (s *Service) Unmap(id int, reply *Reply) error {
	reply.Failure = failureOf(s.kernel.Unmap(id))
	return nil
}

// Close lets go a device.
func (s *Service) Close(id int, reply *Reply) error {
	reply.Failure = failureOf(s.kernel.Close(id))
	return nil
}

// Run runs a program.
func (s *Service) Run(program *Program, reply *Reply) error {
	var err error
	reply.Data, err = s.kernel.Run(*program)
	reply.Failure = failureOf(err)
	return nil
}

// ReadAt reads from a device.
func (s *Service) ReadAt(t *Transfer, reply *Reply) error {
	if t.Length < 0 || t.Length > maxRead {
		return fmt.Errorf("reading %d bytes: a call may read up to %d", t.Length, maxRead)
	}
	data := make([]byte, t.Length)
	if err := s.kernel.ReadAt(t.ID, data, t.Offset); err != nil {
		reply.Failure = failureOf(err)
		return nil
	}
	reply.Data = data
	return nil
}

// WriteAt writes to a device.
func (s *Service) WriteAt(t *Transfer, reply *Reply) error {
	reply.Failure = failureOf(s.kernel.WriteAt(t.ID, t.Data, t.Offset))
	return nil
}
