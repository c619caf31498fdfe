package main

import (
	"fmt"
	"io"
	"log"
	"net"
	"strings"
)

// forwardTo has who connects to an address reach a unix socket, which need not be there yet: "ADDRESS=SOCKET".
func forwardTo(what string) error {
	address, socket, _ := strings.Cut(what, "=")
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return fmt.Errorf("forwarding to %s: %w", socket, err)
	}
	go func() {
		for {
			from, err := listener.Accept()
			if err != nil {
				log.Printf("forwarding to %s: %v", socket, err)
				return
			}
			to, err := net.Dial("unix", socket)
			if err != nil {
				_ = from.Close() // who has connected tries again
				continue
			}
			go pass(from, to)
			go pass(to, from)
		}
	}()
	return nil
}

// pass copies until one side ends, which ends both.
func pass(from, to net.Conn) {
	_, _ = io.Copy(to, from)
	_, _ = from.Close(), to.Close()
}
