package cli

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// containerdVersion asks containerd for its version: one unary gRPC call, which is an HTTP/2 request with five bytes in front of an
// empty message. The doctor has to work where nothing else does, and the command line has to start fast, so it does without the
// client library.
func containerdVersion(ctx context.Context, socket string) (string, error) {
	var protocols http.Protocols
	protocols.SetUnencryptedHTTP2(true)
	transport := &http.Transport{
		Protocols: &protocols,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "unix", socket)
		},
	}
	defer transport.CloseIdleConnections()
	const method = "http://containerd/containerd.services.version.v1.Version/Version"
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, method, bytes.NewReader(make([]byte, 5)))
	if err != nil {
		return "", fmt.Errorf("cannot ask containerd: %w", err)
	}
	req.Header.Set("Content-Type", "application/grpc")
	req.Header.Set("Te", "trailers")
	resp, err := transport.RoundTrip(req)
	if err != nil {
		return "", fmt.Errorf("cannot ask containerd: %w", err)
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 1<<16))
	if err != nil {
		return "", fmt.Errorf("cannot read answer of containerd: %w", err)
	}
	if status := resp.Trailer.Get("Grpc-Status"); status != "0" {
		return "", fmt.Errorf("containerd answers with status %q %s", status, resp.Trailer.Get("Grpc-Message"))
	}
	if len(body) < 5 {
		return "", errors.New("containerd answers without a message")
	}
	return firstString(body[5:])
}

// firstString reads field 1 of a protobuf message, which for VersionResponse is the version.
func firstString(message []byte) (string, error) {
	const fieldOneBytes = 1<<3 | 2
	if len(message) == 0 || message[0] != fieldOneBytes {
		return "", errors.New("containerd answers without a version")
	}
	size, n := binary.Uvarint(message[1:])
	if n <= 0 || size > uint64(len(message)-1-n) {
		return "", errors.New("containerd answers with half a version")
	}
	return string(message[1+n:][:size]), nil
}

// nftablesAnswer asks nf_tables for its generation: the smallest question there is, answered only if the kernel has it and lets us.
func nftablesAnswer() error {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_NETFILTER)
	if err != nil {
		return fmt.Errorf("cannot open netfilter socket: %w", err)
	}
	defer func() { _ = unix.Close(fd) }()
	timeout := unix.NsecToTimeval(time.Second.Nanoseconds())
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &timeout); err != nil {
		return fmt.Errorf("cannot set timeout of netfilter socket: %w", err)
	}
	// struct nlmsghdr {len, type, flags, seq, pid} and struct nfgenmsg {family, version, resource id}.
	msg := make([]byte, unix.SizeofNlMsghdr+4)
	binary.NativeEndian.PutUint32(msg[0:], uint32(len(msg)))
	binary.NativeEndian.PutUint16(msg[4:], unix.NFNL_SUBSYS_NFTABLES<<8|unix.NFT_MSG_GETGEN)
	binary.NativeEndian.PutUint16(msg[6:], unix.NLM_F_REQUEST)
	if err := unix.Sendto(fd, msg, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return fmt.Errorf("cannot ask nf_tables: %w", err)
	}
	answer := make([]byte, os.Getpagesize())
	n, _, err := unix.Recvfrom(fd, answer, 0)
	if err != nil {
		return fmt.Errorf("nf_tables does not answer: %w", err)
	}
	return netlinkError(answer[:n])
}

// netlinkError answers the error that a netlink message carries, if it is one.
func netlinkError(msg []byte) error {
	if len(msg) < unix.SizeofNlMsghdr+4 {
		return errors.New("nf_tables answers with half a message")
	}
	if binary.NativeEndian.Uint16(msg[4:]) != unix.NLMSG_ERROR {
		return nil
	}
	code := int32(binary.NativeEndian.Uint32(msg[unix.SizeofNlMsghdr:]))
	if code == 0 {
		return nil
	}
	return fmt.Errorf("the kernel has no usable nf_tables: %w", syscall.Errno(-code))
}
