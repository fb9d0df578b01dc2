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
	s, err := bind6(protocol, number, false)
	if errors.Is(err, syscall.EAFNOSUPPORT) || errors.Is(err, syscall.EADDRNOTAVAIL) {
		s, err = bind4(protocol, number, false)
	}
	if errors.Is(err, syscall.EADDRINUSE) && protocol == ipam.TCP {
		// Connections of an earlier process may be in TIME_WAIT, which is no reason to refuse the port.
		s, err = bind6(protocol, number, true)
		if errors.Is(err, syscall.EAFNOSUPPORT) || errors.Is(err, syscall.EADDRNOTAVAIL) {
			s, err = bind4(protocol, number, true)
		}
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

func bind6(protocol ipam.Protocol, number uint16, reuse bool) (socket, error) {
	s, err := open(syscall.AF_INET6, protocol)
	if err != nil {
		return -1, err
	}
	if err := syscall.SetsockoptInt(int(s), syscall.IPPROTO_IPV6, syscall.IPV6_V6ONLY, 0); err != nil {
		return -1, errors.Join(err, s.Close())
	}
	return bindTo(s, &syscall.SockaddrInet6{Port: int(number)}, reuse)
}

func bind4(protocol ipam.Protocol, number uint16, reuse bool) (socket, error) {
	s, err := open(syscall.AF_INET, protocol)
	if err != nil {
		return -1, err
	}
	return bindTo(s, &syscall.SockaddrInet4{Port: int(number)}, reuse)
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
	// A datagram that reaches the host and not the container is read by nobody: keep as few as the kernel allows.
	if err := syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_RCVBUF, 0); err != nil {
		return -1, errors.Join(err, syscall.Close(fd))
	}
	return socket(fd), nil
}

// bindTo binds. With reuse it also binds beside connections in TIME_WAIT; the option is taken back at once, so that
// nobody else can listen on the port on the strength of it.
func bindTo(s socket, addr syscall.Sockaddr, reuse bool) (socket, error) {
	set := func(v int) error { return syscall.SetsockoptInt(int(s), syscall.SOL_SOCKET, syscall.SO_REUSEADDR, v) }
	if reuse {
		if err := set(1); err != nil {
			return -1, errors.Join(err, s.Close())
		}
	}
	if err := syscall.Bind(int(s), addr); err != nil {
		return -1, errors.Join(err, s.Close())
	}
	if reuse {
		if err := set(0); err != nil {
			return -1, errors.Join(err, s.Close())
		}
	}
	return s, nil
}
