package ports

import (
	"errors"
	"fmt"
	"io"
	"syscall"

	"github.com/berthd/berth/ipam"
)

// HostBinder binds sockets of this process, in its network namespace. The zero value is ready for use.
type HostBinder struct{}

var _ Binder = HostBinder{}

// Bind binds a socket on [::]:port, which takes 0.0.0.0:port with it, or on 0.0.0.0:port where the kernel has no IPv6.
func (HostBinder) Bind(protocol ipam.Protocol, number uint16) (io.Closer, error) {
	s, err := bind(protocol, number, alone)
	if errors.Is(err, syscall.EADDRINUSE) && protocol == ipam.TCP {
		// Connections of an earlier process may be in TIME_WAIT, which is no reason to refuse the port.
		s, err = bind(protocol, number, besideLingering)
	}
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, &InUseError{Protocol: protocol, Port: number, Err: err}
	}
	if err != nil {
		return nil, fmt.Errorf("cannot bind host port %d/%s: %w", number, protocol, err)
	}
	return s, nil
}

// socket is a bound file descriptor. A plain descriptor, because package net has no socket that is bound and does not
// listen.
type socket int

// Close closes the descriptor. It is called once.
func (s socket) Close() error { return syscall.Close(int(s)) }

func bind(protocol ipam.Protocol, number uint16, how func(socket, syscall.Sockaddr) error) (socket, error) {
	s, err := open(syscall.AF_INET6, protocol)
	var addr syscall.Sockaddr = &syscall.SockaddrInet6{Port: int(number)}
	if errors.Is(err, syscall.EAFNOSUPPORT) {
		s, err = open(syscall.AF_INET, protocol)
		addr = &syscall.SockaddrInet4{Port: int(number)}
	}
	if err != nil {
		return -1, err
	}
	if err := how(s, addr); err != nil {
		return -1, errors.Join(err, s.Close())
	}
	return s, nil
}

func open(family int, protocol ipam.Protocol) (socket, error) {
	kind := syscall.SOCK_STREAM
	if protocol == ipam.UDP {
		kind = syscall.SOCK_DGRAM
	}
	fd, err := syscall.Socket(family, kind|syscall.SOCK_CLOEXEC|syscall.SOCK_NONBLOCK, 0)
	if err != nil {
		return -1, err
	}
	s := socket(fd)
	// A datagram that reaches the host and not the container is read by nobody: keep as few as the kernel allows.
	err = s.set(syscall.SOL_SOCKET, syscall.SO_RCVBUF, 0)
	if err == nil && family == syscall.AF_INET6 {
		err = s.set(syscall.IPPROTO_IPV6, syscall.IPV6_V6ONLY, 0)
	}
	if err != nil {
		return -1, errors.Join(err, s.Close())
	}
	return s, nil
}

func (s socket) set(level, option, value int) error {
	return syscall.SetsockoptInt(int(s), level, option, value)
}

func alone(s socket, addr syscall.Sockaddr) error { return syscall.Bind(int(s), addr) }

// besideLingering binds also where connections are in TIME_WAIT. The option for it is taken back at once, so that nobody
// else can listen on the port on the strength of it.
func besideLingering(s socket, addr syscall.Sockaddr) error {
	if err := s.set(syscall.SOL_SOCKET, syscall.SO_REUSEADDR, 1); err != nil {
		return err
	}
	if err := syscall.Bind(int(s), addr); err != nil {
		return err
	}
	return s.set(syscall.SOL_SOCKET, syscall.SO_REUSEADDR, 0)
}
