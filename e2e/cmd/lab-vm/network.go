package main

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"unsafe"

	"golang.org/x/sys/unix"
)

// configureNetwork gives a link its address and the way to everywhere else, and the machine its loopback. There is no ip(8) in the VM.
func configureNetwork(link string, address netip.Prefix, gateway netip.Addr) error {
	socket, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, 0)
	if err != nil {
		return fmt.Errorf("opening a socket: %w", err)
	}
	defer unix.Close(socket) //nolint:errcheck // nothing was written
	if err := errors.Join(
		setUp(socket, "lo"), // the kernel gives it its address
		setAddress(socket, unix.SIOCSIFADDR, link, address.Addr().AsSlice()),
		setAddress(socket, unix.SIOCSIFNETMASK, link, net.CIDRMask(address.Bits(), 32)),
		setUp(socket, link),
		addDefaultRoute(socket, gateway),
	); err != nil {
		return fmt.Errorf("configuring %s: %w", link, err)
	}
	return nil
}

func setAddress(socket int, request uint, link string, address []byte) error {
	r, err := unix.NewIfreq(link)
	if err != nil {
		return err
	}
	if err := r.SetInet4Addr(address); err != nil {
		return err
	}
	return unix.IoctlIfreq(socket, request, r)
}

func setUp(socket int, link string) error {
	r, err := unix.NewIfreq(link)
	if err != nil {
		return err
	}
	r.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	return unix.IoctlIfreq(socket, unix.SIOCSIFFLAGS, r)
}

// route is the kernel's struct rtentry.
type route struct {
	_                          uintptr
	destination, gateway, mask unix.RawSockaddrInet4
	flags                      uint16
	_                          int16
	_, _                       uintptr
	metric                     int16
	device                     uintptr
	mtu, window                uintptr
	initialRoundTripTime       uint16
}

func addDefaultRoute(socket int, gateway netip.Addr) error {
	any4 := unix.RawSockaddrInet4{Family: unix.AF_INET}
	via := any4
	via.Addr = gateway.As4()
	r := route{destination: any4, mask: any4, gateway: via, flags: unix.RTF_UP | unix.RTF_GATEWAY}
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(socket), unix.SIOCADDRT, uintptr(unsafe.Pointer(&r))); errno != 0 {
		return fmt.Errorf("adding the route over %s: %w", gateway, errno)
	}
	return nil
}
